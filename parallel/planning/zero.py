"""What DeepSpeed holds and sends for one rank's parameters, by its own arithmetic.

    costs = zero_costs(parameters)
    costs.gradients_bytes, costs.transfers

Taken from the source of DeepSpeed 0.19, in the files that the docstrings name, under the settings
of `parallel/settings.py`; compared with what real engines hold and send
(tests/distributed/test_plan_measured.py). Which of its optimizers runs follows from the ZeRO
stage and the precision (runtime/engine.py, `_do_optimizer_sanity_check`).
"""

import collections
import itertools
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from parallel.settings import BUCKET_ELEMENTS

FP32 = 4
"""Bytes of an element."""
FLATTENED_ELEMENTS = 500_000_000
"""`MEMORY_OPT_ALLREDUCE_SIZE` of runtime/engine.py: gradients that are reduced at a time."""
STEP_BYTES = FP32
"""torch's AdamW counts each tensor's steps in a tensor of one element."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Transfer:
    """One kind of communication of a rank within a group, in one optimizer step."""

    purpose: str
    operation: str
    """`all-reduce`, `all-gather`, `reduce-scatter` or `send`."""
    num_bytes: int
    """Of the full tensor: what is summed, what the shards make together, what is sent."""
    num_ranks: int
    """Of the group."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Step:
    """One module's use in a forward or backward pass, by names of parameters."""

    needed: tuple[str, ...] = ()
    released: tuple[str, ...] = ()
    """Those not needed after it until another module uses them."""


@dataclass(frozen=True, kw_only=True, slots=True)
class RankParameters:
    """The parameters of one rank, and how they are trained."""

    groups: Sequence[Mapping[str, int]]
    """Elements by name, in the order of the optimizer's groups."""
    steps: Sequence[Step]
    """Of all modules in both passes."""
    data_degree: int
    data_rank: int
    zero_stage: int
    precision: str
    num_micro_batches: int
    pipelined: bool
    offloaded: bool = False
    reduced_in_bf16: bool = False
    """`parallel.reduce_dtype`."""
    """Whether the optimizer's state is in main memory."""

    @property
    def sizes(self) -> list[int]:
        """Elements of every parameter."""
        return [size for group in self.groups for size in group.values()]

    @property
    def element_bytes(self) -> int:
        """Bytes of a weight's element; without ZeRO weights are fp32 (parallel/settings.py)."""
        return FP32 if self.precision == "fp32" or not self.zero_stage else 2


@dataclass(frozen=True, kw_only=True, slots=True)
class ZeroCosts:
    """Bytes that one rank holds, and its communication over the data-parallel group in a step."""

    weights_bytes: int
    gathered_bytes: int = 0
    """ZeRO-3: the peak of the weights that are gathered at a time."""
    gradients_bytes: int
    """Held from a backward pass until the step."""
    optimizer_bytes: int
    """fp32 weights, where they are not the weights themselves, and both moments."""
    bucket_bytes: int = 0
    """Buckets for the reduction of gradients, while activations are still held."""
    flattened_bytes: int = 0
    """Flattened copies of gradients that are reduced after the last backward pass."""
    host_bytes: int = 0
    """In main memory, where the optimizer's state is offloaded to it."""
    transfers: tuple[Transfer, ...]


def zero_costs(parameters: RankParameters) -> ZeroCosts:
    """What DeepSpeed holds and sends for these parameters."""
    if parameters.zero_stage == 0:
        return _without_zero(parameters)
    if parameters.zero_stage == 3:
        return _sharded_weights(parameters, Limits())
    in_fp32 = parameters.precision == "bf16" and not parameters.reduced_in_bf16
    if parameters.zero_stage == 1 and in_fp32:
        return _bf16_optimizer(parameters)
    return _sharded_optimizer(parameters)


def _without_zero(parameters: RankParameters) -> ZeroCosts:
    """torch's AdamW over fp32 weights; gradients are summed after the last backward pass."""
    num_elements = sum(parameters.sizes)
    return ZeroCosts(
        weights_bytes=FP32 * num_elements,
        gradients_bytes=FP32 * num_elements,
        optimizer_bytes=2 * FP32 * num_elements + STEP_BYTES * len(parameters.sizes),
        flattened_bytes=_flattened_bytes(parameters.sizes),
        transfers=(_transfer(parameters, "gradients", "all-reduce", FP32 * num_elements),),
    )


