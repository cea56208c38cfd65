"""The commands that README and docs/data.md show for one machine, run as they stand there.

Where there is no network, folders named as the hub ids take the place of the hub's data.
"""

import json
import re
import shlex
import shutil
import subprocess
import sys
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as parquet
import pytest

from tests.commands import ROOT, shown
from training.data.tokenizer import Tokenizer
from training.execution import programs

pytestmark = pytest.mark.slow

_SMALL = (
    "model.hidden_size=32 model.num_layers=1 model.num_heads=2 model.ffn_size=64 "
    "training.max_steps=2 training.global_batch_sequences=2 training.micro_batch_sequences=2 "
    "training.precision=fp32 optimizer.warmup_steps=1 evaluation.max_new_tokens=8 "
    "evaluation.benchmarks.0.num_questions=2"
).split()


def run(line: str, folder: Path, *overrides: str) -> str:
    """Run a command line that the documentation shows; returns what it printed."""
    name, *words = shlex.split(line, comments=True)
    command = str(Path(sys.executable).with_name(name))
    done = subprocess.run(
        [command, *words, *overrides], cwd=folder, capture_output=True, text=True, timeout=500
    )
    assert done.returncode == 0, f"{line}\n{done.stdout}\n{done.stderr}"
    return done.stdout + done.stderr


def section(page: str, heading: str) -> str:
    """The text below a heading, up to the next one of its level."""
    found = re.search(rf"^## {heading}\n(.*?)(?=^## |\Z)", (ROOT / page).read_text(), re.M | re.S)
    assert found is not None
    return found[1]


def stall(number: int) -> tuple[str, str, int]:
    """A question of docs/data.md's shop, its program and its answer."""
    boxes, per_box = 2 + number % 17, 3 + number % 7
    question = (
        f"Stand {number} sells {boxes} boxes with {per_box} apples each. How many apples are sold?"
    )
    program = f"    boxes = {boxes}\n    per_box = {per_box}\n    result = boxes * per_box\n"
    return question, program + "    return result", boxes * per_box


def test_the_readme_s_commands_for_one_gpu(tmp_path: Path) -> None:
    shutil.copytree(ROOT / "configs", tmp_path / "configs")
    texts = [programs.source(*stall(number)[:2]) for number in range(40)]
    Tokenizer.train(texts, vocab_size=300).save(tmp_path / "microsoft" / "phi-1_5")
    (tmp_path / "TinyGSM" / "TinyGSM").mkdir(parents=True)
    table = pa.table({"question": [stall(n)[0] for n in range(40)], "code": texts})
    parquet.write_table(table, tmp_path / "TinyGSM" / "TinyGSM" / "train-00000-of-00001.parquet")
    (tmp_path / "openai" / "gsm8k").mkdir(parents=True)
    for split, first in (("train", 100), ("test", 200)):
        rows = [
            {"question": f"Tom eats {n} pears and {n} figs. What is left?", "answer": f"#### {n}"}
            for n in range(first, first + 4)
        ]
        path = tmp_path / "openai" / "gsm8k" / f"{split}.jsonl"
        path.write_text("".join(json.dumps(row) + "\n" for row in rows))

    lines = [line for line in shown(section("README.md", "One GPU")) if line.startswith("tinygsm")]
    assert [line.split()[1] for line in lines] == ["prepare", "train", "train", "status"]
    prepared, planned, trained, status = (
        run(line, tmp_path, *([] if " status " in line else _SMALL)) for line in lines
    )
    assert "kept" in prepared
    assert "nothing was written or started" in planned
    assert "step 2/2" in trained
    assert "train: finished" in status


def test_the_worked_example_of_docs_data(tmp_path: Path) -> None:
    text = section("docs/data.md", "A worked example")
    config = re.search(r"^```toml\n(.*?)^```", text, re.M | re.S)
    assert config is not None
    (tmp_path / "shop.toml").write_text(config[1])
    rows = [dict(zip(("question", "program"), stall(n)[:2], strict=True)) for n in range(300)]
    (tmp_path / "shop.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    tests = [{"question": stall(n)[0], "answer": f"#### {stall(n)[2]}"} for n in range(900, 910)]
    (tmp_path / "shop_test.jsonl").write_text("".join(json.dumps(row) + "\n" for row in tests))

    printed = [run(line, tmp_path) for line in shown(text) if line.startswith("tinygsm")]
    assert len(printed) == 4
    assert "300" in printed[0]
    assert "«    boxes = " in printed[1] and "return result<end>»" in printed[1]
    assert "step 200/200" in printed[2]
    assert "train: finished" in printed[3]
