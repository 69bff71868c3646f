import math
from datetime import timedelta

import pytest

from cluster.slurm_text import Job
from orchestrator import events, summary
from tests.orchestrator.stories import BEGAN, Story


@pytest.fixture
def story(tmp_path, monkeypatch):
    return Story(tmp_path / "robustness", monkeypatch)


def packs(number, lanes=2):
    return {f"p{i}": [f"t{i}{lane}" for lane in range(lanes)] for i in range(number)}


def summed(story, *, minute, queue=None, running=True):
    told = events.read_events(story.folder)
    state = events.fold(told, events.list_segments(story.folder))
    now = BEGAN + timedelta(minutes=minute)
    return summary.make(told, state, queue, running=running, now=now)


def job(name, state="RUNNING", *, node="gpu07", left=3600, start=None, reason="None"):
    return Job(id=name, state=state, reason=reason, node=node, start=start, time_left_s=left)


def test_a_sweep_that_was_only_planned_has_no_rate_and_no_time(story):
    story.plan(packs(3))
    found = summed(story, minute=1)
    assert (found.trials, found.waiting, found.done) == (6, 6, 0)
    assert math.isnan(found.rate_per_min) and math.isnan(found.left_s) and found.started is None


def test_every_trial_is_counted_once(story):
    story.plan(packs(5))
    story.drive(1)
    for pack in ("p0", "p1", "p2"):
        story.assign(1, pack)
    story.accept(2, "p0", failed={"t01": "numeric"})
    story.fail(3, "p1", "data", "no tiles", final=True)
    found = summed(story, minute=4)
    counts = (found.done, found.training, found.waiting, found.failed)
    assert counts == (1, 2, 4, 3) and sum(counts) == found.trials


@pytest.mark.parametrize("into", [{}, {"p9": ["t00"]}])
def test_a_pack_whose_trials_the_user_cancelled_did_not_fail(story, into):
    story.plan(packs(2))
    story.drive(1)
    story.tell(2, "driver", "split", pack="p0", into=into, reason="cancelled")
    assert summed(story, minute=3).causes == ()


def test_nothing_trains_where_nothing_runs(story):
    story.plan(packs(2))
    story.drive(1)
    story.assign(1, "p0")
    found = summed(story, minute=2, running=False)
    assert (found.training, found.waiting) == (0, 4) and math.isnan(found.left_s)


def test_the_rate_counts_the_last_packs_and_falls_while_none_ends(story):
    story.plan(packs(100))
    story.drive(0)
    for minute in range(1, 31):
        story.accept(minute, f"p{minute}")
    assert summed(story, minute=30).rate_per_min == pytest.approx(2)
    later = summed(story, minute=50)
    assert later.rate_per_min == pytest.approx(1)
    assert later.left_s == pytest.approx(60 * later.waiting)


def test_the_rate_forgets_what_an_earlier_driver_did(story):
    story.plan(packs(10))
    story.drive(0)
    story.accept(1, "p0")
    story.drive(100)
    assert math.isnan(summed(story, minute=101).rate_per_min)
    story.accept(102, "p1")
    assert summed(story, minute=102).rate_per_min == pytest.approx(1)


def test_pilots_show_what_slurm_and_the_events_say(story):
    story.plan(packs(6))
    story.pilot(0, "1_0", "started", "joined")
    story.pilot(0, "1_1", "started", "joined", node="gpu11")
    story.pilot(0, "1_2", "started")
    story.pilot(0, "1_3")
    story.pilot(0, "1_4", "started", "joined", "left")
    story.pilot(0, "1_5", "started", "joined", "draining")
    story.drive(1, "9")
    story.assign(1, "p0", pilot="1_0", worker="a")
    story.accept(2, "p0", worker="a")
    story.assign(2, "p1", pilot="1_0", worker="a")
    start = BEGAN + timedelta(hours=2)
    queue = {name: job(name) for name in ("1_0", "1_1", "1_2", "1_5", "9")}
    queue["1_3"] = job("1_3", "PENDING", node="", start=start, reason="Priority")
    found = summed(story, minute=3, queue=queue)
    rows = {pilot.job: pilot for pilot in found.pilots}
    assert {name: row.state for name, row in rows.items()} == {
        "1_0": "training", "1_1": "idle", "1_2": "starting", "1_3": "queued", "1_5": "draining"
    }  # fmt: skip
    assert (rows["1_0"].lanes, rows["1_0"].done, rows["1_1"].done) == (2, 2, 0)
    assert rows["1_3"].start == start and rows["1_3"].reason == "Priority"
    assert found.left == {"time limit": 1} and found.first_start is None


