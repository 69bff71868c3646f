"""What a beat passes on to a real broker; beats that ask SLURM: tests/slurm/test_pool.py."""

import os

import pytest

from orchestrator import events
from orchestrator.broker import Broker
from orchestrator.events import Journal
from orchestrator.folder import Folder
from orchestrator.supervisor import Supervisor
from orchestrator.worker import Job


@pytest.fixture
def folder(tmp_path):
    made = Folder(tmp_path / "s")
    made.create()
    return made


def job(pack):
    return Job(pack=pack, encoder="e", trials=((f"{pack}-a", "{}"), (f"{pack}-b", "{}")))


def broker(folder, *packs):
    return Broker([job(pack) for pack in packs], attempts={}, journal=Journal(folder, "driver"))


def test_a_running_driver_obeys_what_commands_write_into_the_folder(folder):
    desk = broker(folder, "p", "q")
    supervisor = Supervisor(folder, desk, Journal(folder, "supervisor"), packs=["p", "q"])
    control = Journal(folder, "control")
    control.write("held")
    supervisor.beat(0.0)
    assert desk.draw("w").reason == "held"
    control.write("unheld")
    control.write("cancelled", trials=["p-a", "p-b"])
    supervisor.beat(5.0)
    assert desk.draw("w").assignment.job.pack == "q"
    assert desk.draw("v").reason == "nothing"


def test_a_driver_that_starts_obeys_what_was_written_before(folder):
    control = Journal(folder, "control")
    control.write("held")
    control.write("cancelled", trials=["p-a", "p-b"])
    desk = broker(folder, "p", "q")
    Supervisor(folder, desk, Journal(folder, "supervisor"), packs=["p", "q"])
    assert desk.state()["held"] and desk.state()["waiting"] == 1


def test_on_one_machine_a_training_says_once_a_minute_that_it_lives(folder):
    supervisor = Supervisor(folder, broker(folder, "p"), Journal(folder, "supervisor"))
    for now in (1000.0, 1005.0, 1061.0):
        supervisor.beat(now)
    told = [event for event in events.read_events(folder) if event["event"] == "alive"]
    assert [event["pid"] for event in told] == [os.getpid()] * 2


def test_packs_that_a_launch_hands_over_after_the_last_beat_are_late(folder):
    supervisor = Supervisor(folder, broker(folder, "p"), Journal(folder, "supervisor"))
    fields = {"trials": [], "cells": 0, "packs": {}, "retried": []}
    launch = Journal(folder, "launch")
    launch.write("planned", mode="added", **fields)
    supervisor.beat(0.0)
    launch.write("planned", mode="all", **fields)
    assert not supervisor.late()
    launch.write("planned", mode="added", **fields)
    assert supervisor.late() and not supervisor.late()


def test_an_event_that_could_not_be_obeyed_is_obeyed_at_the_next_beat(folder, monkeypatch):
    desk = broker(folder, "p")
    supervisor = Supervisor(folder, desk, Journal(folder, "supervisor"), packs=["p"])
    Journal(folder, "control").write("held")
    hold = desk.hold

    def refuse(_held):
        raise OSError("the disk is full")

    monkeypatch.setattr(desk, "hold", refuse)
    with pytest.raises(OSError, match="full"):
        supervisor.beat(0.0)
    monkeypatch.setattr(desk, "hold", hold)
    supervisor.beat(5.0)
    assert desk.state()["held"]


def test_an_event_that_is_half_written_is_taken_when_it_is_whole(folder):
    desk = broker(folder, "p")
    supervisor = Supervisor(folder, desk, Journal(folder, "supervisor"), packs=["p"])
    path = folder.events / "control-x.jsonl"
    path.write_text('{"event": "held", "ti')
    supervisor.beat(0.0)
    assert not desk.state()["held"]
    path.write_text(f'{{"event": "held", "time": "{events.now()}"}}\n')
    supervisor.beat(5.0)
    assert desk.state()["held"]
