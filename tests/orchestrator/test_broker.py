import errno
import json
import math
from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from orchestrator import events
from orchestrator.broker import Broker
from orchestrator.events import Journal, Observation
from orchestrator.failures import POLICIES, Failure
from orchestrator.folder import Folder
from orchestrator.halving import Bracket
from orchestrator.worker import Job, Place

BUG = Failure(kind="bug", message="x", signature="s")


def jobs(count, *, encoders=("uni",), lanes=1, **fields):
    return [
        Job(
            pack=f"p{i}", encoder=encoders[i % len(encoders)], kind="k",
            trials=tuple((f"t{i}" if lanes == 1 else f"t{i}.{n}", "{}") for n in range(lanes)),
            **fields,
        )
        for i in range(count)
    ]  # fmt: skip


def make(tmp_path, given_jobs, *, attempts=(), **options):
    folder = Folder(tmp_path / "sweep")
    folder.create()
    journal = Journal(folder, "driver")
    journal.write(
        "planned", trials=[t for job in given_jobs for t, _ in job.trials], cells=1, retried=[],
        packs={job.pack: [t for t, _ in job.trials] for job in given_jobs},
    )  # fmt: skip
    return Broker(given_jobs, attempts=dict(attempts), journal=journal, **options), folder


def draw(broker, worker, **options):
    return broker.draw(worker, **options).assignment


def at(pilot, node="n", **fields):
    return Place(pilot=pilot, node=node, **fields)


def accept(broker, folder, worker, assignment, **fields):
    (folder.segments / f"{assignment.job.pack}-{assignment.attempt}").mkdir(exist_ok=True)
    return broker.accept(worker, assignment, **{"failed": {}, "seconds": 1.0} | fields)


def test_packs_are_handed_out_once_and_in_order(tmp_path):
    broker, _ = make(tmp_path, jobs(3))
    drawn = [broker.draw(f"w{i}") for i in range(4)]
    assert [a.assignment.job.pack for a in drawn[:3]] == ["p0", "p1", "p2"]
    assert drawn[3].assignment is None and drawn[3].reason == "nothing"


def test_a_worker_gets_the_encoder_it_has_in_memory(tmp_path):
    broker, _ = make(tmp_path, jobs(4, encoders=("uni", "virchow2")))
    assert draw(broker, "w", resident="virchow2").job.pack == "p1"
    assert draw(broker, "x", resident="unknown").job.pack == "p0"


def test_attempts_go_on_where_the_last_driver_stopped(tmp_path):
    broker, _ = make(tmp_path, jobs(1), attempts={"p0": 4})
    assert draw(broker, "w").attempt == 5


def test_failures_go_on_where_the_last_driver_stopped(tmp_path):
    broker, folder = make(tmp_path, jobs(1), history={"p0": [("bug", "s")]})
    broker.fail("w", draw(broker, "w"), BUG)
    assert events.progress(folder).failed == {"t0": "bug"}


def test_a_lost_worker_gives_its_pack_back_until_it_is_given_up(tmp_path):
    broker, folder = make(tmp_path, jobs(1))
    for attempt in range(1, POLICIES["lost"].attempts + 1):
        assert draw(broker, f"w{attempt}").attempt == attempt
        broker.lose(f"w{attempt}")
    assert draw(broker, "w") is None
    assert events.progress(folder).failed == {"t0": "lost"}


def test_the_pack_of_a_vanished_pilot_waits_for_a_verdict(tmp_path):
    broker, folder = make(tmp_path, jobs(1))
    draw(broker, "w", place=at("7", "n3"))
    broker.lose("w")
    (lost,) = broker.lost()
    assert (lost.worker, lost.pilot, lost.node) == ("w", "7", "n3")
    assert broker.state()["lost"] == 1 and broker.draw("v").reason == "nothing"
    broker.judge("w", "preempted", "pilot 7 was preempted")
    assert broker.lost() == [] and draw(broker, "v").attempt == 2
    failed = [e for e in events.read_events(folder) if e["event"] == "failed"]
    assert [(e["failure"], e["pilot"], e["node"]) for e in failed] == [("preempted", "7", "n3")]


