"""Check every node of a job before the ranks start, and report problems by node.

    problems = examine(Demands(folder=folder, num_gpus=8), ranks)      # launch/preflight.py

One process per node. Each inspects its own node and reports to rank 0 through a key-value store;
rank 0 compares: all nodes must see the same run folder, code and packages, have the disk space
and the GPUs, and synchronised clocks. Only then are they connected and the links between them
measured (parallel/nodes/links.py). A node that does not report is named as well.
"""

import hashlib
import json
import os
import shutil
import socket
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from datetime import timedelta
from importlib.metadata import distributions
from pathlib import Path
from typing import Any

import torch
from torch.distributed import (
    Store,  # pyright: ignore[reportPrivateImportUsage]
    TCPStore,  # pyright: ignore[reportPrivateImportUsage]
)

from parallel.nodes.links import measure
from parallel.ranks import Ranks, port_is_taken

ROOT = Path(__file__).parent.parent.parent
_FOLDERS = ("launch", "training", "parallel", "checkpoints", "slurm", "configs")
_SECONDS_TO_ARRIVE = 180.0
"""Python and torch from a cold shared file system take a minute or two."""
_SECONDS_OF_SKEW = 2.0
_SECONDS_TO_SEE_A_FILE = 60.0
"""Network file systems cache that a file is absent."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Demands:
    """What a node must have."""

    folder: Path
    """The run folder."""
    num_gpus: int = 0
    min_free_gib: float = 0.0
    min_gib_per_second: float = 0.0
    """Of the slowest pair of nodes; 0: no limit."""
    mib_per_message: int = 64
    """Size of the message that measures a link."""


@dataclass(kw_only=True, slots=True)
class NodeReport:
    """What one node reports about itself."""

    node: str
    code: str
    """A digest of the project's files."""
    packages: dict[str, str]
    free_gib: float
    num_gpus: int
    problems: list[str] = field(default_factory=list[str])


def node_name() -> str:
    """This node as Slurm calls it, or its host name."""
    return os.environ.get("SLURMD_NODENAME") or socket.gethostname()


def inspect_node(demands: Demands) -> NodeReport:
    """This node's own report; needs no other node."""
    problems: list[str] = []
    free_gib = _free_gib(demands.folder)
    if not demands.folder.is_dir():
        problems.append(
            f"does not see the run folder {demands.folder}: it must be on a file system that "
            "all nodes share"
        )
    elif not os.access(demands.folder, os.W_OK):
        problems.append(
            f"cannot write to the run folder {demands.folder}: it must be mounted for writing, "
            "and be this user's, on all nodes"
        )
    elif free_gib < demands.min_free_gib:
        problems.append(
            f"has {free_gib:.1f} GiB free below {demands.folder}, "
            f"{demands.min_free_gib:g} are wanted: make room, or lower TINYGSM_MIN_FREE_GIB"
        )
    num_gpus = torch.cuda.device_count()
    if num_gpus < demands.num_gpus:
        problems.append(f"shows {num_gpus} GPUs, {demands.num_gpus} are wanted")
    problems += _faulty_gpus(min(num_gpus, demands.num_gpus))
    return NodeReport(
        node=node_name(),
        code=code_digest(),
        packages=_packages(),
        free_gib=round(free_gib, 1),
        num_gpus=num_gpus,
        problems=problems,
    )


