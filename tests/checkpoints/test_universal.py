"""The training state on disk, and DeepSpeed's own reader on it."""
# pyright: reportPrivateUsage=false

from pathlib import Path

from checkpoints import universal
from parallel import backend
from parallel.groups import Groups
from parallel.layout import Layout
from parallel.parallelize import parallelize
from parallel.ranks import Ranks
from parallel.sharding import STATES
from tests import small
from tests.ranks import run_distributed
from training.data.dataset import SequenceDataset
from training.data.loader import Loader


def _read_and_equal(ranks: Ranks, folder: Path) -> tuple[int, int]:
    """How many tensors of a written state DeepSpeed's reader reads, and how many are as written."""
    device = ranks.device("cpu")
    config = small.config(folder, parallel={"tensor": 2, "zero_stage": 1})
    ranks.on_main(lambda: small.prepared(folder))
    groups = Groups.connect(Layout.from_config(config, ranks.world_size), ranks)
    engine = parallelize(config, groups, device)
    loader = Loader(
        SequenceDataset(config.data.folder, sequence_length=256),
        seed=1,
        global_batch_sequences=8,
        micro_batch_sequences=4,
        rank=0,
        world_size=1,
        head="language_model",
    )
    for _ in range(2):
        batches = loader.next_step()
        weight = sum(batch.weight for batch in batches)
        engine.train_step(batches, loss_normalizer=weight, learning_rate=1e-3)
    copies: universal.Copies = {}
    universal.copy(engine, copies)()
    for _ in universal.write(folder, copies, "language_model"):
        pass
    ranks.barrier()
    expected = {
        (name, state): backend.fragment(parameter, state)[1].clone()
        for name, parameter in engine.state.parameters.items()
        for state in STATES
    }
    other = config.model_copy(update={"run": config.run.model_copy(update={"seed": 7})})
    num_read, num_equal = 0, 0
    for name, parameter in parallelize(other, groups, device).state.parameters.items():
        where = str(folder / universal.FOLDER / "zero" / name)
        parameter.load_hp_checkpoint_state(where, groups.place.tensor, 2)  # pyright: ignore
        for state in STATES:
            found = (
                backend.safe_get_full_fp32_param(parameter)
                if state == "fp32"
                else backend.safe_get_full_optimizer_state(parameter, state)
            )
            assert found is not None
            num_read += 1
            num_equal += bool((found.view_as(expected[name, state]) == expected[name, state]).all())
    return num_read, num_equal


def test_deepspeeds_own_reader_takes_its_parts(tmp_path: Path) -> None:
    for num_read, num_equal in run_distributed(_read_and_equal, 2, tmp_path):
        # Embedding, two blocks of 14, final norm, head; three tensors each.
        assert num_equal == num_read == 3 * (1 + 2 * 14 + 2 + 2)