def test_losing_a_worker_that_holds_nothing_changes_nothing(tmp_path):
    broker, _ = make(tmp_path, jobs(1))
    broker.lose("unknown")
    broker.judge("unknown", "lost", "x")
    assert broker.state()["waiting"] == 1


def test_a_name_that_asks_while_it_holds_a_pack_has_lost_it(tmp_path):
    broker, _ = make(tmp_path, jobs(2))
    draw(broker, "w", place=at("7"))
    draw(broker, "w", place=at("8"))
    assert [one.pilot for one in broker.lost()] == ["7"] and broker.state()["training"] == 1


def test_a_data_error_is_not_tried_again(tmp_path):
    broker, _ = make(tmp_path, jobs(1))
    broker.fail("w", draw(broker, "w"), Failure(kind="data", message="scan A has no tiles"))
    assert draw(broker, "w") is None
    assert broker.state()["failed"] == 1


def test_a_zombie_that_finishes_late_counts_if_it_is_first(tmp_path):
    broker, folder = make(tmp_path, jobs(1))
    zombie = draw(broker, "zombie")
    broker.lose("zombie")
    assert accept(broker, folder, "zombie", zombie)
    assert draw(broker, "w") is None
    assert events.progress(folder).accepted == {"t0": ("p0", 1)}


def test_a_zombie_that_finishes_before_the_verdict_ends_the_wait(tmp_path):
    broker, folder = make(tmp_path, jobs(1))
    zombie = draw(broker, "zombie", place=at("7"))
    broker.lose("zombie")
    assert accept(broker, folder, "zombie", zombie)
    broker.judge("zombie", "node_fail", "x")
    assert broker.lost() == [] and broker.state()["done"] == 1 and draw(broker, "w") is None


def test_the_second_result_of_a_pack_is_refused_and_its_worker_is_told_to_stop(tmp_path):
    broker, folder = make(tmp_path, jobs(1))
    zombie = draw(broker, "zombie")
    broker.lose("zombie")
    again = draw(broker, "w")
    assert not broker.stopping("w") and accept(broker, folder, "zombie", zombie)
    assert broker.report("w", 0.5)
    assert not accept(broker, folder, "w", again)
    assert events.progress(folder).accepted == {"t0": ("p0", 1)}
    assert broker.state()["done"] == 1


def test_a_zombie_that_fails_does_not_queue_what_another_trains(tmp_path):
    broker, _ = make(tmp_path, jobs(1))
    zombie = draw(broker, "zombie")
    broker.lose("zombie")
    draw(broker, "w")
    broker.fail("zombie", zombie, BUG)
    broker.release("zombie", zombie)
    assert broker.state()["waiting"] == 0 and broker.state()["training"] == 1


def test_a_released_pack_costs_nothing_and_comes_first(tmp_path):
    broker, _ = make(tmp_path, jobs(2))
    for _ in range(10):
        broker.release("w", draw(broker, "w"))
    assert draw(broker, "w").job.pack == "p0"


def test_a_released_pack_keeps_the_share_that_is_trained(tmp_path):
    broker, folder = make(tmp_path, jobs(1))
    assignment = draw(broker, "w")
    broker.report("w", 0.6)
    broker.release("w", assignment, reason="time limit")
    assert draw(broker, "v").job.share == 0.6
    assert events.progress(folder).shares == {"p0": 0.6}


def test_out_of_gpu_memory_takes_a_pack_apart_once(tmp_path):
    broker, folder = make(tmp_path, jobs(1, lanes=8))
    full, drawn = Failure(kind="gpu_memory", message="CUDA out of memory", signature="m"), []
    while assignment := draw(broker, "w"):
        drawn.append(len(assignment.job.trials))
        parts = broker.fail("w", assignment, full)
        if drawn[-1] == 8:  # the worker gives them the checkpoint
            assert len(parts) == 2 and set(parts) < set(events.progress(folder).packs)
        else:
            assert parts is None
    state = events.progress(folder)
    assert sorted(drawn) == [4, 4, 8]
    assert set(state.failed.values()) == {"gpu_memory"} and len(state.failed) == 8
    assert sorted(len(state.packs[pack]) for pack in state.planned) == [4, 4]
    assert broker.state()["failed"] == broker.state()["total"] == 8


