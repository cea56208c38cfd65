"""What preflight makes of the nodes' reports, and two real processes that measure a link."""

import sys
from pathlib import Path
from typing import Any

import pytest

from parallel.nodes.links import rounds, slow_pairs
from parallel.nodes.preflight import compare, node_name
from tests.ranks import run_ranks

PACKAGES = {"torch": "2.13.0", "python": "3.11.2"}


def report(node: str, **changes: Any) -> dict[str, Any]:
    well = {"node": node, "code": "c0de", "packages": PACKAGES, "problems": [], "skew": 0.0}
    return {**well, **changes}


def test_nodes_that_are_alike_have_no_problem() -> None:
    assert compare([report("a"), report("b"), report("c", skew=-1.5)]) == []


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"code": "0ther"}, "b has other code than most nodes (0ther, not c0de)"),
        (
            {"packages": {**PACKAGES, "torch": "2.12.0"}},
            "b has other packages than most nodes: torch 2.12.0, not 2.13.0",
        ),
        (
            {"packages": {"python": "3.11.2"}},
            "b has other packages than most nodes: torch absent, not 2.13.0",
        ),
        ({"skew": 4.04}, "b has a clock +4.0 s from the first node's"),
        ({"problems": ["shows 7 GPUs, 8 are wanted"]}, "b shows 7 GPUs, 8 are wanted"),
    ],
)
def test_the_node_that_differs_is_named(changes: dict[str, Any], message: str) -> None:
    (problem,) = compare([report("a"), report("b", **changes), report("c")])
    assert problem.startswith(message)


@pytest.mark.parametrize("num_nodes", [2, 3, 4, 7, 8])
def test_every_pair_meets_once_and_nobody_has_two_partners(num_nodes: int) -> None:
    schedule = rounds(num_nodes)
    for pairs in schedule:
        busy = [node for pair in pairs for node in pair]
        assert len(busy) == len(set(busy))
    met = [pair for pairs in schedule for pair in pairs]
    everyone = {(a, b) for b in range(num_nodes) for a in range(b)}
    assert len(met) == len(set(met)) and set(met) == everyone


def test_slow_pairs_are_named() -> None:
    speeds = {(0, 1): 20.0, (0, 2): 1.5}
    assert slow_pairs(["a", "b", "c"], speeds, 10.0) == [
        "a and c exchange 1.50 GiB/s, 10 are wanted"
    ]


def _preflight(num_nodes: int, folder: Path, *more: str) -> list[tuple[int, str, str]]:
    command = ["launch/preflight.py", "--folder", str(folder), "--mib-per-message", "4", *more]
    done = run_ranks(num_nodes, command, check=False, timeout=100)
    return [(one.returncode, one.stdout, one.stderr) for one in done]


def test_two_nodes_measure_their_link(tmp_path: Path) -> None:
    first, second = _preflight(2, tmp_path)
    assert (first[0], second[0]) == (0, 0), first[2] + second[2]
    assert f"  {node_name()} - {node_name()}: " in first[1]
    assert "all-reduce over 2 nodes" in first[1] and "2 nodes are fit" in first[1]
    assert not second[1] and not list(tmp_path.iterdir())


def test_what_is_missing_is_said_by_the_first_alone(tmp_path: Path) -> None:
    more = ("--gpus", "8", "--min-free-gib", "1e9")
    first, second = _preflight(2, tmp_path, *more)
    assert (first[0], second[0]) == (1, 0)
    assert first[2].count("shows 0 GPUs, 8 are wanted") == 2
    assert first[2].count("1e+09 are wanted: make room") == 2
    assert not second[2]


def test_a_folder_that_is_not_there_is_named_without_a_cluster(tmp_path: Path) -> None:
    ((code, _, errors),) = _preflight(1, tmp_path / "nowhere")
    assert code == 1 and f"does not see the run folder {tmp_path}/nowhere" in errors


@pytest.mark.skipif(sys.platform != "linux", reason="/proc is what nobody can write to")
def test_a_folder_that_cannot_be_written_to_is_reported() -> None:
    ((code, _, errors),) = _preflight(1, Path("/proc/self"))
    assert code == 1 and "cannot write to the run folder /proc/self" in errors
