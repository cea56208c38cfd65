"""A node that is not fit is named before any rank starts."""

import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from tests import small
from tests.ranks import ROOT
from tests.slurm.cluster import Cluster
from tests.slurm.jobs import Site

# What is called for Python; on the second node something is wrong.
_SICK = """\
#!/usr/bin/env bash
if [[ $SLURM_NODEID == 1 && $SLURM_STEP_ID == 0 ]]; then
  {wrong}
fi
exec {python} "$@"
"""


def _preflight_log(site: Site, wrong: str) -> tuple[str, str]:
    """Submit a job whose second node is sick; that node's name, and what the job said."""
    wrapper = site.folder / "python"
    wrapper.write_text(_SICK.format(wrong=wrong, python=sys.executable))
    wrapper.chmod(0o755)
    with (site.folder / "site.sh").open("a") as stream:
        stream.write(f"python_command=({wrapper})\npython_login_command=({sys.executable})\n")
    path = site.config_file(small.config(site.folder, data={"prepare_if_missing": True}), "sick")
    job = site.sbatch("slurm/train_1b3.sh", str(path), extra={"TINYGSM_PREFLIGHT": "1"})
    assert site.wait(job) == "FAILED", site.log(job)
    assert site.cluster.job(job)["ExitCode"] == "1:0"
    assert "preflight failed with exit code 1" in site.log(job)
    assert not site.ranks_said("sick")
    nodes = site.cluster.job(job)["NodeList"]
    return site.cluster.run("scontrol", "show", "hostnames", nodes).split()[1], site.log(job)


def test_a_node_with_other_packages_code_and_time_is_named_and_nothing_starts(
    cluster: Cluster, tmp_path: Path
) -> None:
    info = tmp_path / "extra" / "stowaway-9.9.dist-info"
    info.mkdir(parents=True)
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: stowaway\nVersion: 9.9\n")
    (info.parent / "sitecustomize.py").write_text(
        "import time\nright = time.time\ntime.time = lambda: right() + 60\n"
    )
    for room in ("launch", "training", "parallel", "checkpoints", "slurm", "configs"):
        shutil.copytree(ROOT / room, tmp_path / "clone" / room)
    with (tmp_path / "clone" / "configs" / "generator_1b3.toml").open("a") as stream:
        stream.write("# changed here only\n")
    wrong = f"cd {tmp_path}/clone; export PYTHONPATH={info.parent}:{tmp_path}/clone"
    node, log = _preflight_log(Site(cluster, tmp_path / "site"), wrong)
    assert f"preflight: {node} has other code than most nodes" in log
    assert f"preflight: {node} has other packages than most nodes: stowaway 9.9, not absent" in log
    assert f"preflight: {node} has a clock +60.0 s from the first node's" in log, log


_HIDE = "unshare --mount bash -c 'mount -t tmpfs none {folder} && exec {python} \"$@\"' hide"


def test_a_node_that_does_not_mount_the_run_folder_is_named(
    cluster: Cluster, tmp_path: Path
) -> None:
    site = Site(cluster, tmp_path / "site")
    hide = _HIDE.format(folder=site.folder, python=sys.executable)
    if subprocess.run(f"{hide} -V", shell=True, check=False).returncode != 0:
        pytest.skip("this user may not mount")
    node, log = _preflight_log(site, f'exec {hide} "$@"')
    assert f"preflight: {node} does not see the run folder {tmp_path}/site/sick" in log, log