LOSSES = {
    "a": [], "b": [{"kind": "score", "weight": 1.0}], "c": [{"kind": "coral"}],
    "d": [{"kind": "score", "weight": 2.0}],
}  # fmt: skip


def mixed(number):
    return Job(
        pack=f"p{number}", encoder="uni", kind="k", base=json.dumps({"losses": []}),
        trials=tuple(
            (f"{name}{number}", json.dumps({"losses": each})) for name, each in LOSSES.items()
        ),
    )  # fmt: skip


def train_all(broker, folder, failure, guilty):
    drawn = []
    while assignment := draw(broker, "w"):
        names = "".join(trial[0] for trial, _ in assignment.job.trials)
        drawn.append(names)
        if any(trial.startswith(tuple(guilty)) for trial, _ in assignment.job.trials):
            broker.fail("w", assignment, failure)
        else:
            accept(broker, folder, "w", assignment)
    return drawn


def test_a_bug_of_one_loss_costs_the_trials_of_other_losses_nothing(tmp_path):
    broker, folder = make(tmp_path, [mixed(number) for number in range(5)])
    drawn = train_all(broker, folder, BUG, guilty="c")
    assert drawn == ["abcd", "a", "bd", "c"] * 5
    state = events.progress(folder)
    assert state.failed == {f"c{number}": "bug" for number in range(5)}
    assert len(state.accepted) == 15 and not state.stopped


def test_a_bug_that_is_common_to_all_losses_stops_the_sweep_soon(tmp_path):
    broker, folder = make(tmp_path, [mixed(number) for number in range(9)])
    assert train_all(broker, folder, BUG, guilty="abcd") == ["abcd", "a", "bd", "c"] * 3
    assert events.progress(folder).stopped["reason"] == "breaker"


def test_one_pack_whose_losses_all_fail_does_not_stop_the_sweep(tmp_path):
    broker, folder = make(tmp_path, [mixed(number) for number in range(9)])
    guilty = [f"{name}0" for name in LOSSES]
    train_all(broker, folder, BUG, guilty=guilty)
    state = events.progress(folder)
    assert set(state.failed) == set(guilty) and not state.stopped
    assert len(state.accepted) == 32


def test_a_bug_of_one_of_two_losses_does_not_stop_the_sweep(tmp_path):
    two = [replace(mixed(number), trials=mixed(number).trials[:2]) for number in range(9)]
    broker, folder = make(tmp_path, two)
    train_all(broker, folder, BUG, guilty="b")
    state = events.progress(folder)
    assert len(state.failed) == len(state.accepted) == 9 and not state.stopped


def test_a_pack_that_is_planned_again_after_it_was_divided_keeps_its_checkpoint(tmp_path):
    broker, folder = make(tmp_path, [mixed(0)])
    train_all(broker, folder, BUG, guilty="abcd")
    broker.add([mixed(0)])
    full = Failure(kind="disk", message="full", signature="d")
    assert broker.fail("w", draw(broker, "w"), full) is None


@pytest.mark.parametrize(
    ("kind", "drawn"),
    [
        ("gpu_memory", ["abcd", "ab", "cd", "c", "d"]),
        ("host_memory", ["abcd", "abcd", "a", "bd", "c"]),
        ("lost", ["abcd", "abcd", "abcd", "a", "bd", "c"]),
    ],
)
def test_memory_and_crashes_of_one_loss_cost_the_others_nothing(tmp_path, kind, drawn):
    broker, folder = make(tmp_path, [mixed(0)])
    assert train_all(broker, folder, Failure(kind=kind, message="x"), guilty="c") == drawn
    state = events.progress(folder)
    assert state.failed == {"c0": kind} and set(state.accepted) == {"a0", "b0", "d0"}


@pytest.mark.parametrize("lanes", [2, 8])
def test_lanes_that_do_not_fit_ask_for_a_larger_pilot_where_there_is_one(tmp_path, lanes):
    broker, folder = make(tmp_path, jobs(1, lanes=lanes), larger=True)
    full = Failure(kind="gpu_memory", message="CUDA out of memory")
    broker.fail("w", draw(broker, "w", place=at("7")), full)
    assert broker.draw("w", place=at("7")).reason == "size" and broker.state()["large"] == 1
    large = at("9", size="large")
    assert draw(broker, "x", place=large).job.size == "large"
    assert events.progress(folder).moved["p0"]["size"] == "large"


