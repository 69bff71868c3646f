"""The pool gives and takes: late pilots help, preempted work goes on; orderings, never seconds."""

import pytest

from tests.chaos import elasticity, ledger

pytestmark = [pytest.mark.slurm, pytest.mark.usefixtures("testbed")]


@pytest.fixture
def bench(tmp_path):
    return elasticity.Bench(folder=tmp_path.resolve())


def test_a_list_schedule_gives_each_pack_to_the_place_that_is_free_first():
    assert elasticity.makespan([3, 2, 2, 1], [0, 0]) == 4
    assert elasticity.makespan([1, 1, 1, 1], [0, 10]) == 4
    assert elasticity.makespan([5], [2]) == 7


def test_a_pilot_that_starts_at_half_time_shortens_the_sweep(bench):
    found = elasticity.schedule(elasticity.late_pilot(bench))
    print(found, f"{found.excess:+.0%}")  # noqa: T201
    assert len(found.by_pilot) == 2 and min(found.by_pilot) >= 1
    assert found.by_pilot[0] > found.by_pilot[1]
    assert found.wall_s < found.serial_s


def test_preempted_work_goes_on_from_its_checkpoint(bench):
    moved = elasticity.preempted(bench, "scavg")
    known, root = moved.known, bench.root("moved-scavg")
    print(f"stopped after {moved.stopped}, kept {moved.kept}")  # noqa: T201
    assert moved.stopped, "no pack was in training when the pilots were preempted"
    for pack, epoch in moved.stopped.items():
        assert moved.kept[pack] == epoch, "what was trained before the stop is in the checkpoint"
    assert {event["pack"] for event in known.of("released")} >= set(moved.stopped)
    assert {event["failure"] for event in known.of("failed")} <= {"preempted"}
    assert len(known.segments) == len({pack for pack, _ in known.segments})
    assert ledger.results(root).keys() == set(known.trials)
