import pytest
import torch

from training import metrics
from training.config import ModelConfig
from training.metrics import Goodput, StepCounts, StepSeconds, StepTimer, Throughput
from training.models.heads import LanguageModel, Verifier
from training.models.phi import PhiShape

PHI_1B3 = ModelConfig()


def test_flops_of_the_1b3_shape_on_150_token_examples() -> None:
    parameters = metrics.matmul_parameters(PHI_1B3)
    assert parameters == 1_418_270_720 - 51_200 * 2_048
    keys = metrics.mean_keys_attended([150] * 40)
    assert keys == 75.5
    flops = metrics.flops_per_token(parameters, PHI_1B3.num_layers, PHI_1B3.hidden_size, keys)
    assert flops == pytest.approx(7.925e9, rel=1e-5)


@pytest.mark.parametrize(
    ("head", "kind"), [("language_model", LanguageModel), ("verifier", Verifier)]
)
def test_matmul_parameters_are_those_of_the_model_without_its_embedding(
    head: str, kind: type[torch.nn.Module]
) -> None:
    sizes = {"hidden_size": 64, "num_layers": 3, "num_heads": 4, "ffn_size": 96, "vocab_size": 512}
    config = ModelConfig.model_validate({**sizes, "head": head})
    with torch.device("meta"):
        model = kind(PhiShape(**sizes, max_tokens=128))
    total = sum(parameter.numel() for parameter in model.parameters())
    assert metrics.matmul_parameters(config) == total - 512 * 64


def test_mean_keys_weighs_documents_by_their_tokens() -> None:
    assert metrics.mean_keys_attended([1, 3]) == (1 + 1 + 2 + 3) / 4
    assert metrics.mean_keys_attended([]) == 0.0


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
        ("NVIDIA B200", 2250.0),
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
    throughput = Throughput(
        matmul_parameters=1_000, num_layers=2, hidden_size=10, num_devices=4, peak_flops=1e6
    )
    counts = StepCounts.of([2, 4], capacity_tokens=8)
    assert (counts.tokens, counts.keys) == (6, 3 + 10)
    found = throughput.metrics(counts, StepSeconds(step=2.0, data_wait=0.5))
    flops = 6 * 1_000 + 12 * 2 * 10 * 13 / 6
    assert found[metrics.TOKENS_PER_SECOND] == 3.0
    assert found[metrics.MFU] == pytest.approx(flops * 3.0 / 4e6)
    assert found[metrics.PADDING_FRACTION] == 0.25
    assert (found[metrics.TIME_STEP], found[metrics.TIME_DATA_WAIT]) == (2.0, 0.5)


def test_an_unknown_device_logs_no_mfu() -> None:
    throughput = Throughput.of(PHI_1B3, device=torch.device("cpu"), num_devices=2)
    found = throughput.metrics(
        StepCounts.of([5], capacity_tokens=8), StepSeconds(step=1.0, data_wait=0.0)
    )
    assert metrics.MFU not in found
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


def test_goodput_is_counted_over_all_lives() -> None:
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
