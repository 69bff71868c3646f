from orchestrator.failures import NEIGHBOUR_S, Failure
from orchestrator.health import Health
from orchestrator.worker import Place

SHARED = Place(pilot="7", node="gpu1", shares_gpu=True)
FAULT = Failure(kind="bug", message="CUDA error: device-side assert triggered", cuda=True)
SICK = Failure(kind="sick_gpu", message="CUDA error: uncorrectable ECC error", cuda=True)


def made(outcomes=()):
    seconds = [0.0]
    return Health(outcomes, clock=lambda: seconds[0]), seconds


def test_a_fault_soon_after_a_neighbours_is_collateral():
    health, seconds = made()
    assert health.blame(FAULT, SHARED).kind == "bug"
    seconds[0] = NEIGHBOUR_S - 1
    assert health.blame(FAULT, SHARED).kind == "collateral"
    seconds[0] = NEIGHBOUR_S + 1
    assert health.blame(FAULT, SHARED).kind == "bug"


def test_workers_with_a_gpu_of_their_own_or_on_other_pilots_are_no_neighbours():
    health, _ = made()
    alone = Place(pilot="7", node="gpu1")
    assert [health.blame(FAULT, alone).kind for _ in range(2)] == ["bug", "bug"]
    assert health.blame(FAULT, Place(pilot="8", node="gpu1", shares_gpu=True)).kind == "bug"


def test_failures_that_are_no_faults_of_a_gpu_stay_what_they_are():
    health, _ = made()
    health.blame(FAULT, SHARED)
    assert health.blame(Failure(kind="data", message="x"), SHARED).kind == "data"


def test_a_node_with_a_sick_gpu_is_remembered_but_not_on_one_machine():
    health, _ = made()
    health.blame(SICK, SHARED)
    health.blame(SICK, Place())
    assert health.is_sick(SHARED) and health.is_sick(Place(pilot="9", node="gpu1"))
    assert not health.is_sick(Place(pilot="9", node="gpu2")) and not health.is_sick(Place())


def test_one_cause_of_most_first_failures_is_common():
    health, _ = made([""])
    bug = Failure(kind="bug", message="x", signature="s")
    assert [health.failed(pack, bug) for pack in "pqr"] == [False, False, True]


def test_failures_that_tell_nothing_about_a_pack_do_not_count():
    health, _ = made()
    for kind in ("preempted", "pilot_cancelled", "collateral"):
        assert not health.failed("p", Failure(kind=kind, message="x", signature="s"))
    disk = Failure(kind="disk", message="full", signature="s")
    assert [health.failed(pack, disk) for pack in "pqr"] == [False, False, True]
    lost = Failure(kind="lost", message="x")
    assert not any(health.failed(f"p{number}", lost) for number in range(9))


def test_packs_that_succeed_keep_the_sweep_going():
    health, _ = made()
    for number in range(9):
        health.succeeded(f"done{number}")
    bug = Failure(kind="bug", message="x", signature="s")
    assert not any(health.failed(f"p{number}", bug) for number in range(8))
    assert health.failed("p8", bug)


def divided(health, number, failing):
    """Let the parts a, b and c of a pack end; tell what the failing ones gave."""
    parts = [f"{name}{number}" for name in "abc"]
    health.divided(parts)
    bug, told = Failure(kind="bug", message="x", signature="s"), []
    for part in parts:
        if part[0] in failing:
            told.append(health.failed(part, bug))
        else:
            health.succeeded(part)
    return told


def test_a_divided_pack_counts_once_where_all_its_parts_failed():
    health, _ = made()
    found = [divided(health, number, "abc") for number in range(3)]
    assert found == [[False] * 3, [False] * 3, [False, False, True]]


def test_a_divided_pack_of_which_a_part_succeeds_stops_nothing():
    health, _ = made()
    for number, failing in enumerate(("ab", "bc", "ac") * 3):
        assert not any(divided(health, number, failing))
    bug = Failure(kind="bug", message="x", signature="s")
    assert not any(health.failed(f"p{number}", bug) for number in range(8))
    assert health.failed("p8", bug)