def test_the_first_start_is_told_where_all_pilots_are_queued(story):
    story.plan(packs(1))
    story.pilot(0, "1_0")
    story.pilot(0, "1_1")
    starts = [BEGAN + timedelta(hours=hours) for hours in (3, 2)]
    queue = {
        f"1_{i}": job(f"1_{i}", "PENDING", start=start, left=None) for i, start in enumerate(starts)
    }
    assert summed(story, minute=1, queue=queue).first_start == starts[1]


def test_without_slurm_the_events_decide_which_pilots_are_there(story):
    story.plan(packs(1))
    story.pilot(0, "1_0", "started", "joined")
    story.pilot(0, "1_1")
    story.pilot(0, "1_2", "started", "left")
    found = summed(story, minute=1)
    assert not found.reachable
    assert [(p.job, p.state) for p in found.pilots] == [("1_0", "idle"), ("1_1", "queued")]


def test_a_pilot_that_slurm_no_longer_has_is_not_shown(story):
    story.plan(packs(1))
    story.pilot(0, "1_0", "started", "joined")
    assert summed(story, minute=1, queue={}).pilots == ()


def test_gpu_hours_are_those_of_the_pilots(story):
    story.plan(packs(1), max_gpu_hours=48.0)
    story.pilot(0, "1_0", "started", "joined", gpus=4)
    found = summed(story, minute=30)
    assert found.used == pytest.approx(2) and found.most == 48


def test_a_price_that_nobody_knows_is_none(story):
    story.plan(packs(1), price={"gpu_hours": math.nan, "low": math.nan, "high": math.nan})
    assert summed(story, minute=1).price is None


def test_failures_say_what_was_done_about_them(story):
    story.plan(packs(4, lanes=4))
    story.drive(0)
    story.fail(1, "p0", "gpu_memory", "out of memory")
    story.tell(1, "driver", "split", pack="p0", into={"a": ["t00", "t01"], "b": ["t02", "t03"]},
               reason="gpu_memory")  # fmt: skip
    story.fail(2, "p1", "lost", "worker w1 vanished")
    story.fail(3, "p2", "data", "no tiles", final=True)
    causes = {cause.kind: cause for cause in summed(story, minute=4).causes}
    assert (causes["gpu_memory"].split, causes["gpu_memory"].lanes) == (1, 2)
    assert causes["gpu_memory"].again == 0 and causes["lost"].again == 1
    assert causes["data"].trials == 4 and causes["data"].message == "no tiles"


def test_failures_of_an_earlier_launch_are_history(story):
    story.plan(packs(1))
    story.fail(1, "p0", "bug", "boom", final=True)
    story.plan(packs(1), minute=2)
    assert summed(story, minute=3).causes == ()


def test_added_packs_do_not_begin_a_new_history(story):
    story.plan(packs(1))
    story.fail(1, "p0", "bug", "boom")
    more = {"trials": ["t00", "t01", "x"], "packs": {"q": ["x"]}, "retried": ["x"]}
    story.tell(2, "launch", "planned", **more, cells=2, cluster="c", mode="added")
    found = summed(story, minute=3)
    assert [cause.kind for cause in found.causes] == ["bug"] and found.trials == 3


def test_events_of_an_older_version_still_add_up(story):
    story.tell(0, "launch", "planned", trials=["a"], cells=1, packs={"p": ["a"]}, retried=["a"],
               cluster="local")  # fmt: skip
    story.tell(0, "launch", "submitted", role="pilot", job="1")
    story.drive(1)
    story.tell(2, "driver", "assigned", pack="p", attempt=1, worker="w")
    story.tell(3, "driver", "failed", pack="p", attempt=1, worker="w", failure="bug", message="m",
               trace="", final=True)  # fmt: skip
    found = summed(story, minute=4, queue={"1": job("1")})
    assert found.failed == 1 and [pilot.state for pilot in found.pilots] == ["starting"]