def _bf16_optimizer(parameters: RankParameters) -> ZeroCosts:
    """runtime/bf16_optimizer.py: whole gradients in fp32 on every rank.

    With `immediate_grad_update` each bf16 gradient is freed as soon as it is added.
    """
    padded = _padded(parameters)
    part = sum(padded) // parameters.data_degree
    return ZeroCosts(
        weights_bytes=2 * sum(padded),
        gradients_bytes=FP32 * sum(padded),
        optimizer_bytes=3 * FP32 * part + STEP_BYTES * len(padded),
        flattened_bytes=_flattened_bytes(padded),
        transfers=(
            _transfer(parameters, "gradients", "all-reduce", FP32 * sum(padded)),
            _transfer(parameters, "updated weights", "all-gather", 2 * sum(padded)),
        ),
    )


def _sharded_optimizer(parameters: RankParameters) -> ZeroCosts:
    """runtime/zero/stage_1_and_2.py: ZeRO-2, and ZeRO-1 but for fp32 sums of bf16 gradients.

    ZeRO-1 keeps whole gradients until the step and sums them once; ZeRO-2 sums those of every
    micro-batch and keeps a partition. An all-reduce sums them in either: each rank takes its
    slices of the result.
    """
    padded, size = _padded(parameters), parameters.element_bytes
    part = sum(padded) // parameters.data_degree
    if parameters.reduced_in_bf16:  # bucket by bucket, in the one backward pass
        gradients, times = size * _straddling(parameters), 1
    elif parameters.zero_stage == 1:
        gradients, times = size * max(sum(parameters.sizes), _straddling(parameters)), 1
    else:
        # A compact partition in fp32 beside bf16 weights (`_use_compact_grad_partition_buffer`).
        gradients = (
            FP32 * part if parameters.precision == "bf16" else size * _straddling(parameters)
        )
        times = parameters.num_micro_batches
    states = 3 * FP32 * part + STEP_BYTES * len(padded)
    sent = (2 if parameters.reduced_in_bf16 else FP32) * sum(parameters.sizes) * times
    # Offloaded, the largest gradient has a buffer on either side; main memory also has the
    # gradients of the step, and the updated weights on their way to the GPU.
    buffer = size * max(parameters.sizes) if parameters.offloaded else 0
    return ZeroCosts(
        weights_bytes=size * sum(padded),
        gradients_bytes=gradients + buffer,
        optimizer_bytes=0 if parameters.offloaded else states,
        bucket_bytes=_bucket_bytes(parameters),
        host_bytes=states + (FP32 + size) * part + buffer if parameters.offloaded else 0,
        transfers=(
            _transfer(parameters, "gradients", "all-reduce", sent),
            _transfer(parameters, "updated weights", "all-gather", size * sum(padded)),
        ),
    )


@dataclass(frozen=True, kw_only=True, slots=True)
class Limits:
    """DeepSpeed's defaults of `stage3_*`, in elements (runtime/zero/config.py)."""

    persistence: int = 100_000
    """Parameters of no more elements stay whole between steps."""
    reuse: int = 1_000_000_000
    """A parameter needed again before this many others are stays whole until then."""
    live: int = 1_000_000_000
    prefetch: int = 50_000_000
    """Weights are gathered this far ahead of their use."""


def _sharded_weights(parameters: RankParameters, limits: Limits) -> ZeroCosts:
    """runtime/zero/stage3.py: a shard of every tensor, gathered while it is needed."""
    degree, size = parameters.data_degree, parameters.element_bytes
    parts = sum(math.ceil(elements / degree) for elements in parameters.sizes)
    whole = {name: n for group in parameters.groups for name, n in group.items()}
    padded = {name: math.ceil(n / degree) * degree for name, n in whole.items()}
    persistent = {name for name, n in whole.items() if n <= limits.persistence}
    gathered, most_live = gathers(parameters.steps, whole, persistent, limits)
    kept = size * sum(padded[name] for name in persistent)
    # Gradients are kept in the dtype they accumulate in: fp16's own, else fp32.
    gradient_bytes = 2 if parameters.precision == "fp16" else FP32
    times = parameters.num_micro_batches
    return ZeroCosts(
        weights_bytes=size * parts + kept,
        gathered_bytes=size * most_live,
        gradients_bytes=gradient_bytes * parts,
        optimizer_bytes=3 * FP32 * parts + STEP_BYTES * len(parameters.groups),
        bucket_bytes=FP32 * BUCKET_ELEMENTS,
        transfers=(
            _transfer(
                parameters, "gradients", "reduce-scatter", FP32 * sum(padded.values()) * times
            ),
            _transfer(parameters, "updated weights", "all-gather", kept),
            _transfer(
                parameters,
                "weights for both passes",
                "all-gather",
                size * sum(padded[name] * count for name, count in gathered.items()) * times,
            ),
        ),
    )


