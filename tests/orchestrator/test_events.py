import errno
import json
import pickle
import time

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from orchestrator import events
from orchestrator.events import Journal, fold
from orchestrator.folder import Folder


def planned(trials, packs, *, retried=()):
    return {
        "event": "planned", "trials": trials, "cells": 1, "packs": packs, "retried": list(retried)
    }  # fmt: skip


def accepted(pack, attempt, *, failed=None, seconds=1.0):
    return {
        "event": "accepted", "pack": pack, "attempt": attempt, "failed": failed or {},
        "seconds": seconds,
    }  # fmt: skip


def test_nothing_launched_is_an_empty_state():
    state = fold([], [])
    assert state.trials == () and state.to_train == [] and state.drivers == []


def test_the_first_accepted_event_decides():
    plan = planned(["t1"], {"p": ["t1"], "q": ["t1"]})
    state = fold([plan, accepted("p", 2), accepted("q", 1)], [("p", 2), ("q", 1)])
    assert state.accepted == {"t1": ("p", 2)}


def test_a_segment_without_an_event_counts_by_lowest_attempt():
    plan = planned(["t1"], {"p": ["t1"], "q": ["t1"]})
    state = fold([plan], [("q", 1), ("p", 2)])
    assert state.accepted == {"t1": ("q", 1)}
    assert state.late == [("p", 2)]


def test_a_late_zombie_is_reported_and_changes_nothing():
    plan = planned(["t1"], {"p": ["t1"]})
    state = fold([plan, accepted("p", 2)], [("p", 1), ("p", 2)])
    assert state.accepted == {"t1": ("p", 2)}
    assert state.late == [("p", 1)]


def test_a_dead_lane_is_failed_and_its_neighbours_are_done():
    plan = planned(["a", "b"], {"p": ["a", "b"]})
    state = fold([plan, accepted("p", 1, failed={"b": "numeric"})], [("p", 1)])
    assert state.done == ["a"] and state.failed == {"b": "numeric"}
    assert state.to_train == ["b"]


def test_a_failed_attempt_is_not_a_failed_trial_until_it_is_final():
    plan = planned(["a"], {"p": ["a"]})
    failed = {"event": "failed", "pack": "p", "attempt": 1, "failure": "bug", "final": False}
    assert fold([plan, failed], []).failed == {}
    assert fold([plan, failed, {**failed, "final": True}], []).failed == {"a": "bug"}


def test_planning_a_trial_again_takes_its_failure_back():
    plan = planned(["a"], {"p": ["a"]})
    failed = {"event": "failed", "pack": "p", "attempt": 1, "failure": "bug", "final": True}
    again = planned(["a"], {"p": ["a"]}, retried=["a"])
    assert fold([plan, failed, again], []).failed == {}


def test_a_retired_trial_is_done_until_it_is_planned_again(tmp_path):
    history = [planned(["t", "u"], {"p": ["t", "u"]}), accepted("p", 1) | {"retired": ["t"]}]
    state = fold(history, [("p", 1)])
    assert (set(state.accepted), state.retired) == ({"t", "u"}, {"t"})
    history.append(planned(["t", "u"], {"q": ["t"]}, retried=["t"]))
    state = fold(history, [("p", 1)])
    assert (set(state.accepted), state.retired) == ({"u"}, set())
    state = fold([*history, accepted("q", 1)], [("p", 1), ("q", 1)])
    assert (state.accepted["t"], state.retired) == (("q", 1), set())


def test_training_is_forgotten_when_a_new_driver_starts():
    plan = planned(["a"], {"p": ["a"]})
    assigned = {"event": "assigned", "pack": "p", "attempt": 3, "worker": "w"}
    driving = {"event": "driving", "host": "h", "pid": 1, "job": ""}
    state = fold([plan, driving, assigned], [])
    assert state.training == {"a": "w"} and state.attempts == {"p": 3}
    assert fold([plan, driving, assigned, driving], []).training == {}