def examine(demands: Demands, ranks: Ranks) -> list[str]:
    """Examine all nodes, one process on each.

    Returns:
        On rank 0 one line per problem, with the node's name. On the other ranks nothing: if one
        exited with an error, the launcher would kill rank 0 before it has printed. A rank that
        cannot reach rank 0 returns its own problem.

    Raises:
        RuntimeError: a link, or the first node, failed meanwhile.
    """
    report = inspect_node(demands)
    if ranks.world_size == 1:
        return [f"{report.node} {problem}" for problem in report.problems]
    try:
        store = TCPStore(
            os.environ["MASTER_ADDR"],
            int(os.environ["MASTER_PORT"]),
            None,
            ranks.is_main,
            timeout=timedelta(seconds=_SECONDS_TO_ARRIVE),
            wait_for_workers=False,
        )
    except (RuntimeError, OSError) as error:
        if taken := port_is_taken(error):
            return [str(taken)]
        where = f"{os.environ['MASTER_ADDR']}:{os.environ['MASTER_PORT']}"
        return [
            f"{report.node} does not reach the first node at {where}: name resolution, a "
            f"firewall, or MASTER_ADDR in slurm/site.sh ({str(error).splitlines()[0]})"
        ]
    problems = _compare_nodes(store, demands, ranks, report)
    if problems is not None and not problems:
        problems = measure(
            store,
            ranks,
            node_name(),
            torch.device("cuda", 0) if demands.num_gpus else torch.device("cpu"),
            mib_per_message=demands.mib_per_message,
            min_gib_per_second=demands.min_gib_per_second,
        )
    # Rank 0 serves the store: it stays until the others have read the verdict.
    store.set(f"done/{ranks.rank}", "")
    if not ranks.is_main:
        return []
    _wait(store, [f"done/{rank}" for rank in range(ranks.world_size)], seconds=30.0)
    return problems or []


def _compare_nodes(
    store: Store, demands: Demands, ranks: Ranks, report: NodeReport
) -> list[str] | None:
    """The nodes' problems on rank 0; on the other ranks [], or None where there are problems."""
    token = demands.folder / f".preflight-{os.environ['MASTER_PORT']}"
    visible = demands.folder.is_dir()
    if not ranks.is_main:
        skew = _skew(store)
        if visible and not _sees(token, store.get("token").decode()):
            report.problems.append(
                f"sees another {demands.folder} than the first node does: it must be on a file "
                "system that all nodes share"
            )
        store.set(f"report/{ranks.rank}", json.dumps({**asdict(report), "skew": skew}))
        store.wait(["verdict"], timedelta(seconds=2 * _SECONDS_TO_ARRIVE))
        return None if json.loads(store.get("verdict")) else []
    try:
        content = os.urandom(8).hex()
        if visible:
            token.write_text(content)
        store.set("token", content)
        problems = _collect(store, ranks, {**asdict(report), "skew": 0.0})
    finally:
        token.unlink(missing_ok=True)
    store.set("verdict", json.dumps(problems))
    return problems


def _skew(store: Store) -> float:
    """Seconds that this node's clock is ahead of the first node's, up to a round trip.

    The best of three requests is the one with the shortest round trip.
    """
    tries: list[tuple[float, float]] = []
    for _ in range(3):
        before = time.time()
        request = store.add("ask", 1)
        theirs = float(store.get(f"time/{request}").decode())
        tries.append((time.time() - before, (before + time.time()) / 2 - theirs))
    return min(tries)[1]


def _collect(store: Store, ranks: Ranks, own: dict[str, Any]) -> list[str]:
    """Wait for all reports, serving requests for the time meanwhile, and compare them."""
    names, reports = _node_names(ranks.world_size), {0: own}
    deadline, answered = time.monotonic() + _SECONDS_TO_ARRIVE, 0
    while len(reports) < ranks.world_size and time.monotonic() < deadline:
        while store.add("ask", 0) > answered:
            answered += 1
            store.set(f"time/{answered}", str(time.time()))
        for rank in range(ranks.world_size):
            if rank not in reports and store.check([f"report/{rank}"]):
                reports[rank] = json.loads(store.get(f"report/{rank}"))
        time.sleep(0.002)
    problems = [
        f"{names[rank]} has not reported within {_SECONDS_TO_ARRIVE:.0f} s: it is down, or does "
        f"not reach {os.environ['MASTER_ADDR']}"
        for rank in range(ranks.world_size)
        if rank not in reports
    ]
    return problems + compare([reports[rank] for rank in sorted(reports)])