def test_a_pack_that_does_not_fit_a_larger_pilot_is_taken_apart_there(tmp_path):
    broker, _ = make(tmp_path, jobs(1, lanes=8), larger=True)
    full = Failure(kind="gpu_memory", message="CUDA out of memory")
    broker.fail("w", draw(broker, "w", place=at("7")), full)
    large, drawn = at("9", size="large"), []
    while assignment := draw(broker, "x", place=large):
        drawn.append((len(assignment.job.trials), assignment.job.size))
        broker.fail("x", assignment, full)
    assert drawn == [(8, "large"), (4, "large"), (4, "large")]


def test_out_of_host_memory_is_tried_again_without_neighbours(tmp_path):
    broker, _ = make(tmp_path, jobs(3))
    first, place = draw(broker, "w", place=at("7")), at("7")
    draw(broker, "v", place=place)
    broker.fail("w", first, Failure(kind="host_memory", message="x"))
    last = draw(broker, "w", place=place)
    assert last.job.pack == "p2"
    broker.release("w", last)
    alone = draw(broker, "z", place=at("8"))
    assert alone.job.pack == "p2"
    assert broker.draw("y", place=at("7")).reason == "alone"
    assert draw(broker, "u", place=at("9")).job.alone
    assert broker.draw("t", place=at("9")).reason == "alone"


def test_a_node_with_a_sick_gpu_gets_nothing_more(tmp_path):
    broker, folder = make(tmp_path, jobs(4))
    sick = Failure(kind="sick_gpu", message="CUDA error: uncorrectable ECC error", cuda=True)
    broker.fail("w", draw(broker, "w", place=at("7", "bad")), sick)
    assert broker.draw("w", place=at("8", "bad")).reason == "sick"
    assert draw(broker, "v", place=at("9", "good")).job.pack == "p1"
    assert events.progress(folder).failed == {}


def test_the_sweep_stops_where_one_bug_is_common_to_it(tmp_path):
    broker, folder = make(tmp_path, jobs(9))
    for number in range(3):
        assert broker.state()["stopped"] is None
        broker.fail(f"w{number}", draw(broker, f"w{number}"), BUG)
    reason, message = broker.state()["stopped"]
    assert reason == "breaker" and "x" in message
    assert broker.draw("w").reason == "stopped"
    assert events.progress(folder).stopped["reason"] == "breaker"


def test_a_bug_of_few_packs_does_not_stop_the_sweep(tmp_path):
    broker, folder = make(tmp_path, jobs(20))
    while assignment := draw(broker, "w"):
        if int(assignment.job.pack[1:]) % 3:
            accept(broker, folder, "w", assignment)
        else:
            broker.fail("w", assignment, BUG)
    assert broker.state()["stopped"] is None and broker.state()["failed"] == 7


def test_a_stopped_sweep_asks_for_packs_back_and_says_why_once(tmp_path):
    broker, folder = make(tmp_path, jobs(2))
    draw(broker, "w")
    broker.stop("budget", "2 of 2 GPU-hours are used")
    broker.stop("no pilots", "x")
    assert broker.stopping("w") and broker.state()["stopped"][0] == "budget"
    assert [e["reason"] for e in events.read_events(folder) if e["event"] == "stopped"] == [
        "budget"
    ]


def test_a_held_sweep_hands_out_nothing_and_leaves_what_trains(tmp_path):
    broker, _ = make(tmp_path, jobs(2))
    draw(broker, "w")
    broker.hold(True)
    assert broker.draw("v").reason == "held" and not broker.stopping("w")
    broker.hold(False)
    assert draw(broker, "v").job.pack == "p1"


