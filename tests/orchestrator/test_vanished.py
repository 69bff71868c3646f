import pytest

from orchestrator.vanished import verdict


@pytest.mark.parametrize(
    ("state", "reason", "memory", "seconds", "kind"),
    [
        ("PREEMPTED", "", False, 0, "preempted"),
        ("TIMEOUT", "signal SIGUSR2", False, 0, "timeout"),
        ("NODE_FAIL", "", False, 0, "node_fail"),
        ("OUT_OF_MEMORY", "", False, 0, "host_memory"),
        ("CANCELLED", "signal SIGTERM", False, 0, "pilot_cancelled"),
        ("COMPLETED", "signal SIGUSR2", False, 0, "timeout"),
        ("RUNNING", "", True, 0, "host_memory"),
        ("RUNNING", "", False, 1, ""),
        ("RUNNING", "", False, 11, "lost"),
        ("COMPLETING", "", False, 11, ""),
        ("COMPLETING", "", False, 61, "lost"),
        ("UNKNOWN", "", False, 59, ""),
        ("UNKNOWN", "", False, 60, "lost"),
        ("", "", False, 30, ""),
        ("", "dismissed", False, 0, "pilot_cancelled"),
        ("", "time limit", False, 0, "timeout"),
    ],
)
def test_a_vanished_worker_is_judged_by_what_became_of_its_pilot(
    state, reason, memory, seconds, kind
):
    told = verdict(state=state, reason=reason, out_of_memory=memory, seconds=seconds)
    assert told == kind
