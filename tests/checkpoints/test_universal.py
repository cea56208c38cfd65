"""The training state on disk, and DeepSpeed's own reader on it."""

import json
from pathlib import Path

from tests.ranks import ROOT, run_ranks

_SCRIPT = """
import json
import sys
from pathlib import Path

from checkpoints import universal
from parallel import backend
from parallel.engine import STATES
from parallel.groups import Groups
from parallel.layout import Layout
from parallel.parallelize import parallelize
from parallel.ranks import discover
from tests import small
from training.data.loader import Loader, SequenceDataset

folder = Path(sys.argv[1])
ranks = discover()
device = ranks.device("cpu")
ranks.connect(device)
config = small.config(folder, parallel={"tensor": 2, "zero_stage": 1})
if ranks.is_main:
    small.prepared(folder)
ranks.barrier()
groups = Groups.connect(Layout.from_config(config, ranks.world_size), ranks)
engine = parallelize(config, groups, device)
loader = Loader(
    SequenceDataset(config.data.folder, sequence_length=256), seed=1, global_batch_sequences=8,
    micro_batch_sequences=4, rank=0, world_size=1, head="language_model")
for _ in range(2):
    batches = loader.next_step()
    weight = sum(batch.weight for batch in batches)
    engine.train_step(batches, loss_normalizer=weight, learning_rate=1e-3)
universal.write(folder, engine)
ranks.barrier()
expected = {
    (name, state): engine._state_of(parameter, state).clone()
    for name, parameter in engine.parameters().items() for state in STATES
}
again = parallelize(config.model_copy(update={"run": config.run.model_copy(update={"seed": 7})}),
                     groups, device)
same, read = 0, 0
for name, parameter in again.parameters().items():
    where = str(folder / universal.FOLDER / "zero" / name)
    parameter.load_hp_checkpoint_state(where, groups.place.tensor, 2)
    for state in STATES:
        read += 1
        found = (backend.safe_get_full_fp32_param(parameter) if state == "fp32"
                 else backend.safe_get_full_optimizer_state(parameter, state))
        same += bool((found.view_as(expected[name, state]) == expected[name, state]).all())
print(json.dumps({"read": read, "same": same}))
"""


def test_deepspeeds_own_reader_takes_its_parts(tmp_path: Path) -> None:
    command = ["-c", _SCRIPT, str(tmp_path)]
    for output in run_ranks(2, command, extra={"PYTHONPATH": str(ROOT)}, timeout=200):
        found = json.loads(output.stdout.splitlines()[-1])
        # Embedding, two blocks of 14, final norm, head; three tensors each.
        assert found["same"] == found["read"] == 3 * (1 + 2 * 14 + 2 + 2)