def compare(reports: Sequence[Mapping[str, Any]]) -> list[str]:
    """The problems of all nodes, one line each.

    Args:
        reports: `NodeReport`s as mappings, with `skew` in seconds against the first node.
    """
    problems: list[str] = []
    code = Counter(report["code"] for report in reports).most_common(1)[0][0]
    usual = _usual_packages(reports)
    for report in reports:
        found = list(report["problems"])
        if report["code"] != code:
            found.append(f"has other code than most nodes ({report['code'][:12]}, not {code[:12]})")
        packages = report["packages"]
        other = [
            f"{name} {packages.get(name, 'absent')}, not {usual.get(name, 'absent')}"
            for name in sorted(usual.keys() | packages.keys())
            if packages.get(name) != usual.get(name)
        ]
        if other:
            found.append(f"has other packages than most nodes: {'; '.join(other[:5])}")
        if abs(report["skew"]) > _SECONDS_OF_SKEW:
            found.append(
                f"has a clock {report['skew']:+.1f} s from the first node's "
                f"(at most {_SECONDS_OF_SKEW:g} s): its time service does not run"
            )
        problems += [f"{report['node']} {problem}" for problem in found]
    return problems


def _usual_packages(reports: Sequence[Mapping[str, Any]]) -> dict[str, str]:
    """The version of every package that most nodes have."""
    names = {name for report in reports for name in report["packages"]}
    votes = {name: Counter(report["packages"].get(name) for report in reports) for name in names}
    usual = {name: count.most_common(1)[0][0] for name, count in votes.items()}
    return {name: version for name, version in usual.items() if version is not None}


def _wait(store: Store, keys: list[str], *, seconds: float) -> None:
    """Wait for keys, at most this long."""
    try:
        store.wait(keys, timedelta(seconds=seconds))
    except RuntimeError:
        return


def _sees(token: Path, content: str) -> bool:
    deadline = time.monotonic() + _SECONDS_TO_SEE_A_FILE
    while time.monotonic() < deadline:
        try:
            if token.read_text() == content:
                return True
        except OSError:
            pass
        time.sleep(0.2)
    return False


def _free_gib(folder: Path) -> float:
    while not folder.exists() and folder != folder.parent:
        folder = folder.parent
    return shutil.disk_usage(folder).free / 2**30


def _faulty_gpus(num_gpus: int) -> Iterator[str]:
    """Problems of GPUs that fail, compute wrong products, or whose memory is in use."""
    for number in range(num_gpus):
        try:
            free, total = torch.cuda.mem_get_info(number)
            ones = torch.ones(1024, 1024, device=f"cuda:{number}")
            is_correct = bool((ones @ ones == 1024.0).all())
        except RuntimeError as error:
            yield f"GPU {number} does not work: {str(error).splitlines()[0]}"
            continue
        if not is_correct:
            yield f"GPU {number} multiplies wrong"
        if free < 0.9 * total:
            yield (
                f"GPU {number} has {free / 2**30:.0f} of {total / 2**30:.0f} GiB free: another "
                "process holds the rest"
            )


def code_digest() -> str:
    """A digest of the project's files and configs, committed or not."""
    digest = hashlib.sha256()
    for folder in _FOLDERS:
        for path in sorted((ROOT / folder).rglob("*")):
            if path.suffix in (".py", ".sh", ".toml"):
                digest.update(str(path.relative_to(ROOT)).encode() + b"\0" + path.read_bytes())
    return digest.hexdigest()


def _packages() -> dict[str, str]:
    """Installed packages, Python and CUDA."""
    found = {d.metadata["Name"].lower(): d.version for d in distributions() if d.metadata["Name"]}
    return {**found, "python": sys.version.split()[0], "cuda": torch.version.cuda or "none"}


def _node_names(num_nodes: int) -> list[str]:
    """Names of all nodes by rank, for those that have not reported."""
    nodes = os.environ.get("SLURM_STEP_NODELIST") or os.environ.get("SLURM_JOB_NODELIST", "")
    try:
        done = subprocess.run(
            ["scontrol", "show", "hostnames", nodes],
            capture_output=True,
            text=True,
            timeout=30,
            check=True,
        )
        shown = done.stdout.split()
    except (OSError, subprocess.SubprocessError):
        shown = []
    return shown if len(shown) == num_nodes else [f"node {rank}" for rank in range(num_nodes)]