def test_dropped_trials_leave_the_packs_that_wait(tmp_path):
    broker, folder = make(tmp_path, jobs(2, lanes=2))
    broker.drop(["t0.0", "t1.0", "t1.1"])
    (assignment,) = [draw(broker, "w")]
    assert [trial for trial, _ in assignment.job.trials] == ["t0.1"]
    assert broker.draw("v").reason == "nothing"
    accept(broker, folder, "w", assignment)
    assert events.progress(folder).done == ["t0.1"]
    state = broker.state()
    assert (state["done"], state["failed"], state["total"]) == (1, 3, 4)


def test_a_pack_in_training_stops_once_all_its_trials_are_dropped(tmp_path):
    broker, _ = make(tmp_path, jobs(1, lanes=2))
    assignment = draw(broker, "w")
    broker.drop(["t0.0"])
    assert not broker.stopping("w")
    broker.drop(["t0.1"])
    assert broker.stopping("w")
    broker.release("w", assignment)
    state = broker.state()
    assert state["waiting"] == 0 and state["failed"] == state["total"] == 2


def test_a_pack_that_fails_after_a_drop_goes_on_without_the_dropped(tmp_path):
    broker, _ = make(tmp_path, jobs(1, lanes=4))
    assignment = draw(broker, "w")
    broker.drop(["t0.0", "t0.3"])
    broker.fail("w", assignment, Failure(kind="gpu_memory", message="x"))
    left = [draw(broker, f"w{number}").job.trials for number in range(2)]
    assert sorted(trial for trials in left for trial, _ in trials) == ["t0.1", "t0.2"]
    assert broker.state()["waiting"] == 0


def test_added_packs_join_the_queue_once_and_urgent_ones_go_first(tmp_path):
    broker, _ = make(tmp_path, jobs(1))
    more = Job(pack="q", encoder="uni", trials=(("u", "{}"),), priority=5)
    for _ in range(2):
        broker.add([more])
    assert broker.state()["packs"] == 2 and draw(broker, "w").job.pack == "q"
    broker.add([more])
    assert broker.state()["waiting"] == 1


def test_a_pack_that_was_given_up_or_cancelled_can_be_added_again(tmp_path):
    broker, folder = make(tmp_path, jobs(2))
    broker.fail("w", draw(broker, "w"), Failure(kind="data", message="x"))
    broker.drop(["t1"])
    broker.add(jobs(2))
    for _ in range(2):
        assignment = draw(broker, "w")
        assert not broker.stopping("w") and accept(broker, folder, "w", assignment)
    assert len(events.progress(folder).done) == 2