def test_an_edited_plan_keeps_results_of_trials_that_remain():
    first = planned(["a", "b"], {"p": ["a", "b"]})
    second = planned(["b", "c"], {"q": ["c"]})
    state = fold([first, accepted("p", 1), second], [("p", 1)])
    assert state.done == ["b"] and state.to_train == ["c"]


@settings(max_examples=50)
@given(st.lists(st.sampled_from(["accept", "fail", "lose", "segment"]), max_size=12))
def test_whatever_happens_a_trial_is_in_one_state(steps):
    history = [planned(["a", "b"], {"p": ["a", "b"]})]
    segments = []
    for attempt, step in enumerate(steps, 1):
        if step == "accept":
            history.append(accepted("p", attempt))
            segments.append(("p", attempt))
        elif step == "segment":
            segments.append(("p", attempt))
        else:
            kind = "bug" if step == "fail" else "lost"
            history.append(
                {"event": "failed", "pack": "p", "attempt": attempt, "failure": kind,
                 "final": attempt > 2}
            )  # fmt: skip
    state = fold(history, segments)
    for trial in state.trials:
        assert (trial in state.done) + (trial in state.given_up) + (trial in state.training) <= 1
    assert bool(segments) == (state.done == ["a", "b"])


def test_a_torn_line_is_left_out_and_writers_are_merged_in_time(tmp_path):
    folder = Folder(tmp_path / "s w'ëep")
    folder.create()
    first, second = Journal(folder, "launch"), Journal(folder, "driver")
    first.write("one", name="ü \n '\"")
    second.write("two")
    first.write("three")
    path = folder.events / f"{first.writer}.jsonl"
    path.write_bytes(path.read_bytes() + b'{"event": "torn", "ti')
    read = events.read_events(folder)
    assert [event["event"] for event in read] == ["one", "two", "three"]
    assert read[0]["name"] == "ü \n '\"" and read[1]["writer"] == second.writer
    assert all(json.dumps(event) for event in read)


def test_unfinished_segments_are_not_listed(tmp_path):
    folder = Folder(tmp_path / "s")
    folder.create()
    for name in ("abc-1", "abc-10", ".abc-2-host-ff", "stray"):
        (folder.segments / name).mkdir()
    assert events.list_segments(folder) == [("abc", 1), ("abc", 10)]


def test_only_packs_of_the_last_launch_are_planned():
    first = planned(["a", "b"], {"p": ["a", "b"]})
    second = planned(["a", "b"], {"q": ["a"], "r": ["b"]})
    assert fold([first, second], []).planned == ("q", "r")


def test_clocks_that_differ_between_hosts_lose_nothing():
    plan = planned(["a"], {"p": ["a"]})
    assert fold([accepted("p", 1), plan], [("p", 1)]).done == ["a"]


def test_a_driver_job_counts_until_it_says_that_it_ended():
    submitted = {"event": "submitted", "role": "driver", "job": "12"}
    assert fold([submitted], []).drivers == ["12"]
    assert fold([submitted, {"event": "ended", "job": "12"}], []).drivers == []


def test_a_late_segment_does_not_revive_a_lane_that_died():
    plan = planned(["a", "b"], {"p": ["a", "b"]})
    state = fold([plan, accepted("p", 2, failed={"b": "numeric"})], [("p", 1), ("p", 2)])
    assert state.done == ["a"] and state.failed == {"b": "numeric"}


def test_lines_that_are_no_events_are_left_out(tmp_path):
    folder = Folder(tmp_path / "s")
    folder.create()
    good = '{"event": "x", "time": "2026-11-23T12:00:00+00:00"}'
    (folder.events / "odd.jsonl").write_text(f'1\n{{}}\n[]\n{good}\nnull\n{{"event": "x"}}\n')
    assert [event["event"] for event in events.read_events(folder)] == ["x"]


def test_a_line_that_another_copy_of_the_journal_left_half_swallows_nothing(tmp_path):
    folder = Folder(tmp_path / "s")
    folder.create()
    journal = Journal(folder, "driver")
    copy = pickle.loads(pickle.dumps(journal))
    journal.write("one")
    path = folder.events / f"{journal.writer}.jsonl"
    path.write_bytes(path.read_bytes() + b'{"event": "ha')
    copy.write("two")
    journal.write("three")
    assert [event["event"] for event in events.read_events(folder)] == ["one", "two", "three"]


