"""The GPU suite at toy size on the CPU: what runs here runs the first time it meets a GPU."""

import json
import os
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from torch._C._autograd import DeviceType

from tests.bench.gpu import table
from tests.bench.gpu.__main__ import FIRST_LOOK, LIMIT_SECONDS, main
from tests.bench.gpu.expected import EXPECTED, beside_expected, ceilings_of
from tests.bench.gpu.profiling import kind_of, of_device
from tests.bench.gpu.sequences import counts, labels_in_place, micro_batches
from tests.bench.gpu.setting import ROOT, Setting
from tests.bench.gpu.train import FULL, Variant, measure

TOY = Setting(device=torch.device("cpu"), toy=True)

_HIDDEN = """
import runpy, sys
for name in ("deepspeed", "megatron", "megatron.core", "wandb", "accelerate"):
    sys.modules[name] = None
sys.argv = ["gpu", *sys.argv[1:]]
runpy.run_module("tests.bench.gpu", run_name="__main__")
"""

_TOGETHER = """
import os, sys
from pathlib import Path
import torch
from tests.bench.gpu.__main__ import LIMIT_SECONDS, run_part
from tests.bench.gpu.setting import Setting
before = dict(os.environ)
for name in LIMIT_SECONDS:
    run_part(name, Setting(device=torch.device("cpu"), toy=True), Path(sys.argv[1], f"{name}.json"))
    os.environ.clear()
    os.environ.update(before)
"""


def suite(
    *arguments: str | Path, program: tuple[str, ...] = ("-m", "tests.bench.gpu")
) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, *program, *map(str, arguments)],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=570,
        env={**os.environ, "CUDA_VISIBLE_DEVICES": "", "OMP_NUM_THREADS": "1"},
    )


def read(path: Path) -> dict[str, Any]:
    return json.loads(path.read_text(encoding="utf-8"))


def parts_in_one_process(folder: Path) -> dict[str, Any]:
    """Every part as the suite runs it, but with the packages imported once."""
    run = suite(folder, program=("-c", _TOGETHER))
    assert run.returncode == 0, run.stdout + run.stderr
    return {name: read(folder / f"{name}.json") for name in LIMIT_SECONDS}


def test_every_part_runs(tmp_path: Path) -> None:
    parts = parts_in_one_process(tmp_path)
    for name, part in parts.items():
        assert part["rows"], name
        assert not any("error" in row for row in part["rows"]), (name, part)
    checks = [row for part in parts.values() for row in part["rows"] if "passed" in row]
    # Losses and attention, greedy tokens, three collectives, the resume's states and losses.
    assert len(checks) == 6 + 1 + 3 + 2 and all(row["passed"] for row in checks)
    train = parts["train"]["rows"]
    assert {row["engine"] for row in train} == {"deepspeed", "plain"}
    for row in train:
        # A CPU's peak is not known: no utilisation, rather than a guess.
        assert row["mfu"] is None
        assert (row["planned_gib"] is not None) == (row["engine"] == "deepspeed")
    waits = {row["variant"]: row["host_waits"] for row in train if row["engine"] == "deepspeed"}
    assert waits["16 sequences, losses read last"] == waits["16 sequences"] - 1
    assert 0 < parts["sample"]["rows"][1]["occupancy"] <= 1
    assert parts["resume"]["rows"][1]["equal_to_the_bit"]
    for name in ("train_peer", "sample_peer"):
        ours, *theirs = parts[name]["rows"]
        assert "ours_is_faster_by" not in ours and theirs
        assert all(row["ours_is_faster_by"] > 0 for row in theirs)


def test_a_result_names_where_it_was_made_and_can_be_shown_again(tmp_path: Path) -> None:
    out = tmp_path / "gpu.json"
    run = suite("--toy", "--only", "collectives,score", "--out", out)
    assert run.returncode == 0, run.stdout + run.stderr
    assert "collectives: ok" in run.stdout and "score: ok" in run.stdout
    result = read(out)
    assert result["toy"] and result["device"]["kind"] == "cpu"
    assert result["versions"]["torch"] == torch.__version__
    assert "--toy" in result["command"] and result["date"]
    shown = suite("--show", out).stdout
    assert "TOY SIZES, cpu" in shown and shown.count("\n| ---") == 2


def test_parts_fit_the_time_they_have() -> None:
    assert sum(LIMIT_SECONDS.values()) <= 9 * 60
    assert sum(LIMIT_SECONDS[name] for name in FIRST_LOOK) <= 2 * 60
    names = list(LIMIT_SECONDS)
    assert names[-2:] == ["train_peer", "sample_peer"], "ours is recorded before the peers"


@pytest.mark.slow
@pytest.mark.parametrize("name", ["train", "train_profile", "resume", "train_peer"])
def test_without_what_a_gpu_machine_may_lack(name: str, tmp_path: Path) -> None:
    out = tmp_path / "part.json"
    run = suite("--part", name, "--toy", "--out", out, program=("-c", _HIDDEN))
    assert run.returncode == 0, run.stdout + run.stderr
    found = read(out)
    assert "deepspeed" not in {row.get("engine") for row in found["rows"]}
    assert found["rows"] and not any("error" in row for row in found["rows"])
    if name in ("train", "resume"):
        assert any("deepspeed is not installed" in note for note in found["notes"])


@pytest.mark.slow
def test_a_compiled_variant_trains() -> None:
    variant = Variant(name="compiled", shape="125m", micro_batch_sequences=2, compiled=True)
    found, _ = measure(TOY, variant, "plain")
    assert found["last_loss"] < found["first_loss"]


