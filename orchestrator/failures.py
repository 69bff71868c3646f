"""What killed an attempt, and what to do about it.

class         meaning                                       attempts  again on resume
data          the data of the pack are wrong                1         no
bug           any other exception                           2         yes
gpu_memory    out of GPU memory                             2         yes
host_memory   out of host memory, as Python saw it          2         yes
lost          the worker vanished: killed, node gone        3         yes
numeric       a lane's loss became NaN or infinite          1         no
"""

import traceback
from dataclasses import dataclass

from cluster.errors import ClusterError
from orchestrator.errors import SweepError
from training.errors import DataError

ATTEMPTS = {"data": 1, "bug": 2, "gpu_memory": 2, "host_memory": 2, "lost": 3, "numeric": 1}
"""How often a pack is tried before its trials are given up, by failure class."""

PERMANENT = ("data", "numeric")
"""Classes that `sweep resume` leaves alone unless it is told otherwise."""

TRACE_LINES = 20


@dataclass(frozen=True, slots=True, kw_only=True)
class Failure:
    """Why an attempt ended without a segment."""

    kind: str
    message: str
    trace: str = ""


def classify(error: BaseException) -> Failure:
    """Name the class of an exception that ended an attempt."""
    message = f"{type(error).__name__}: {error}"
    lines = "".join(traceback.format_exception(error)).splitlines()
    trace = "\n".join(lines[-TRACE_LINES:])
    if isinstance(error, DataError):
        return Failure(kind="data", message=error.message, trace=trace)
    if isinstance(error, MemoryError):
        return Failure(kind="host_memory", message=message, trace=trace)
    if type(error).__name__ == "OutOfMemoryError":
        return Failure(kind="gpu_memory", message=message, trace=trace)
    if isinstance(error, SweepError | ClusterError):
        return Failure(kind="bug", message=error.message, trace=trace)
    return Failure(kind="bug", message=message, trace=trace)


def final(failures: list[Failure]) -> bool:
    """Decide whether a pack with these failures, oldest first, is given up."""
    last = failures[-1]
    same = [failure for failure in failures if failure.kind == last.kind]
    return len(same) >= ATTEMPTS[last.kind]
