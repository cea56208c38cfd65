import numpy as np

from training.data.dedupe import Deduplicator
from training.data.pack import Mode, TokenizedExample
from training.data.parts import Kept


def kept(key: bytes) -> Kept:
    example = TokenizedExample(
        tokens=np.array([1, 2], np.uint16),
        num_prompt_tokens=1,
        prompt_mode=Mode.CONTEXT,
        program_mode=Mode.SUPERVISED,
    )
    return Kept(key=key, example=example)


def reasons(deduplicator: Deduplicator, *keys: bytes) -> list[str]:
    return [reason for _, reason in deduplicator.marked(map(kept, keys))]


def test_the_first_of_equal_examples_stays_over_all_sources() -> None:
    deduplicator = Deduplicator(for_verifier=False)
    assert reasons(deduplicator, b"a", b"b", b"a") == ["", "", "duplicate question"]
    assert reasons(deduplicator, b"b", b"c") == ["duplicate question", ""]


def test_a_verifiers_reason_names_the_program() -> None:
    found = reasons(Deduplicator(for_verifier=True), b"a", b"a")
    assert found == ["", "duplicate program of a question"]


def test_what_a_later_filter_drops_may_come_again_but_no_duplicate_of_what_stays() -> None:
    deduplicator = Deduplicator(for_verifier=True)
    marked = [(kept(b"a"), ""), (kept(b"b"), "surplus")]
    assert reasons(deduplicator, b"a", b"b") == ["", ""]
    assert [reason for _, reason in deduplicator.forgetting_dropped(marked)] == ["", "surplus"]
    assert reasons(deduplicator, b"a", b"b") == ["duplicate program of a question", ""]