def test_a_full_disk_loses_no_pack_and_no_event(tmp_path, monkeypatch):
    broker, folder = make(tmp_path, jobs(2))
    first = draw(broker, "w")

    def full(*_):
        raise OSError(errno.ENOSPC, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr("os.fsync", full)
        broker.fail("w", first, Failure(kind="disk", message="full", signature="d"))
        second = draw(broker, "w")
        assert second is not None and broker.state()["waiting"] == 1
    accept(broker, folder, "w", second)
    accept(broker, folder, "w", draw(broker, "w"))
    state = events.progress(folder)
    assert len(state.done) == 2 and state.training == {}
    assert {e["event"] for e in events.read_events(folder)} >= {"failed", "assigned", "accepted"}


def test_what_remains_is_predicted_from_what_packs_took(tmp_path):
    seen = [Observation(kind="k", lanes=1, seconds=s, device="cpu") for s in (90.0, 110.0)]
    broker, _ = make(tmp_path, jobs(3), observations=seen)
    draw(broker, "w", place=at("7"))
    broker.report("w", 0.5)
    assert broker.state()["remaining_s"] == 250.0 and broker.state()["busy"] == {"7": 1}
    unknown, _ = make(tmp_path / "other", jobs(1))
    assert math.isnan(unknown.state()["remaining_s"])


def test_lengths_are_learnt_from_first_attempts_only(tmp_path):
    broker, folder = make(tmp_path, jobs(3))
    broker.release("w", draw(broker, "w"))
    accept(broker, folder, "w", draw(broker, "w"), seconds=5.0)
    assert math.isnan(broker.state()["remaining_s"])
    accept(broker, folder, "w", draw(broker, "w"), seconds=50.0, device="NVIDIA H200")
    assert broker.state()["remaining_s"] == 50.0
    (seen,) = events.progress(folder).observations
    assert (seen.kind, seen.lanes, seen.seconds, seen.device) == ("k", 1, 50.0, "NVIDIA H200")


STEPS = st.lists(
    st.tuples(st.sampled_from("adefghlnorsvz"), st.integers(0, 3), st.integers(0, 9)), max_size=60
)


@settings(max_examples=40, deadline=None)
@given(STEPS)
def test_whatever_workers_do_every_trial_ends_exactly_once(tmp_path_factory, steps):
    broker, folder = make(tmp_path_factory.mktemp("b"), jobs(5, lanes=2), larger=True)
    held, zombies, cancelled = {}, [], set()
    for step, number, any_number in steps:
        worker, place = f"w{number}", at(str(number % 2))
        if step == "d" and worker not in held and (drawn := draw(broker, worker, place=place)):
            held[worker] = drawn
        elif step == "o":
            broker.hold(any_number % 2 == 0)
        elif step == "n":
            trial = f"t{any_number // 2}.{any_number % 2}"
            if trial not in events.progress(folder).accepted:
                Journal(folder, "control").write("cancelled", trials=[trial])
                broker.drop([trial])
                cancelled.add(trial)
        elif step == "v" and (lost := broker.lost()):
            broker.judge(lost[0].worker, "node_fail", "x")
        elif step == "z" and zombies:
            accept(broker, folder, *zombies.pop())
        elif worker in held:
            finish(broker, folder, step, worker, held.pop(worker), zombies)
    broker.hold(False)
    for worker, assignment in held.items():
        accept(broker, folder, worker, assignment)
    for lost in broker.lost():
        broker.judge(lost.worker, "lost", "x")
    for place in (at("big", size="large"), Place()):
        while drawn := draw(broker, "last", place=place):
            accept(broker, folder, "last", drawn)
    state, folded = broker.state(), events.progress(folder)
    if state["stopped"]:
        return
    assert state["waiting"] == state["training"] == state["lost"] == 0
    assert state["done"] + state["failed"] == state["total"] == 10
    assert set(folded.done) | set(folded.given_up) == set(folded.trials)
    assert not set(folded.done) & set(folded.given_up)


def finish(broker, folder, step, worker, assignment, zombies):
    failure = {
        "e": Failure(kind="gpu_memory", message="x"), "f": BUG,
        "g": Failure(kind="host_memory", message="x"),
        "h": Failure(kind="preempted", message="x"),
    }  # fmt: skip
    if step == "a":
        accept(broker, folder, worker, assignment)
    elif step == "l":
        broker.lose(worker)
        zombies.append((worker, assignment))
    elif step in failure:
        broker.fail(worker, assignment, failure[step])
    else:
        broker.release(worker, assignment)


def test_a_rung_is_judged_and_written_down_for_the_next_driver(tmp_path):
    bracket = Bracket("b", 1, 2)
    broker, folder = make(tmp_path, jobs(1))
    assert broker.judge_rung(bracket, 1, {"t0": 1.0, "t1": 2.0}) == ["t0"]
    state = events.progress(folder)
    assert [one["values"] for one in state.rungs] == [{"t0": 1.0, "t1": 2.0}]
    later = Broker([], attempts={}, journal=Journal(folder, "driver"), rungs=state.rungs)
    assert later.judge_rung(bracket, 1, {"t0": 9.0}) == ["t0"]
    assert later.judge_rung(bracket, 1, {"t2": 0.5}) == ["t2"]


def test_retired_trials_are_done_and_their_pack_tells_what_such_packs_take(tmp_path):
    broker, folder = make(tmp_path, jobs(1, lanes=2))
    assert accept(broker, folder, "w", draw(broker, "w"), retired=["t0.1"])
    state = events.progress(folder)
    assert set(state.accepted) == {"t0.0", "t0.1"} and state.retired == {"t0.1"}
    assert [one.kind for one in state.observations] == [jobs(1)[0].kind]
    assert broker._lengths.expected(jobs(1, lanes=2)[0]) == state.observations[0].seconds
    assert (broker.state()["done"], broker.state()["failed"]) == (2, 0)
