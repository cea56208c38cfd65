"""Small tokenizers in the forms of known models: their steps, special tokens and templates.

    folder = write("qwen", tmp_path)          # a folder as the hub has it

Each is trained on a few texts, as no hub is needed that way.
"""

import json
from pathlib import Path
from typing import Any

from tokenizers import AddedToken, Regex, decoders, normalizers, pre_tokenizers, processors
from tokenizers import Tokenizer as FastTokenizer
from tokenizers.models import BPE
from tokenizers.trainers import BpeTrainer

QUESTION = "Ann has 3 apples and buys 4. How many are there?"
PROGRAM = "    apples = 3\n    if apples > 1:\n        apples += 4\n    return apples"
_TEXTS = [QUESTION, PROGRAM, "user assistant system You are a helpful assistant."] * 20

_QWEN_SPLIT = (
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n]*"
    r"|\s*[\r\n]+|\s+(?!\S)|\s+"
)
QWEN_TEMPLATE = """\
{%- if messages[0]['role'] == 'system' %}
    {{- '<|im_start|>system\\n' + messages[0]['content'] + '<|im_end|>\\n' }}
{%- else %}
    {{- '<|im_start|>system\\nYou are a helpful assistant.<|im_end|>\\n' }}
{%- endif %}
{%- for message in messages %}
    {%- if message.role == "assistant" %}
        {%- generation %}{{ message.content }}{% endgeneration %}
    {%- else %}
        {{- '<|im_start|>' + message.role + '\\n' + message.content + '<|im_end|>' + '\\n' }}
    {%- endif %}
{%- endfor %}
{%- if add_generation_prompt %}
    {{- '<|im_start|>assistant\\n' }}
{%- endif %}
"""
LLAMA_2_TEMPLATE = """\
{{ bos_token }}{% for message in messages %}
{% if message['role'] == 'user' %}{{ '[INST] ' + message['content'].strip() + ' [/INST]' }}\
{% elif message['role'] == 'assistant' %}{{ ' ' + message['content'] + eos_token }}\
{% else %}{{ raise_exception('only users and assistants') }}{% endif %}
{% endfor %}
"""
LLAMA_3_TEMPLATE = """\
{{- bos_token }}
{%- if not date_string is defined %}
    {%- if strftime_now is defined %}
        {%- set date_string = strftime_now("%d %b %Y") %}
    {%- else %}
        {%- set date_string = "26 Jul 2024" %}
    {%- endif %}
{%- endif %}
{{- "<|start_header_id|>system<|end_header_id|>\\n\\nToday Date: " + date_string + "<|eot_id|>" }}
{%- set ns = namespace(count=0) %}
{%- for message in messages %}
    {%- set ns.count = ns.count + 1 %}
    {{- '<|start_header_id|>' + message['role'] + '<|end_header_id|>\\n\\n' }}
    {{- message['content'] | trim + '<|eot_id|>' }}
{%- endfor %}
{%- if add_generation_prompt %}
    {{- '<|start_header_id|>assistant<|end_header_id|>\\n\\n' }}
{%- endif %}
"""


def write(form: str, folder: Path) -> Path:
    """Write the tokenizer of a form: `qwen`, `llama_2` (and TinyLlama), `llama_3` or `smollm`."""
    made, config, generation = _FORMS[form]()
    folder.mkdir(parents=True, exist_ok=True)
    made.save(str(folder / "tokenizer.json"))
    if form == "llama_3":  # as newer repositories have it
        (folder / "chat_template.jinja").write_text(config.pop("chat_template"))
    config["tokenizer_class"] = "PreTrainedTokenizerFast"
    (folder / "tokenizer_config.json").write_text(json.dumps(config))
    if generation:
        ids = [made.token_to_id(token) for token in generation]
        (folder / "generation_config.json").write_text(json.dumps({"eos_token_id": ids}))
    return folder


def write_wide(folder: Path) -> Path:
    """A byte-level tokenizer all of whose ids but the end's are above 65,535."""
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    unused = {f"<unused {number}>": number for number in range(66_000)}
    vocabulary = unused | {token: 66_000 + i for i, token in enumerate(alphabet)}
    made = FastTokenizer(BPE(vocabulary, []))
    made.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    made.decoder = decoders.ByteLevel()
    made.add_special_tokens(["<|endoftext|>"])
    folder.mkdir(parents=True, exist_ok=True)
    made.save(str(folder / "tokenizer.json"))
    return folder


