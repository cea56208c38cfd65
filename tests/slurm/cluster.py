"""A real Slurm on this machine: four nodes on loopback, without systemd and without /etc.

    cluster = Cluster(Path(tempfile.mkdtemp()))
    cluster.start()
    job = cluster.sbatch("--nodes=2", "slurm/train_1b3.sh", "training.max_steps=6")
    assert cluster.wait(job) == "COMPLETED"
    cluster.stop()

Needs Debian's slurm-wlm, slurm-client and munge; for MPI libpmix-dev. Key, sockets, spool
and logs are below one folder, every port is a free one, so several clusters live beside each
other. `stop` ends every process of the cluster by its id: daemons are our children, and
whatever Slurm started has the folder's SLURM_CONF in its environment.
"""

import getpass
import os
import re
import secrets
import shutil
import signal
import socket
import subprocess
import time
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path

from tests.ranks import ROOT

NUM_NODES = 4
_PROGRAMS = ("munged", "slurmctld", "slurmd", "sbatch", "srun", "scontrol")
_UNFINISHED = {"PENDING", "RUNNING", "COMPLETING", "CONFIGURING", "REQUEUED", "SUSPENDED"}

_CONFIG = """\
ClusterName=loopback
SlurmctldHost={host}(127.0.0.1)
SlurmUser={user}
SlurmdUser={user}
AuthType=auth/munge
AuthInfo=socket={folder}/munge/socket,cred_expire=5
CryptoType=crypto/munge
CommunicationParameters=NoInAddrAny,NoCtldInAddrAny
SlurmctldPort={port}
SlurmctldPidFile={folder}/slurmctld.pid
SlurmdPidFile={folder}/%n/slurmd.pid
StateSaveLocation={folder}/state
SlurmdSpoolDir={folder}/%n/spool
TmpFS={folder}/%n/tmp
SlurmctldLogFile={folder}/slurmctld.log
SlurmdLogFile={folder}/%n/slurmd.log
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
SwitchType=switch/none
MpiDefault=none
SelectType=select/cons_tres
SelectTypeParameters=CR_Core
SchedulerType=sched/backfill
SchedulerParameters=bf_interval=1,sched_interval=1,batch_sched_delay=0,sched_min_interval=0
SlurmdParameters=config_overrides
AccountingStorageType=accounting_storage/none
JobAcctGatherType=jobacct_gather/none
JobCompType=jobcomp/none
ReturnToService=2
KillWait=10
MinJobAge=3600
JobRequeue=1
SlurmdTimeout=10
InactiveLimit=0
GresTypes=gpu
"""
# cred_expire: a requeued job waits for its old credential to expire, two minutes by default.
# proctrack/linuxproc and task/none: cgroups are not ours to change.
# MinJobAge: how a job ended is asked for after its end, and there is no accounting.
# SlurmdTimeout: how long a dead node goes unnoticed.


def missing() -> str:
    """Why no cluster can be started here; empty: it can."""
    absent = [name for name in _PROGRAMS if shutil.which(name, path=_search_path()) is None]
    if not absent:
        return ""
    return (
        f"{', '.join(absent)} not found: "
        "apt-get install --no-install-recommends slurm-wlm slurm-client munge"
    )


