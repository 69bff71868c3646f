"""What killed an attempt, and what to do about it.

`POLICIES` is the table; `classify` names the class of an exception, `decide` what follows from a
pack's failures so far, `breaker` whether one error is common to the whole sweep.
"""

import errno
import hashlib
import re
import traceback
from collections import Counter
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

from cluster.errors import ClusterError
from orchestrator.errors import SweepError
from training.errors import DataError

Action = Literal["again", "smaller", "apart", "alone", "large", "give up"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Policy:
    """What a class of failure means and costs.

    Args:
        meaning: what happened, for people.
        attempts: how often a pack is tried before it is given up for this class; None: any number.
        permanent: `sweep resume` leaves it alone unless it is told otherwise.
    """

    meaning: str
    attempts: int | None
    permanent: bool = False


POLICIES = {
    "data": Policy(meaning="the data of the pack are wrong", attempts=1, permanent=True),
    "numeric": Policy(meaning="a lane's loss became NaN or infinite", attempts=1, permanent=True),
    "cancelled": Policy(meaning="the user cancelled the trial", attempts=1, permanent=True),
    "bug": Policy(meaning="any other exception", attempts=3),
    "gpu_memory": Policy(meaning="out of GPU memory", attempts=2),
    "host_memory": Policy(meaning="out of host memory", attempts=2),
    "disk": Policy(meaning="a disk is full or does not answer", attempts=3),
    "lost": Policy(meaning="the worker vanished and its pilot did not", attempts=3),
    "timeout": Policy(meaning="the pilot's time was over", attempts=10),
    "node_fail": Policy(meaning="the node failed", attempts=10),
    "sick_gpu": Policy(meaning="the GPU or its driver failed", attempts=3),
    "collateral": Policy(meaning="a neighbour on the same GPU failed", attempts=None),
    "preempted": Policy(meaning="the pilot was preempted", attempts=None),
    "pilot_cancelled": Policy(meaning="the pilot was cancelled", attempts=None),
}
"""Policy by class of failure."""

PERMANENT = tuple(kind for kind, policy in POLICIES.items() if policy.permanent)
"""Classes that `sweep resume` leaves alone unless it is told otherwise."""

TRACE_LINES = 20
COMMON = ("bug", "disk")
"""Classes that stop a sweep when one cause is common to it."""
OF_ONE_LOSS = ("gpu_memory", "host_memory", "lost")
"""Classes that may be the fault of one loss among several of a pack, beside bugs."""
BREAKER_MIN = 3
"""Packs that must fail alike before the sweep is stopped for it."""
NEIGHBOUR_S = 60.0
"""A CUDA fault this soon after a neighbour's on the same GPU is the neighbour's."""
SAME_BUG_MAX = 2
"""A traceback that comes this often from one pack would come again."""

_DISK = {errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EIO, errno.ESTALE}
# How libraries that are not written in Python say it: safetensors, HDF5.
_ERRNO = re.compile(r"\b(?:os error|errno =) (\d+)")
# What torch and the CUDA runtime say of hardware and drivers, and not of our code.
_SICK = re.compile(
    r"ECC error|busy or unavailable|No CUDA GPUs are available|no CUDA-capable device|"
    r"fallen off the bus|GPU is lost|Found no NVIDIA driver|driver initialization failed|"
    r"hardware stack error|unspecified launch failure|CUDA error: unknown error|NVLink|"
    r"CUDA unknown error|CUDA error: initialization error|from cudaGetDeviceCount|"
    r"system not yet initialized|driver version is insufficient",
    re.IGNORECASE,
)
_GPU_MEMORY = ("CUDA error: out of memory", "CUBLAS_STATUS_ALLOC_FAILED")


@dataclass(frozen=True, slots=True, kw_only=True)
class Failure:
    """Why an attempt ended without a segment.

    Args:
        kind: a key of `POLICIES`.
        message: what was said.
        trace: the last lines of the traceback.
        signature: equal for failures of one cause; empty where there is no traceback.
        cuda: the process can use its GPU no more, and must end.
    """

    kind: str
    message: str
    trace: str = ""
    signature: str = ""
    cuda: bool = False


def classify(error: BaseException) -> Failure:
    """Name the class of an exception that ended an attempt."""
    text = f"{type(error).__name__}: {error}"
    lines = "".join(traceback.format_exception(error)).splitlines()
    known = isinstance(error, SweepError | ClusterError | DataError)
    return Failure(
        kind=_kind(error),
        message=error.message if isinstance(error, SweepError | ClusterError | DataError) else text,
        trace="\n".join(lines[-TRACE_LINES:]),
        signature=signature(error),
        cuda=not known and "CUDA error" in text,
    )


def signature(error: BaseException) -> str:
    """Hash where an exception came from: its type and the places of its traceback, no message."""
    frames = traceback.extract_tb(error.__traceback__)
    places = [f"{frame.filename}:{frame.lineno}:{frame.name}" for frame in frames]
    return hashlib.sha256("\n".join([type(error).__name__, *places]).encode()).hexdigest()[:12]


def recall(history: Mapping[str, Sequence[tuple[str, str]]]) -> dict[str, list[Failure]]:
    """Take in what is known of each pack's failures: class and signature."""
    return {
        pack: [Failure(kind=kind, message="", signature=mark) for kind, mark in known]
        for pack, known in history.items()
    }


def decide(
    history: Sequence[Failure],
    *,
    lanes: int,
    losses: int = 1,
    size: str,
    alone: bool,
    larger: bool,
) -> Action:
    """Decide what becomes of a pack.

    Args:
        history: its failures and those of the pack that it is a part of, oldest first; the last
            one has just happened.
        lanes: its trials.
        losses: how many kinds of losses they have.
        size: "normal" or "large", of the pilots that may train it.
        alone: it had no neighbours on its pilot.
        larger: the profile has larger pilots.
    """
    last = history[-1]
    if last.kind == "bug" and losses > 1:  # it may be that of one loss: the others go on without it
        return "apart"
    given_up: Action = "apart" if last.kind in OF_ONE_LOSS and losses > 1 else "give up"
    same = [failure for failure in history if failure.kind == last.kind]
    can_move = larger and size == "normal"
    if last.kind == "host_memory" and not alone:
        return "alone"
    if last.kind in ("gpu_memory", "host_memory") and can_move:
        return "large"
    # Two lanes of it in a call did not fit: fewer lanes help with what the others hold, once.
    if last.kind == "gpu_memory" and lanes > 2 and len(same) == (2 if larger else 1):
        return "smaller"
    if last.kind == "bug" and last.signature:
        alike = [failure for failure in same if failure.signature == last.signature]
        if len(alike) >= SAME_BUG_MAX:
            return given_up
    attempts = POLICIES[last.kind].attempts
    return "again" if attempts is None or len(same) < attempts else given_up


def breaker(first: Sequence[str]) -> str:
    """Find an error that is common to a sweep.

    Args:
        first: how the first attempts of packs ended, in any order: the signature of a failure of
            a class in `COMMON`, or empty for anything else.

    Returns:
        The signature of at least `BREAKER_MIN` failures that are at least half of all; else empty.
    """
    counts = Counter(name for name in first if name)
    if not counts:
        return ""
    name, count = counts.most_common(1)[0]
    return name if count >= BREAKER_MIN and 2 * count >= len(first) else ""


def _kind(error: BaseException) -> str:
    codes = {_errno(one) for one in _chain(error)}
    if codes & _DISK:
        return "disk"
    if isinstance(error, MemoryError) or errno.ENOMEM in codes:
        return "host_memory"
    if isinstance(error, DataError):
        return "data"
    if type(error).__name__ == "OutOfMemoryError" or any(t in str(error) for t in _GPU_MEMORY):
        return "gpu_memory"
    if isinstance(error, RuntimeError) and _SICK.search(str(error)):
        return "sick_gpu"
    if isinstance(error, RuntimeError) and "can't allocate memory" in str(error):
        return "host_memory"  # torch's allocator on a CPU
    return "bug"


def _errno(error: BaseException) -> int | None:
    if isinstance(error, OSError) and error.errno is not None:
        return error.errno
    found = _ERRNO.search(str(error)) if isinstance(error, Exception) else None
    return int(found[1]) if found else None


def _chain(error: BaseException) -> Iterator[BaseException]:
    one: BaseException | None = error
    while one is not None:
        yield one
        one = one.__cause__ or (None if one.__suppress_context__ else one.__context__)


def left_alone(
    failed: Mapping[str, str], *, planned: Collection[str], retry: Collection[str], running: bool
) -> set[str]:
    """Choose the failed trials that are not trained again.

    A running driver has given up all that failed. A cancelled trial that the last plan did not have
    was taken out of the spec, and is wanted again if the spec has it again.

    Args:
        failed: trials with the class of their failure.
        planned: trials of the last plan.
        retry: classes that are trained again although they are left alone otherwise.
        running: whether a driver runs.
    """
    kinds = set(POLICIES if running else PERMANENT) - set(retry)
    planned = set(planned)
    return {
        trial
        for trial, kind in failed.items()
        if kind in kinds and (kind != "cancelled" or trial in planned)
    }
