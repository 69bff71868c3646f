from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from orchestrator import fleet
from orchestrator.fleet import LARGE, NORMAL, Actions, Pilot, View, decide


def pilots(text):
    """`q` queued, `s` starting, `i` idle, `b` busy, `l` leaving; a capital is a large one."""
    phases = {"q": "queued", "s": "starting", "i": "serving", "b": "serving", "l": "leaving"}
    return tuple(
        Pilot(
            job=f"{at}",
            size=LARGE if mark.isupper() else NORMAL,
            phase=phases[mark.lower()],
            busy=int(mark.lower() == "b"),
        )
        for at, mark in enumerate(text)
    )


def view(marks="", **changes):
    return View(**{"waiting": 0, "wanted": 4, **changes}, pilots=pilots(marks))


@pytest.mark.parametrize(
    ("seen", "actions"),
    [
        # as many as are useful, never more than the profile's
        (view("", waiting=2), Actions(submit={NORMAL: 2})),
        (view("", waiting=9), Actions(submit={NORMAL: 4})),
        (view("bb", waiting=9), Actions(submit={NORMAL: 2})),
        (view("bs", waiting=1), Actions()),
        (view("bi", waiting=1), Actions()),
        (view("b", lost=1), Actions(submit={NORMAL: 1})),
        (view("", waiting=4, workers=2), Actions(submit={NORMAL: 2})),
        (view("q", waiting=9, queued_max=2), Actions(submit={NORMAL: 1})),
        (view("bbbl", waiting=9), Actions(submit={NORMAL: 1})),
        # nothing waits: queued ones are cancelled, idle ones leave, those that train stay
        (view("qsibl"), Actions(cancel=("0",), dismiss=("1", "2"))),
        (view("qib", waiting=5, held=True), Actions(cancel=("0",), dismiss=("1",))),
        (view("bqqq", waiting=1), Actions(cancel=("2", "3"))),
        # large ones for the packs that need them
        (view("bb", waiting=3, large=1), Actions(submit={LARGE: 1, NORMAL: 1})),
        (view("bS", waiting=1, large=1), Actions()),
        (view("iS", waiting=1, large=1), Actions(dismiss=("0",))),
        # not now, not ever
        (view("b", waiting=9, may_submit=False), Actions()),
        (view("b", waiting=9, can_submit=False), Actions()),
        (view("", waiting=9, may_submit=False), Actions()),
        (view("q", waiting=9, deaths=3), Actions()),
        (view("b", waiting=9, wanted=1), Actions()),
    ],
)
def test_pilots_follow_the_work(seen, actions):
    assert decide(seen) == actions


@pytest.mark.parametrize(
    ("seen", "reason"),
    [
        (view("", waiting=1, deaths=3), "no pilots"),
        (view("", waiting=1, wanted=0), "no pilots"),
        (view("", waiting=1, can_submit=False), "no pilots"),
        (view("", waiting=1, can_submit=False, obstacle="refused"), "cannot submit"),
        (view("b", waiting=1, spent=2.0, budget=2.0), "budget"),
    ],
)
def test_a_sweep_that_cannot_go_on_is_stopped_with_a_message(seen, reason):
    assert decide(seen).stop[0] == reason and decide(seen).stop[1]


def test_packs_that_are_too_large_for_the_only_pilot_there_can_be_end_the_sweep():
    own = (Pilot(job="1", size=NORMAL, phase="serving", fixed=True),)
    stuck = View(waiting=2, large=2, wanted=1, pilots=own, can_submit=False, obstacle="no sbatch")
    assert decide(stuck).stop == ("cannot submit", "no sbatch")
    assert decide(View(waiting=3, large=2, wanted=1, pilots=own, can_submit=False)).stop is None


def test_between_the_rounds_of_a_search_pilots_stay_for_a_while():
    assert decide(view("qsibl", more=True)) == Actions()
    rested = replace(pilots("i")[0], idle_s=fleet.IDLE_S)
    assert decide(View(waiting=0, wanted=4, more=True, pilots=(rested,))).dismiss == ("0",)
    assert decide(View(waiting=1, wanted=4, more=True, pilots=(rested,))).dismiss == ()
    own = replace(rested, fixed=True)
    assert decide(View(waiting=0, wanted=4, more=True, pilots=(own,))) == Actions()
    assert decide(view("qsib", more=True, held=True)).cancel == ("0",)
    assert decide(view("qsib", more=True, spent=1.0, budget=0.5)).dismiss == ("1", "2", "3")


