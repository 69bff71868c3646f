"""Why a worker vanished, from what SLURM and its pilot said; pure."""

SETTLE_S = 10.0
"""A worker whose pilot still runs is taken for lost after this long: SLURM may be about to say."""
UNKNOWN_S = 60.0
"""A worker is taken for lost after this long, whatever is still not known of its pilot."""

KINDS = {
    "PREEMPTED": "preempted",
    "TIMEOUT": "timeout",
    "DEADLINE": "timeout",
    "NODE_FAIL": "node_fail",
    "BOOT_FAIL": "node_fail",
    "OUT_OF_MEMORY": "host_memory",
    "CANCELLED": "pilot_cancelled",
}
"""Class of failure of a pack by the SLURM state in which its pilot ended."""

REASONS = {
    "time limit": "timeout",
    "dismissed": "pilot_cancelled",
    "the driver ended": "pilot_cancelled",
}
"""The same by what a pilot said when it left in good order but its worker did not."""


def verdict(*, state: str, reason: str, out_of_memory: bool, seconds: float) -> str:
    """Name the class of failure of a pack whose worker vanished; empty while it is not known.

    Args:
        state: SLURM's state of the pilot; empty where it could not be asked.
        reason: why the pilot left, as it said itself; empty if it did not.
        out_of_memory: the kernel killed a process of the pilot for its memory, lately.
        seconds: since the worker vanished.
    """
    if kind := KINDS.get(state):
        return kind
    if out_of_memory:
        return "host_memory"
    if reason in REASONS:
        return REASONS[reason]
    if reason.startswith("signal") and state in ("COMPLETED", "FAILED"):
        return "timeout"
    settled = seconds >= SETTLE_S and state in ("RUNNING", "FAILED", "COMPLETED")
    return "lost" if settled or seconds >= UNKNOWN_S else ""