@pytest.mark.slow
def test_a_part_that_fails_is_reported_and_the_next_still_runs(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "sitecustomize.py").write_text(
        "import sys\nsys.modules['training.evaluation.generate'] = None\n"
    )
    monkeypatch.setenv("PYTHONPATH", f"{tmp_path}{os.pathsep}{os.environ.get('PYTHONPATH', '')}")
    out = tmp_path / "gpu.json"
    run = suite("--toy", "--only", "sample,ceilings", "--out", out)
    assert run.returncode == 1
    parts = read(out)["parts"]
    assert parts["sample"]["status"] == "error"
    assert "training.evaluation.generate" in parts["sample"]["error"]
    assert parts["ceilings"]["status"] == "ok"


@pytest.mark.skipif(torch.cuda.is_available(), reason="says what happens without CUDA")
def test_full_sizes_are_refused_on_a_cpu(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(sys, "argv", ["gpu"])
    assert main() == 2
    assert "--toy" in capsys.readouterr().err


def test_an_unknown_part_is_named(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(sys, "argv", ["gpu", "--only", "trian"])
    with pytest.raises(SystemExit, match="2"):
        main()
    assert "'trian' is none of ceilings" in capsys.readouterr().err


@pytest.mark.parametrize("toy", [True, False])
def test_sequences_are_packed_and_supervised_like_the_recipe(toy: bool) -> None:
    setting = Setting(device=torch.device("cpu"), toy=toy)
    config = setting.config("1b3")
    batches = micro_batches(setting, config, count=4, sequences=4)
    assert len(batches) == 4
    num_examples, found = sum(batch.num_examples for batch in batches), counts(batches)
    assert abs(found.tokens / num_examples / setting.document_tokens - 1) < 0.15
    assert abs(found.supervised / found.tokens - 0.45) < 0.02
    for batch in batches:
        real = batch.document_ids >= 0
        assert real.float().mean() > 0.95
        following = batch.supervised + 1
        assert torch.equal(batch.labels, batch.tokens.flatten()[following])
        ids = batch.document_ids.flatten()
        assert torch.equal(ids[batch.supervised], ids[following])
        in_place = labels_in_place(batch).flatten()
        assert torch.equal(in_place[following], batch.labels)
        assert (in_place >= 0).sum() == len(batch.labels)


def _event(name: str, begin: float, end: float, *, on_gpu: bool = True) -> Any:
    return SimpleNamespace(
        name=name,
        time_range=SimpleNamespace(start=begin, end=end),
        device_type=DeviceType.CUDA if on_gpu else DeviceType.CPU,
        is_user_annotation=name == "Optimizer.step",
    )


def test_a_gpus_profile_has_kernels_launches_waits_and_gaps() -> None:
    found = of_device(
        [
            _event("nvjet_hsh_128x256", 0, 40),
            _event("flash_bwd_kernel", 50, 70),
            _event("ncclDevKernel_AllReduce", 65, 80),  # on another stream
            _event("nvjet_hsh_128x256", 90, 100),
            _event("Optimizer.step", 0, 100),
            _event("cudaLaunchKernel", 0, 1, on_gpu=False),
            _event("cudaLaunchKernelExC", 1, 2, on_gpu=False),
            _event("cuLaunchKernel", 1, 2, on_gpu=False),
            _event("cudaStreamSynchronize", 2, 50, on_gpu=False),
            _event("cudaMemcpyAsync", 2, 50, on_gpu=False),
        ]
    )
    assert found.kernels["nvjet_hsh_128x256"] == (2, pytest.approx(50e-6))
    assert found.launches == 3
    assert found.waits == {"cudaStreamSynchronize": 1}
    assert found.span_seconds == pytest.approx(100e-6)
    assert found.idle_seconds == pytest.approx(20e-6)
    assert list(found.kinds()) == ["products", "attention", "collectives"]


@pytest.mark.parametrize(
    ("kernel", "kind"),
    [
        ("pytorch_flash::flash_fwd_kernel<...cutlass...>", "attention"),
        ("sm90_xmma_gemm_bf16bf16_bf16f32", "products"),
        ("Memcpy DtoD (Device -> Device)", "copies"),
        ("multi_tensor_apply_kernel<...FusedAdamMathFunctor...>", "optimizer"),
        ("vectorized_elementwise_kernel<4, at::native::CUDAFunctor_add>", "other"),
    ],
)
def test_kernels_have_a_kind(kernel: str, kind: str) -> None:
    assert kind_of(kernel) == kind


def test_rows_stand_beside_what_was_expected_and_the_measured_ceilings() -> None:
    measured = [{"what": "cube", "tflops": 700.0}, {"what": "fc1", "tflops": 600.0}]
    rows = [{"variant": "16 sequences", "mfu": 0.4, "model_tflops": 350.0}]
    (row,) = beside_expected(
        "train", rows, ceilings=ceilings_of(measured), device="NVIDIA H100 80GB HBM3"
    )
    assert row["expected"] == "0.44 to 0.46"
    assert row["of_ceiling"] == 0.5
    (row,) = beside_expected("train", rows, ceilings={}, device="NVIDIA H200")
    assert row["expected"] == "0.46 to 0.49" and "of_ceiling" not in row
    (row,) = beside_expected("train", rows, ceilings={}, device="NVIDIA A100")
    assert row == rows[0]
    names = {variant.name for variant in FULL}
    assert {each.row for each in EXPECTED if each.part == "train"} <= names


def test_tables() -> None:
    rows = [{"what": "a", "rate": 12345.6, "mfu": None}, {"what": "bb", "passed": False}]
    assert table.plain(rows).splitlines()[1] == "a     12,346  -    -"
    assert table.markdown(rows).splitlines()[2] == "| a | 12,346 | - | - |"
