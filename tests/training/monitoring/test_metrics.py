import pytest
import torch
from torch import Tensor
from torch.utils.flop_counter import FlopCounterMode

from tests.metrics import step_counts
from training.config import ModelConfig
from training.models.heads import LanguageModel, Verifier
from training.models.parts import Attention
from training.models.shape import ModelShape
from training.monitoring import metrics, names
from training.monitoring.metrics import Goodput, StepSeconds, StepTimer, Throughput

PHI_1B3 = ModelConfig()
PHI_125M = ModelConfig(hidden_size=768, num_layers=12, num_heads=12, ffn_size=3072)


@pytest.mark.parametrize(
    ("model", "expected", "surplus"),
    [
        # By hand: blocks 24 x 12 x 2048^2, head 51200 x 2048, 97 of 150 tokens supervised.
        (PHI_1B3, 6 * (1_207_959_552 + 97 / 150 * 104_857_600) + 12 * 24 * 2048 * 75.5, 0.029),
        (PHI_125M, 6 * (84_934_656 + 97 / 150 * 39_321_600) + 12 * 12 * 768 * 75.5, 0.124),
    ],
)
def test_flops_of_a_token_of_150_token_examples(
    model: ModelConfig, expected: float, surplus: float
) -> None:
    counts = step_counts([150] * 40, supervised=97 * 40, capacity_tokens=6144)
    found = metrics.step_flops(model, counts) / counts.tokens
    assert found == pytest.approx(expected, rel=1e-12)
    # A head counted at every token would be this much too many.
    whole = step_counts([150] * 40, supervised=150 * 40, capacity_tokens=6144)
    more = metrics.step_flops(model, whole) / counts.tokens / found - 1
    assert more == pytest.approx(surplus, abs=1e-3)


def _attention_of_attended_keys_only(lengths: list[int]) -> Attention:
    """Causal attention within documents, a product per token: no masked key is multiplied."""

    def attend(layer: int, query: Tensor, key: Tensor, value: Tensor) -> Tensor:
        rows: list[Tensor] = []
        for row in range(query.shape[0]):
            found: list[Tensor] = []
            start = 0
            for length in lengths:
                for last in range(start, start + length):
                    keys, values = (part[row, start : last + 1] for part in (key, value))
                    logits = torch.bmm(query[row, last].unsqueeze(1), keys.permute(1, 2, 0))
                    found.append(torch.bmm(logits.softmax(-1), values.transpose(0, 1)).squeeze(1))
                start += length
            rows.append(torch.stack(found))
        return torch.stack(rows)

    return attend


@pytest.mark.parametrize(
    ("head", "kind"), [("language_model", LanguageModel), ("verifier", Verifier)]
)
@pytest.mark.parametrize("every", [1, 3])
def test_flops_are_those_that_torch_counts_in_both_passes(
    head: str, kind: type[LanguageModel] | type[Verifier], every: int
) -> None:
    sizes = {"hidden_size": 16, "num_layers": 2, "num_heads": 2, "ffn_size": 24, "vocab_size": 300}
    lengths, num_rows = [3, 5, 4], 2
    num_tokens = sum(lengths)
    model = kind(ModelShape.from_settings(sizes | {"max_tokens": 16}))
    tokens = torch.zeros((num_rows, num_tokens), dtype=torch.long)
    positions = torch.cat([torch.arange(length) for length in lengths]).expand(num_rows, -1)
    at = torch.arange(0, num_rows * num_tokens, every)
    with FlopCounterMode(display=False) as counter:
        model(tokens, positions, _attention_of_attended_keys_only(lengths), at=at).sum().backward()
    counts = step_counts(lengths * num_rows, supervised=len(at), capacity_tokens=tokens.numel())
    config = ModelConfig.model_validate({**sizes, "head": head})
    assert metrics.step_flops(config, counts) == counter.get_total_flops()


@pytest.mark.parametrize(
    ("name", "teraflops"),
    [
        ("NVIDIA A100-SXM4-80GB", 312.0),
        ("NVIDIA A100-PCIE-40GB", 312.0),
        ("NVIDIA H100 80GB HBM3", 989.4),
        ("NVIDIA H100 PCIe", 756.0),
        ("NVIDIA H100 NVL", 835.5),
        ("NVIDIA H200", 989.4),
        ("NVIDIA H200 NVL", 835.5),
        ("NVIDIA GH200 480GB", 989.4),
        ("NVIDIA H800", 989.4),
        ("NVIDIA H800 PCIe", 756.0),
        ("NVIDIA B200", 2250.0),
        ("NVIDIA B300 SXM6 AC", 2250.0),
        ("NVIDIA GB200", 2500.0),
        ("NVIDIA GB300", 2500.0),
        ("NVIDIA L4", 121.0),
        ("NVIDIA L40S", 362.05),
        ("NVIDIA A10G", 70.0),
        ("Tesla V100-SXM2-32GB", 125.0),
        ("NVIDIA GeForce RTX 4090", 165.2),
        ("NVIDIA GeForce RTX 3090", 71.0),
        ("AMD Instinct MI300X", 1307.4),
    ],
)
def test_peaks_of_known_devices(name: str, teraflops: float) -> None:
    assert metrics.peak_flops(name) == teraflops * 1e12


