"""A data set or model in the cache of the Hugging Face hub, as `hf download` leaves it."""

import os
from pathlib import Path

COMMIT = "0123456789abcdef0123456789abcdef01234567"


def lay_out(
    home: Path,
    repository: str,
    files: dict[str, bytes],
    commit: str = COMMIT,
    revision: str = "main",
    *,
    kind: str = "datasets",
) -> None:
    """Write blobs, links to them in the commit's snapshot, and the commit that the revision is.

    Args:
        home: The folder that `HF_HOME` names.
        repository: The hub id.
        files: Contents by path.
        commit: The commit.
        revision: The branch that it is the last commit of.
        kind: `datasets` or `models`.
    """
    folder = home / "hub" / f"{kind}--{repository.replace('/', '--')}"
    for path in (folder / "refs", folder / "blobs"):
        path.mkdir(parents=True, exist_ok=True)
    reference = folder / "refs" / revision
    reference.parent.mkdir(parents=True, exist_ok=True)
    reference.write_text(commit)
    for number, (name, content) in enumerate(files.items()):
        blob = folder / "blobs" / f"{commit[:8]}{number}"
        blob.write_bytes(content)
        link = folder / "snapshots" / commit / name
        link.parent.mkdir(parents=True, exist_ok=True)
        link.symlink_to(os.path.relpath(blob, link.parent))
