import json

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
    (folder.events / "odd.jsonl").write_text('1\n{}\n[]\n{"event": "x", "time": "t"}\nnull\n')
    assert [event["event"] for event in events.read_events(folder)] == ["x"]