@pytest.mark.parametrize(
    "name",
    [
        "NVIDIA H100 80GB HBM3 MIG 1g.10gb",  # a seventh of the device whose name it has
        "NVIDIA GeForce RTX 4090 Laptop GPU",
        "NVIDIA GeForce RTX 3090 Ti",
        "NVIDIA A100X",
        "Some Accelerator 9000",
        "",
    ],
)
def test_an_unknown_device_has_no_peak(name: str) -> None:
    assert metrics.peak_flops(name) is None


def test_mfu_counts_real_tokens_on_all_devices() -> None:
    model = ModelConfig(hidden_size=8, num_layers=2, num_heads=2, ffn_size=16, vocab_size=300)
    throughput = Throughput(model=model, num_devices=4, peak_flops=1e6)
    counts = step_counts([2, 4], supervised=3, capacity_tokens=8)
    assert (counts.tokens, counts.keys) == (6, 3 + 10)
    found = throughput.metrics(counts, StepSeconds(step=2.0, data_wait=0.5))
    blocks = 2 * (4 * 8 * 8 + 2 * 8 * 16)
    flops = 6 * blocks * 6 + 6 * 8 * 300 * 3 + 12 * 2 * 8 * 13
    assert found[names.TOKENS_PER_SECOND] == 3.0
    assert found[names.MFU] == pytest.approx(flops / 2.0 / 4e6)
    assert found[names.PADDING_FRACTION] == 0.25
    assert (found[names.TIME_STEP], found[names.TIME_DATA_WAIT]) == (2.0, 0.5)


def test_an_unknown_device_logs_no_mfu() -> None:
    throughput = Throughput.from_config(PHI_1B3, device=torch.device("cpu"), num_devices=2)
    found = throughput.metrics(
        step_counts([5], supervised=2, capacity_tokens=8),
        StepSeconds(step=1.0, data_wait=0.0),
    )
    assert names.MFU not in found
    assert metrics.mfu(1.0, 1.0, peak_flops=None) is None


def test_a_lap_holds_its_waiting_and_no_evaluation() -> None:
    now = 100.0
    timer = StepTimer(clock=lambda: now)
    with timer.waiting():
        now += 0.25
    now += 1.0
    with timer.waiting():
        now += 0.25
    assert timer.lap() == StepSeconds(step=1.5, data_wait=0.5)
    now += 60.0
    timer.restart()
    now += 2.0
    assert timer.lap() == StepSeconds(step=2.0, data_wait=0.0)


def test_the_console_line_has_a_fixed_order() -> None:
    values = {
        names.MEMORY_PEAK_GIB: 12.345,
        names.TIME_STEP: 0.5214,
        names.TOKENS_PER_SECOND: 12345.6,
        names.LEARNING_RATE: 3e-4,
        names.LOSS: 2.10344,
    }
    line = metrics.step_line(20, 4000, values)
    assert line == (
        "step 20/4,000 | loss 2.1034 | lr 3.00e-04 | 12,346 tokens/s | 0.521 s | 12.35 GiB"
    )
    values |= {names.MFU: 0.4123, names.GRAD_NORM: 0.8125}
    assert metrics.step_line(20, 4000, values) == (
        "step 20/4,000 | loss 2.1034 | grad norm 0.812 | lr 3.00e-04 | 12,346 tokens/s | "
        "MFU 41.2% | 0.521 s | 12.35 GiB"
    )


def test_goodput_is_counted_over_all_attempts() -> None:
    first = Goodput(first_start=1000.0)
    for _ in range(4):
        first.count(10.0)
    saved = first.state()
    first.count(10.0)  # a step the crash undoes: it is in no checkpoint
    second = Goodput.from_state(saved)
    second.count(10.0)
    assert second.fraction(now=1100.0) == 0.5
    assert Goodput.from_state({}).fraction() == 0.0
    assert all(isinstance(value, float) for value in saved.values())


def test_peak_memory_of_a_cpu_process_is_what_it_held() -> None:
    before = metrics.peak_memory_gib(torch.device("cpu"))
    assert 0.01 < before < 1_000
    held = torch.ones(2**28, dtype=torch.uint8)
    assert metrics.peak_memory_gib(torch.device("cpu")) >= before
    del held