def test_over_the_budget_every_pilot_goes_and_leaves_checkpoints():
    assert decide(view("qsib", waiting=4, spent=1.0, budget=0.5)).dismiss == ("1", "2", "3")
    assert decide(view("qsib", waiting=4, stopped=True)).cancel == ("0",)


def test_the_drivers_own_allocation_is_not_dismissed():
    own = Pilot(job="7", size=NORMAL, phase="serving", fixed=True)
    for seen in (View(waiting=0, wanted=1, pilots=(own,)),
                 View(waiting=1, wanted=1, pilots=(own,), stopped=True)):  # fmt: skip
        assert decide(seen) == Actions()


views = st.builds(
    View,
    waiting=st.integers(0, 20),
    lost=st.integers(0, 3),
    more=st.booleans(),
    held=st.booleans(),
    stopped=st.booleans(),
    pilots=st.text("qsiblQSIBL", max_size=10).map(pilots),
    wanted=st.integers(0, 8),
    workers=st.integers(1, 4),
    queued_max=st.integers(1, 5),
    can_submit=st.booleans(),
    may_submit=st.booleans(),
    deaths=st.integers(0, 4),
    spent=st.floats(0, 2),
    budget=st.none() | st.just(1.0),
).flatmap(
    lambda made: st.integers(0, made.waiting).map(
        lambda large: View(
            **{name: getattr(made, name) for name in made.__slots__} | {"large": large}
        )
    )
)


@given(views)
def test_no_decision_breaks_a_bound(seen):
    actions = decide(seen)
    by_job = {pilot.job: pilot for pilot in seen.pilots}
    queued = sum(pilot.phase == "queued" for pilot in seen.pilots)
    submitted = sum(actions.submit.values())
    if submitted:
        assert not (seen.held or seen.stopped or actions.stop) and seen.waiting + seen.lost
        assert seen.can_submit and seen.may_submit and seen.deaths < fleet.DEATHS_MAX
        assert seen.budget is None or seen.spent < seen.budget
        assert queued + submitted <= seen.queued_max
        staying = sum(pilot.phase != "leaving" for pilot in seen.pilots)
        assert staying + submitted <= seen.wanted
        assert submitted <= seen.waiting + seen.lost
    assert all(by_job[job].phase == "queued" for job in actions.cancel)
    assert all(by_job[job].phase in ("starting", "serving") for job in actions.dismiss)
    trains = {pilot.job for pilot in seen.pilots if pilot.busy}
    if not seen.stopped and not actions.stop:
        assert not trains & set(actions.dismiss)


@given(views)
def test_work_is_never_left_without_a_pilot_a_submission_or_a_word(seen):
    actions = decide(seen)
    waits = seen.waiting + seen.lost and not (seen.held or seen.stopped)
    if waits and not seen.pilots and seen.may_submit:
        assert actions.submit or actions.stop


def noted(*events):
    records = {}
    for event in events:
        fleet.note(records, {"time": "2026-11-23T20:00:00+00:00", **event})
    return records


def submitted(*jobs):
    return [{"event": "submitted", "role": "pilot", "job": job, "size": NORMAL} for job in jobs]


def ended(job, state="FAILED", **more):
    return {"event": "gone", "job": job, "state": state, **more}


def test_records_follow_the_events():
    started = {"event": "started", "job": "2", "node": "n1", "size": NORMAL}
    records = noted(
        {"event": "submitted", "role": "driver", "job": "1"},
        *submitted("2", "3"),
        started,
        {"event": "joined", "job": "2"},
    )
    assert [(one.job, one.phase) for one in records.values()] == [("2", "serving"), ("3", "queued")]
    assert records["2"].node == "n1" and records["2"].joined
    assert noted(*submitted("2"), {"event": "left", "job": "2", "reason": "x"})["2"].phase == "over"
    again = noted(started, {"event": "left", "job": "2", "reason": "x"}, started)
    assert again["2"].phase == "starting"


def test_deaths_count_until_one_joins_and_not_those_that_were_sent_away():
    assert fleet.deaths(noted(*submitted("1", "2", "3"), ended("1"), ended("2"))) == 2
    joined = {"event": "joined", "job": "2"}
    assert fleet.deaths(noted(*submitted("1", "2", "3"), ended("1"), joined, ended("3"))) == 1
    for state in ("CANCELLED", "PREEMPTED", "NODE_FAIL"):
        assert fleet.deaths(noted(*submitted("1"), ended("1", state))) == 0
    left = {"event": "left", "job": "1", "reason": "dismissed"}
    assert fleet.deaths(noted(*submitted("1"), left)) == 0