def _byte_level(special: list[str], split: str) -> FastTokenizer:
    made = FastTokenizer(BPE())
    made.pre_tokenizer = pre_tokenizers.Sequence(
        [
            pre_tokenizers.Split(Regex(split), behavior="isolated"),
            pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False),
        ]
    )
    made.decoder = decoders.ByteLevel()
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    made.train_from_iterator(
        _TEXTS, BpeTrainer(vocab_size=400, initial_alphabet=alphabet, show_progress=False)
    )
    made.add_special_tokens([AddedToken(text, normalized=False, special=True) for text in special])
    return made


def _qwen() -> tuple[FastTokenizer, dict[str, Any], list[str]]:
    made = _byte_level(["<|endoftext|>", "<|im_start|>", "<|im_end|>"], _QWEN_SPLIT)
    made.normalizer = normalizers.NFC()
    config = {
        "add_bos_token": False,
        "bos_token": None,
        "eos_token": "<|im_end|>",
        "pad_token": "<|endoftext|>",
        "chat_template": QWEN_TEMPLATE,
    }
    return made, config, ["<|im_end|>", "<|endoftext|>"]


def _llama_3() -> tuple[FastTokenizer, dict[str, Any], list[str]]:
    names = ["begin_of_text", "end_of_text", "start_header_id", "end_header_id", "eot_id"]
    made = _byte_level(
        [f"<|{name}|>" for name in names], _QWEN_SPLIT.replace(r"\p{N}|", r"\p{N}{1,3}|")
    )
    first = "<|begin_of_text|>"
    made.post_processor = processors.TemplateProcessing(
        single=f"{first} $A", special_tokens=[(first, made.token_to_id(first))]
    )
    config = {"bos_token": first, "eos_token": "<|eot_id|>", "chat_template": LLAMA_3_TEMPLATE}
    return made, config, ["<|end_of_text|>", "<|eot_id|>"]


def _llama_2() -> tuple[FastTokenizer, dict[str, Any], list[str]]:
    special = ["<unk>", "<s>", "</s>"]
    made = FastTokenizer(BPE(unk_token="<unk>", byte_fallback=True, fuse_unk=True))
    made.normalizer = normalizers.Sequence(
        [normalizers.Prepend("\u2581"), normalizers.Replace(" ", "\u2581")]
    )
    bytes_ = [f"<0x{number:02X}>" for number in range(256)]
    lines = [line for text in _TEXTS for line in text.splitlines()]  # a line break is a byte
    made.train_from_iterator(
        lines,
        BpeTrainer(vocab_size=600, special_tokens=[*special, *bytes_], show_progress=False),
    )
    content = json.loads(made.to_str())  # the bytes are plain tokens
    content["added_tokens"] = [one for one in content["added_tokens"] if one["content"] in special]
    made = FastTokenizer.from_str(json.dumps(content))
    made.decoder = decoders.Sequence(
        [
            decoders.Replace("\u2581", " "),
            decoders.ByteFallback(),
            decoders.Fuse(),
            decoders.Strip(" ", 1, 0),
        ]
    )
    made.post_processor = processors.TemplateProcessing(
        single="<s> $A", special_tokens=[("<s>", made.token_to_id("<s>"))]
    )
    config = {
        "bos_token": {"__type": "AddedToken", "content": "<s>", "special": True},
        "eos_token": {"__type": "AddedToken", "content": "</s>", "special": True},
        "unk_token": "<unk>",
        "pad_token": None,
        "chat_template": LLAMA_2_TEMPLATE,
    }
    return made, config, ["</s>"]


def _metaspace() -> tuple[FastTokenizer, dict[str, Any], list[str]]:
    """Llama 2's in the newer form: a pre-tokenizer puts the space before the first word."""
    made, config, generation = _llama_2()
    made.normalizer = None  # pyright: ignore[reportAttributeAccessIssue]
    made.pre_tokenizer = pre_tokenizers.Metaspace("\u2581", prepend_scheme="first", split=False)
    return made, config, generation


def _smollm() -> tuple[FastTokenizer, dict[str, Any], list[str]]:
    made = _byte_level(["<|endoftext|>", "<|im_start|>", "<|im_end|>"], r"\p{N}")
    made.pre_tokenizer = pre_tokenizers.Sequence(
        [
            pre_tokenizers.Digits(individual_digits=True),
            pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=True),
        ]
    )
    config = {
        "bos_token": "<|im_start|>",
        "eos_token": "<|im_end|>",
        "pad_token": "<|im_end|>",
        "unk_token": "<|endoftext|>",
        "chat_template": [{"name": "default", "template": QWEN_TEMPLATE}],
    }
    return made, config, []


_FORMS = {
    "qwen": _qwen,
    "llama_2": _llama_2,
    "metaspace": _metaspace,
    "llama_3": _llama_3,
    "smollm": _smollm,
}
FORMS = tuple(_FORMS)