def test_an_event_that_met_a_full_disk_is_written_before_the_next(tmp_path, monkeypatch):
    folder = Folder(tmp_path / "s")
    folder.create()
    journal = Journal(folder, "driver")

    def full(*_):
        raise OSError(errno.ENOSPC, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr("os.open", full)
        journal.note("one")
        with pytest.raises(OSError):
            journal.write("lost")
    journal.note("two")
    assert [event["event"] for event in events.read_events(folder)] == ["one", "two"]


def test_journals_are_readable_by_those_who_may_read_the_folder(tmp_path):
    for share, mode in (("private", 0o600), ("group", 0o640)):
        folder = Folder(tmp_path / share)
        folder.create(share)
        Journal(folder, "launch").write("one")
        assert [p.stat().st_mode & 0o777 for p in folder.events.iterdir()] == [mode]


def test_a_result_counts_only_while_its_segment_is_there():
    plan = planned(["t1"], {"p": ["t1"]})
    first, second = accepted("p", 1), accepted("p", 2)
    assert fold([plan, first], []).to_train == ["t1"]
    assert fold([plan, first, second], [("p", 2)]).accepted == {"t1": ("p", 2)}
    dead = accepted("p", 1, failed={"t1": "numeric"})
    assert fold([plan, dead], []).failed == {}


def test_added_packs_join_those_that_are_planned():
    first = planned(["a"], {"p": ["a"]}) | {"time": T1, "max_gpu_hours": 3.0}
    more = planned(["a", "b"], {"q": ["b"]}) | {"time": T2, "mode": "added"}
    state = fold([first, more], [])
    assert state.planned == ("p", "q") and state.trials == ("a", "b")
    assert state.launch_time == T1 and state.max_gpu_hours == 3.0


def test_the_parts_of_a_pack_take_its_place():
    plan = planned(["a", "b", "c"], {"p": ["a", "b"], "q": ["c"]})
    split = {"event": "split", "pack": "p", "into": {"x": ["a"], "y": ["b"]}, "reason": "bug"}
    state = fold([plan, split, accepted("y", 1)], [("y", 1)])
    assert state.planned == ("x", "y", "q") and state.done == ["b"]
    assert fold([plan, {**split, "into": {}}], []).planned == ("q",)


def test_cancelled_trials_are_given_up_until_they_are_planned_again():
    plan = planned(["a", "b"], {"p": ["a", "b"]})
    cancelled = {"event": "cancelled", "trials": ["a", "b"]}
    state = fold([plan, accepted("p", 1, failed={"b": "numeric"}), cancelled], [("p", 1)])
    assert state.done == ["a"] and state.failed == {"b": "cancelled"}
    again = planned(["a", "b"], {"q": ["b"]}, retried=["b"])
    assert fold([plan, cancelled, again], []).failed == {"a": "cancelled"}
    assert fold([plan, cancelled, again], []).cancelled == {"a"}


def test_a_sweep_is_held_until_it_is_not():
    held, unheld = {"event": "held"}, {"event": "unheld"}
    assert fold([held], []).held and not fold([held, unheld], []).held


def test_a_new_launch_forgets_why_the_last_one_stopped():
    stopped = {"event": "stopped", "reason": "breaker", "message": "m"}
    gone = {"event": "excluded", "node": "n1", "reason": "sick GPU"}
    cannot = {"event": "unsubmittable", "message": "refused"}
    plan = planned(["a"], {"p": ["a"]})
    state = fold([plan, stopped, gone, cannot], [])
    assert state.stopped["reason"] == "breaker" and state.excluded == {"n1": "sick GPU"}
    assert state.unsubmittable == "refused"
    state = fold([plan, stopped, gone, cannot, plan], [])
    assert (state.stopped, state.excluded, state.unsubmittable) == ({}, {}, "")


def test_a_submission_without_an_outcome_is_remembered_by_its_tag():
    tags = [{"event": "submitting", "role": "pilot", "count": 1, "tag": name} for name in "abc"]
    done = {"event": "submitted", "role": "pilot", "job": "7", "tag": "a"}
    refused = {"event": "refused", "role": "pilot", "tag": "b"}
    assert fold([*tags, done, refused], []).untracked == ["c"]


def started(job, time, *, gpus=2, walltime_s=7200.0):
    return {
        "event": "started", "time": time, "job": job, "node": "n1", "host": "n1", "gpus": gpus,
        "size": "normal", "walltime_s": walltime_s,
    }  # fmt: skip


T0, T1, T2, T3 = (f"2026-11-23T1{hour}:00:00+00:00" for hour in range(4))


def test_gpu_hours_count_pilots_from_the_launch_to_their_ends():
    plan = planned(["a"], {"p": ["a"]}) | {"time": T0}
    left = {"event": "left", "time": T2, "job": "1", "reason": "r", "seconds": 3600.0}
    gone = {"event": "gone", "time": T3, "job": "2", "state": "NODE_FAIL", "seconds": 1800}
    history = [plan, started("1", T1), started("2", T1), started("3", T2, gpus=1), left, gone]
    state = fold(history, [])
    assert state.gpu_hours(T3) == pytest.approx(2 + 1 + 1)
    assert state.pilots["1"].reason == "r" and state.pilots["2"].state == "NODE_FAIL"
    assert fold([*history, plan | {"time": T2}], []).gpu_hours(T3) == pytest.approx(1)


def test_a_pilot_whose_end_nobody_saw_is_counted_to_its_limit():
    assert fold([started("1", T0, walltime_s=600.0)], []).gpu_hours(T3) == pytest.approx(1 / 3)
    assert fold([{"event": "submitted", "role": "pilot", "job": "9"}], []).gpu_hours(T3) == 0


def test_gpu_hours_of_a_driver_inside_a_pilot_survive_its_requeue():
    killed = [started("1", T0, walltime_s=3600.0), started("1", T2)]
    assert fold(killed, []).gpu_hours(T3) == pytest.approx(2 * 2)
    left = {"event": "left", "job": "1", "time": T1, "reason": "signal", "seconds": 1800.0}
    orderly = [started("1", T0), left, started("1", T2)]
    assert fold(orderly, []).gpu_hours(T3) == pytest.approx(2 * 1.5)


def test_journals_of_the_first_version_still_fold():
    history = [
        {"event": "launching", "writer": "launch-1", "host": "h", "pid": 1, "created": 1.0},
        planned(["a", "b"], {"p": ["a"], "q": ["b"]}) | {"cluster": "local"},
        {"event": "submitted", "role": "driver", "job": "1"},
        {"event": "submitted", "role": "pilot", "job": "2"},
        {"event": "driving", "host": "h", "pid": 1, "job": "1", "packs": 2},
        {"event": "assigned", "pack": "p", "attempt": 1, "worker": "w"},
        {"event": "failed", "pack": "p", "attempt": 1, "worker": "w", "failure": "bug",
         "message": "m", "trace": "", "final": True},
        {"event": "assigned", "pack": "q", "attempt": 1, "worker": "w"},
        {"event": "released", "pack": "q", "attempt": 1, "worker": "w"},
        {"event": "accepted", "pack": "q", "attempt": 2, "worker": "w", "failed": {}, "seconds": 2},
        {"event": "ended", "job": "1", "done": 1, "failed": 1},
    ]  # fmt: skip
    state = fold(history, [("q", 2)])
    assert state.done == ["b"] and state.failed == {"a": "bug"} and state.drivers == []
    assert state.observations == [] and state.max_gpu_hours is None and state.gpu_hours(T3) == 0


TRIALS = [f"t{number}" for number in range(6)]
PACKS = {"p": TRIALS[:3], "q": TRIALS[3:], "x": TRIALS[:2], "y": TRIALS[2:3]}
ATTEMPT = {"pack": st.sampled_from(sorted(PACKS)), "attempt": st.integers(1, 3)}
EVENT = st.one_of(
    st.fixed_dictionaries({"event": st.just("assigned"), "worker": st.just("w"), **ATTEMPT}),
    st.fixed_dictionaries({
        "event": st.just("accepted"), **ATTEMPT, "seconds": st.just(1.0), "kind": st.just("k"),
        "failed": st.dictionaries(st.sampled_from(TRIALS), st.just("numeric"), max_size=2),
        "lanes": st.just(2), "device": st.just("cpu"),
    }),
    st.fixed_dictionaries({
        "event": st.just("failed"), **ATTEMPT, "failure": st.sampled_from(["bug", "lost"]),
        "message": st.just("m"), "final": st.booleans(), "signature": st.just("s"),
    }),
    st.fixed_dictionaries({"event": st.just("released"), **ATTEMPT, "share": st.floats(0, 1)}),
    st.fixed_dictionaries({
        "event": st.just("cancelled"), "trials": st.lists(st.sampled_from(TRIALS), max_size=2),
    }),
    st.just({"event": "split", "pack": "p", "into": {k: PACKS[k] for k in "xy"}, "reason": "r"}),
    st.just({"event": "driving", "host": "h", "pid": 1, "job": "1", "packs": 1}),
)  # fmt: skip


@settings(max_examples=200, deadline=None)
@given(st.lists(EVENT, max_size=20), st.sets(st.tuples(*ATTEMPT.values())), st.randoms())
def test_whatever_the_order_and_copies_of_events_a_trial_has_one_result_or_none(
    history, there, random
):
    plan = planned(TRIALS, {pack: PACKS[pack] for pack in "pq"})
    split = {"event": "split", "pack": "p", "into": {k: PACKS[k] for k in "xy"}, "reason": "r"}
    told = [plan, split, *history, *random.sample(history, len(history) // 2)]
    random.shuffle(told)
    segments = sorted(there, key=lambda key: (key[1], key[0]))
    state = fold(told, segments)
    for trial in TRIALS:
        assert (trial in state.accepted) + (trial in state.failed) <= 1
        if trial in state.accepted:
            assert state.accepted[trial] in there
            assert trial in PACKS[state.accepted[trial][0]] and trial not in state.training
    assert set(state.unjudged).isdisjoint(state.late)
    lanes_died = any(event["event"] == "accepted" and event["failed"] for event in history)
    for pack, _ in segments:
        assert lanes_died or set(PACKS[pack]) <= state.accepted.keys()


@settings(max_examples=50, deadline=None)
@given(st.lists(EVENT, max_size=12), st.integers(0, 2000))
def test_a_journal_cut_anywhere_is_the_journal_of_an_earlier_moment(
    tmp_path_factory, history, place
):
    folder = Folder(tmp_path_factory.mktemp("cut") / "s")
    folder.create()
    lines = [
        json.dumps({"time": f"2026-11-23T10:00:{second:02}+00:00", **event})
        for second, event in enumerate([planned(TRIALS, {"p": TRIALS[:3]}), *history])
    ]
    text = "".join(f"{line}\n" for line in lines).encode()[: max(1, place)]
    (folder.events / "driver.jsonl").write_bytes(text)
    whole = text.count(b"\n") + text.endswith(b"}")
    assert len(events.read_events(folder)) in (whole, text.count(b"\n"))


def test_ten_thousand_trials_fold_in_the_time_of_a_command(tmp_path):
    packs = {f"p{i}": [f"t{i}.{n}" for n in range(4)] for i in range(2500)}
    history = [planned([t for ids in packs.values() for t in ids], packs)]
    for pack in packs:
        history.append({"event": "assigned", "pack": pack, "attempt": 1, "worker": "w"})
        history.append(accepted(pack, 1))
    segments = [(pack, 1) for pack in packs]
    began = time.process_time()
    assert len(fold(history, segments).done) == 10_000
    assert time.process_time() - began < 0.5