def gathers(
    steps: Sequence[Step],
    sizes: Mapping[str, int],
    persistent: set[str],
    limits: Limits,
) -> tuple[Mapping[str, int], int]:
    """How often ZeRO-3 gathers each parameter in both passes, and the peak of gathered elements.

    Follows runtime/zero/partitioned_param_coordinator.py once it has recorded the module order:
    fetch, prefetch, and release of what is not needed again soon.
    """
    times: collections.Counter[str] = collections.Counter()
    whole, live, most = set(persistent), 0, 0
    queue = collections.deque((name, at) for at, step in enumerate(steps) for name in step.needed)
    fetched_for: dict[str, int] = {}
    for at, step in enumerate(steps):
        missing = {name for name in step.needed if name not in whole}
        live += sum(sizes[name] for name in missing)
        fresh = {name for name in step.needed if fetched_for.get(name, -1) < at}
        passed: set[str] = set()
        while queue and len(passed) < len(fresh):
            name, used_at = queue.popleft()
            fetched_for[name] = used_at
            passed.add(name)
        ahead, room = 0, min(limits.live - live, limits.prefetch)
        while queue and ahead < room:
            name, used_at = queue.popleft()
            fetched_for[name] = max(fetched_for.get(name, -1), used_at)
            if name not in whole and name not in missing:
                missing.add(name)
                ahead += sizes[name]
        live += ahead
        times.update(missing)
        whole |= missing
        most = max(most, live)
        for name in _released(step.released, steps[at + 1 :], sizes, limits):
            if name not in persistent and fetched_for.get(name, -1) <= at + 1:
                whole.discard(name)
                live -= sizes[name]
    return times, most


def _released(
    names: Sequence[str], later: Sequence[Step], sizes: Mapping[str, int], limits: Limits
) -> set[str]:
    """The parameters among these that no module needs within the reuse distance."""
    released, passed = set(names), 0
    for step in later:
        if passed >= limits.reuse or not released:
            break
        released -= set(step.needed)
        passed += sum(sizes[name] for name in step.needed)
    return released


def _transfer(parameters: RankParameters, purpose: str, operation: str, num_bytes: int) -> Transfer:
    return Transfer(
        purpose=purpose, operation=operation, num_bytes=num_bytes, num_ranks=parameters.data_degree
    )


def _padded(parameters: RankParameters) -> list[int]:
    """Elements of each group's flat tensor: a multiple of twice the data degree."""
    multiple = 2 * parameters.data_degree
    return [math.ceil(sum(group.values()) / multiple) * multiple for group in parameters.groups]


def _straddling(parameters: RankParameters) -> int:
    """Elements of the reduced gradients that one rank keeps: whole tensors at its borders.

    `get_flat_partition` copies each gradient of the partition whole, and pads its end.
    """
    kept = 0
    for group, padded in zip(parameters.groups, _padded(parameters), strict=True):
        part = padded // parameters.data_degree
        start, end = part * parameters.data_rank, part * (parameters.data_rank + 1)
        ends = list(itertools.accumulate(group.values()))
        kept += max(0, end - max(start, ends[-1]))
        for size, stop in zip(group.values(), ends, strict=True):
            if stop > start and stop - size < end:
                kept += size
    return kept


def _flattened_bytes(sizes: Sequence[int]) -> int:
    """The largest copy that `allreduce_no_retain` makes: a tensor alone is not copied."""
    largest, bucket = 0, list[int]()
    for size in sizes:
        bucket.append(size)
        if sum(bucket) > FLATTENED_ELEMENTS:
            largest = max(largest, sum(bucket) if len(bucket) > 1 else 0)
            bucket = []
    return FP32 * max(largest, sum(bucket) if len(bucket) > 1 else 0)


def _bucket_bytes(parameters: RankParameters) -> int:
    """What `setup_buckets` allocates, in the weights' dtype: twice in a pipeline, and where one
    bucket is filled while the other is sent."""
    twice = parameters.pipelined or parameters.reduced_in_bf16
    return (2 if twice else 1) * parameters.element_bytes * BUCKET_ELEMENTS
