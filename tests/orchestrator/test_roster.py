from orchestrator import events, fleet, roster
from orchestrator.events import Journal
from orchestrator.folder import Folder
from orchestrator.roster import Roster


def made(tmp_path):
    folder = Folder(tmp_path / "s")
    folder.create()
    return folder, Journal(folder, "pilot")


def start(journal, job):
    journal.write(
        "started", job=job, node="n1", host="h", gpus=1, size="normal", walltime_s=600.0
    )  # fmt: skip


def test_a_tag_tells_the_role_of_its_jobs():
    tags = {roster.new_tag(role) for role in ("driver", "pilot", "pilot")}
    assert len(tags) == 3
    assert sorted(map(roster.role, tags)) == ["driver", "pilot", "pilot"]


def test_pilots_that_have_no_allocation_are_queued(tmp_path):
    folder, journal = made(tmp_path)
    for job in ("1_0", "1_1"):
        journal.write("submitted", role="pilot", job=job, size="normal", gpus=1)
    start(journal, "1_0")
    known = Roster(folder, Journal(folder, "supervisor"), profile=None, own="")
    assert known.queued() == ["1_1"]
    journal.write("left", job="1_0", reason="dismissed", seconds=1.0, oom_kills=0)
    known.read()
    assert [one.job for one in known.alive()] == ["1_1"] and not known.unclear()


def test_a_pilot_ended_by_a_signal_is_unclear_until_slurm_says_whose_it_was(tmp_path):
    folder, journal = made(tmp_path)
    start(journal, "7")
    journal.write("left", job="7", reason="signal SIGTERM", seconds=1.0, oom_kills=0)
    known = Roster(folder, Journal(folder, "supervisor"), profile=None, own="")
    assert known.unclear()
    known.records["7"].state = "CANCELLED"
    assert not known.unclear() and known.num_cancelled() == 1


def test_a_new_launch_forgets_what_pilots_of_earlier_ones_died_of(tmp_path):
    folder, journal = made(tmp_path)
    start(journal, "7")
    journal.write("gone", job="7", state="CANCELLED", seconds=3, node="n1")
    known = Roster(folder, Journal(folder, "supervisor"), profile=None, own="")
    assert known.num_cancelled() == 1
    journal.write("planned", trials=[], cells=0, packs={}, retried=[], mode="all")
    known.read()
    assert known.num_cancelled() == 0


def test_pilots_that_found_no_driver_are_not_held_against_the_next_one(tmp_path):
    folder, journal = made(tmp_path)
    for job in ("7", "8", "9"):
        start(journal, job)
        reason = "error" if job == "9" else "no driver for 10 minutes"
        journal.write("left", job=job, reason=reason, seconds=600.0, oom_kills=0)
    known = Roster(folder, Journal(folder, "supervisor"), profile=None, own="")
    assert fleet.deaths(known.records) == 3
    journal.write("driving", host="h", pid=1, job="12", packs=1)
    known.read()
    assert fleet.deaths(known.records) == 1


def test_pilots_of_an_earlier_launch_that_were_cancelled_are_not_missed_by_this_one(tmp_path):
    folder, journal = made(tmp_path)
    journal.write("submitted", role="pilot", job="7", size="normal", gpus=1)
    journal.write("planned", trials=[], cells=0, packs={}, retried=[], mode="all")
    journal.write("submitted", role="pilot", job="8", size="normal", gpus=1)
    known = Roster(folder, Journal(folder, "supervisor"), profile=None, own="")
    journal.write("gone", job="7", state="CANCELLED", seconds=0, node="")
    known.read()
    assert known.num_cancelled() == 0
    journal.write("gone", job="8", state="CANCELLED", seconds=0, node="")
    known.read()
    assert known.num_cancelled() == 1


def test_pilots_of_a_driver_that_was_handed_more_trials_stay_its_own(tmp_path):
    folder, journal = made(tmp_path)
    journal.write("submitted", role="pilot", job="7", size="normal", gpus=1)
    journal.write("planned", trials=[], cells=0, packs={}, retried=[], mode="added")
    journal.write("gone", job="7", state="CANCELLED", seconds=0, node="")
    known = Roster(folder, Journal(folder, "supervisor"), profile=None, own="")
    assert known.num_cancelled() == 1


def test_pilots_of_a_submission_without_an_answer_are_found_when_they_turn_up(
    tmp_path, monkeypatch
):
    folder, journal = made(tmp_path)
    queue = tmp_path / "queue"
    calls = tmp_path / "calls"
    for name, text in (("squeue", f"echo >> {calls}; cat {queue}"), ("sacct", "")):
        (tmp_path / name).write_text(f"#!/bin/sh\n{text}\n")
        (tmp_path / name).chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:/usr/bin:/bin")
    known = Roster(folder, Journal(folder, "supervisor"), profile=None, own="")
    queue.write_text("")
    known.ask(0.0)
    tags = [roster.new_tag("pilot") for _ in "ab"]
    for tag in tags:
        journal.write("submitting", role="pilot", count=1, tag=tag)
    known.read()
    known.ask(30.0)
    queue.write_text(f"7_[0-1]|PENDING||N/A|10:00|0:00|Priority|{tags[0]}\n")
    known.ask(60.0)
    assert known.queued() == ["7_0", "7_1"]
    assert events.progress(folder).untracked == [tags[1]]
    known.ask(30.0 + roster.SEARCH_S)
    number = calls.read_text().count("\n")
    known.ask(60.0 + roster.SEARCH_S)
    assert calls.read_text().count("\n") == number + 1  # what never came is looked for no more
