"""A node that is not fit is named before any rank starts."""

import sys

import pytest

from tests import small
from tests.slurm.cluster import Cluster
from tests.slurm.jobs import Site

# On the second node: one package more than on the others.
_SICK = """\
#!/usr/bin/env bash
if [[ $SLURM_NODEID == 1 && $SLURM_STEP_ID == 0 ]]; then export PYTHONPATH=$PYTHONPATH:{extra}; fi
exec {python} "$@"
"""


def test_a_node_with_other_packages_is_named_and_nothing_starts(
    cluster: Cluster, tmp_path_factory: pytest.TempPathFactory
) -> None:
    site = Site(cluster, tmp_path_factory.mktemp("site"))
    info = site.folder / "extra" / "stowaway-9.9.dist-info"
    info.mkdir(parents=True)
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: stowaway\nVersion: 9.9\n")
    wrapper = site.folder / "python"
    wrapper.write_text(_SICK.format(extra=info.parent, python=sys.executable))
    wrapper.chmod(0o755)
    with (site.folder / "site.sh").open("a") as stream:
        stream.write(f"python_command=({wrapper})\npython_login_command=({sys.executable})\n")
    path = site.config_file(small.config(site.folder, data={"prepare_if_missing": True}), "sick")
    job = site.sbatch("slurm/train_1b3.sh", str(path), extra={"TINYGSM_PREFLIGHT": "1"})
    assert site.wait(job) == "FAILED", site.log(job)
    assert cluster.job(job)["ExitCode"] == "1:0"
    names = cluster.run("scontrol", "show", "hostnames", cluster.job(job)["NodeList"]).split()
    sick = f"preflight: {names[1]} has other packages than most nodes: stowaway 9.9, not absent"
    assert sick in site.log(job)
    assert "preflight failed with exit code 1" in site.log(job)
    assert not site.ranks_said("sick")