class Cluster:
    """Four nodes, n0 to n3, with 64 CPUs and 8 GPUs each as far as Slurm believes."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.environment = {
            **{n: v for n, v in os.environ.items() if not n.startswith(("SLURM_", "SBATCH_"))},
            "PATH": _search_path(),
            "SLURM_CONF": str(folder / "slurm.conf"),
        }
        for name in ("RANK", "WORLD_SIZE", "LOCAL_RANK", "MASTER_ADDR", "MASTER_PORT"):
            self.environment.pop(name, None)
        self._daemons: dict[str, subprocess.Popen[bytes]] = {}

    def start(self) -> None:
        """Start the daemons and wait until all nodes are idle."""
        self._write_files()
        munge = self.folder / "munge"
        self._spawn(
            "munged",
            "--foreground",
            *("--key-file", str(munge / "key"), "--socket", str(munge / "socket")),
            *("--pid-file", str(munge / "pid"), "--log-file", str(munge / "log")),
            *("--seed-file", str(munge / "seed")),
        )
        until(lambda: (munge / "socket").exists(), "munged opened no socket", seconds=20)
        self._spawn("slurmctld", "-D", "-i")
        for number in range(NUM_NODES):
            self.start_node(f"n{number}")
        until(
            lambda: self._node_states() == ["idle"] * NUM_NODES,
            f"nodes are not idle; see {self.folder}",
            seconds=60,
        )

    def start_node(self, name: str) -> None:
        """Start a node's slurmd."""
        self._spawn("slurmd", "-D", "-N", name, known_as=name)

    def kill_node(self, name: str) -> None:
        """What a power cut does to a node: its slurmd and all that runs there is gone."""
        daemon = self._daemons.pop(name)
        daemon.kill()
        daemon.wait()
        _kill(self.processes(f"SLURMD_NODENAME={name}"))

    def stop(self) -> None:
        """Cancel all jobs, end all processes, remove the folder."""
        try:
            if "slurmctld" in self._daemons:
                self.run("scancel", "--user", getpass.getuser(), check=False)
                queue = ("squeue", "-h")
                until(lambda: not self.run(*queue, check=False), "jobs do not end", seconds=20)
        except (AssertionError, subprocess.TimeoutExpired):
            pass  # They end with the rest, below.
        for daemon in reversed(self._daemons.values()):
            daemon.terminate()
        for daemon in self._daemons.values():
            try:
                daemon.wait(timeout=10)
            except subprocess.TimeoutExpired:
                daemon.kill()
                daemon.wait()
        _kill(self.processes())
        shutil.rmtree(self.folder, ignore_errors=True)

    def run(
        self,
        *command: str,
        extra: Mapping[str, str] | None = None,
        check: bool = True,
        timeout: float = 60,
    ) -> str:
        """Standard output of a command on the login node, which is this machine."""
        done = subprocess.run(
            command,
            cwd=ROOT,
            env={**self.environment, **(extra or {})},
            capture_output=True,
            text=True,
            timeout=timeout,
            check=False,
        )
        assert not check or done.returncode == 0, f"{command}\n{done.stdout}\n{done.stderr}"
        return done.stdout.strip()

    def sbatch(self, *arguments: str, extra: Mapping[str, str] | None = None) -> str:
        """Submit from the repository's root; the job's id."""
        return self.run("sbatch", "--parsable", *arguments, extra=extra)

    def job(self, job: str) -> dict[str, str]:
        """What `scontrol show job` tells."""
        text = self.run("scontrol", "-o", "show", "job", job)
        return dict(re.findall(r"(\S+?)=(\S*)", text))

    def wait(self, job: str, *, seconds: float = 300) -> str:
        """Wait for a job's end; its state."""
        until(
            lambda: self.job(job)["JobState"] not in _UNFINISHED,
            lambda: f"job {job} has not ended: {self.job(job)}",
            seconds=seconds,
        )
        return self.job(job)["JobState"]

    def processes(self, *marks: str) -> Iterator[int]:
        """Processes of this cluster that were started with `marks` in their environment."""
        wanted = {mark.encode() for mark in (*marks, f"SLURM_CONF={self.folder}/slurm.conf")}
        for entry in Path("/proc").iterdir():
            if entry.name.isdigit() and int(entry.name) != os.getpid():
                try:
                    found = (entry / "environ").read_bytes().split(b"\0")
                except OSError:
                    continue
                if wanted <= set(found):
                    yield int(entry.name)

    def rank(self, job: str, number: int) -> int:
        """The process of a rank of the job's first step."""
        marks = (f"SLURM_JOB_ID={job}", f"SLURM_PROCID={number}", "SLURM_STEP_ID=0")
        found = set(self.processes(*marks))
        # Slurm's child is the rank, the others are its own.
        (rank,) = (process for process in found if _parent(process) not in found)
        return rank

    def _write_files(self) -> None:
        folder = self.folder
        folder.chmod(0o755)  # munged refuses a socket that not everyone can reach
        (folder / "munge").mkdir(mode=0o755, parents=True)
        key = folder / "munge" / "key"
        key.write_bytes(secrets.token_bytes(1024))
        key.chmod(0o600)
        (folder / "state").mkdir()
        nodes = [f"n{number}" for number in range(NUM_NODES)]
        for name in nodes:
            for inner in ("spool", "tmp"):
                (folder / name / inner).mkdir(parents=True)
        port, *node_ports = _free_ports(1 + NUM_NODES)
        host = socket.gethostname().partition(".")[0]
        lines = [
            f"NodeName={name} NodeHostname={host} NodeAddr=127.0.0.1 Port={node_port} CPUs=64 "
            "Boards=1 SocketsPerBoard=1 CoresPerSocket=64 ThreadsPerCore=1 RealMemory=64000 "
            "Gres=gpu:8 State=UNKNOWN"
            for name, node_port in zip(nodes, node_ports, strict=True)
        ]
        lines += ["PartitionName=all Nodes=ALL Default=YES MaxTime=INFINITE State=UP"]
        head = _CONFIG.format(host=host, user=getpass.getuser(), folder=folder, port=port)
        (folder / "slurm.conf").write_text(head + "\n".join(lines) + "\n")
        # Slurm counts files as GPUs; ranks here are CPU ranks, whatever they were given.
        for number in range(8):
            (folder / f"gpu{number}").touch()
        (folder / "gres.conf").write_text(f"Name=gpu File={folder}/gpu[0-7]\n")

    def _spawn(self, *command: str, known_as: str = "") -> None:
        name = known_as or command[0]
        with (self.folder / f"{name}.out").open("ab") as out:
            self._daemons[name] = subprocess.Popen(
                command,
                env={**self.environment, "SLURMD_NODENAME": known_as},
                stdin=subprocess.DEVNULL,
                stdout=out,
                stderr=out,
                start_new_session=True,
            )

    def _node_states(self) -> list[str]:
        return self.run("sinfo", "-h", "-N", "-o", "%t", check=False).split()


def until(
    condition: Callable[[], bool], message: str | Callable[[], str], *, seconds: float
) -> None:
    """Wait for a condition, looked at ten times a second.

    Raises:
        AssertionError: it did not come true in time.
    """
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, message if isinstance(message, str) else message()
        time.sleep(0.1)


def _kill(processes: Iterator[int]) -> None:
    for process in processes:
        try:
            os.kill(process, signal.SIGKILL)
        except ProcessLookupError:
            continue


def _parent(process: int) -> int:
    status = Path(f"/proc/{process}/status").read_text()
    return int(status.partition("PPid:")[2].split()[0])


def _free_ports(number: int) -> list[int]:
    """Ports free now, all different; below those that outgoing connections take."""
    found: list[int] = []
    while len(found) < number:
        port = 12_000 + secrets.randbelow(18_000)
        with socket.socket() as tried:
            try:
                tried.bind(("127.0.0.1", port))
            except OSError:
                continue
        if port not in found:
            found.append(port)
    return found


def _search_path() -> str:
    """Debian keeps daemons in /usr/sbin, which a person's PATH may lack."""
    return os.pathsep.join([os.environ.get("PATH", ""), "/usr/sbin", "/sbin"])
