"""The whole line on this machine: launch, status, kill, resume, aggregate; by real processes."""

import contextlib
import csv
import json
import os
import pty
import signal
import subprocess

import psutil
import pytest

from orchestrator import events
from orchestrator.folder import Folder
from tests.end_to_end.sweeps import (
    NUM_CELLS,
    accepted,
    command,
    kill_driver,
    status,
    sweep,
    table,
    wait,
    write_spec,
)  # fmt: skip

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory):
    """A finished local sweep and the folder of its spec."""
    home = tmp_path_factory.mktemp("with space 'and' quote")
    spec = write_spec(home)
    done = sweep("launch", spec, "--results", home / "results")
    assert "16 of 16 trials done" in done.stderr
    return home


def test_a_sweep_leaves_one_row_per_cell_with_every_column(undisturbed):
    rows = list(csv.DictReader(table(undisturbed / "results" / "small").decode().splitlines()))
    assert len(rows) == NUM_CELLS
    columns = (
        "encoder", "arm", "trials", "accuracy", "auroc", "balanced_accuracy", "inconsistency",
        "flip_rate", "worst_scanner_auroc", "unseen_scanner_auroc",
    )  # fmt: skip
    for row in rows:
        assert row["trials"] == "4"
        assert all(row[column] for column in columns)
        assert 0 <= float(row["auroc"]) <= 1 and float(row["inconsistency"]) >= 0
    assert [row["losses.embedding.weight"] for row in rows[2:]] == ["0.1", "1.0"]


def test_launching_again_trains_nothing(undisturbed):
    results = undisturbed / "results"
    before = accepted(results / "small")
    done = sweep("launch", undisturbed / "small.yaml", "--results", results)
    assert "16 done, 0 to train" in done.stderr
    assert accepted(results / "small") == before


def test_resume_of_a_finished_sweep_trains_nothing(undisturbed):
    done = sweep("resume", "small", "--results", undisturbed / "results", "--json")
    assert json.loads(done.stdout)["done"] == 16


def test_status_tells_the_same_in_three_ways(undisturbed):
    results = undisturbed / "results"
    told = status(results / "small")
    assert (told["done"], told["waiting"], told["failed"], told["running"]) == (16, 0, 0, False)
    assert "16 done" in sweep("status", "small", "--results", results).stdout
    assert sweep("status", "small", "--results", results, "--quiet").stdout == ""


def test_an_added_seed_trains_only_what_is_new(undisturbed, tmp_path):
    spec = write_spec(undisturbed, seeds=3)
    try:
        planned = sweep("launch", spec, "--results", undisturbed / "results", "--dry-run", "--json")
    finally:
        write_spec(undisturbed, seeds=2)
    told = json.loads(planned.stdout)
    assert (told["trials"], told["done"], told["to_train"]) == (24, 16, 8)


def test_packing_does_not_change_a_table(undisturbed, tmp_path):
    profile = tmp_path / "one worker.yaml"
    profile.write_text("kind: local\nworkers: 1\nlanes_max: 3\n")
    results = tmp_path / "results"
    sweep("launch", undisturbed / "small.yaml", "--results", results, "--cluster", profile)
    assert table(results / "small") == table(undisturbed / "results" / "small")


def test_nothing_is_left_running_and_no_scratch(undisturbed):
    pids = {event["pid"] for event in events.read_events(Folder(undisturbed / "results" / "small"))
            if event["event"] == "driving"}  # fmt: skip
    assert pids and not any(psutil.pid_exists(pid) for pid in pids)


def test_a_driver_killed_in_the_middle_resumes_to_the_same_table(tmp_path):
    spec = write_spec(tmp_path, seeds=3, epochs=12)
    quiet, killed = tmp_path / "quiet", tmp_path / "killed"
    sweep("launch", spec, "--results", quiet)
    driver = subprocess.Popen(
        command("launch", spec, "--results", killed),
        stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
    )  # fmt: skip
    wait(lambda: accepted(killed / "small") >= 1)
    kinds = [process for process in psutil.Process(driver.pid).children(recursive=True)]
    assert kill_driver(killed / "small") == driver.pid
    driver.wait(timeout=30)
    _, alive = psutil.wait_procs(kinds, timeout=30)
    assert alive == []
    told = status(killed / "small")
    assert 0 < told["done"] < told["trials"] and not told["running"]
    sweep("resume", "small", "--results", killed)
    assert table(killed / "small") == table(quiet / "small")


def test_a_worker_killed_in_the_middle_costs_one_attempt(tmp_path):
    spec = write_spec(tmp_path, seeds=2, epochs=200)
    results = tmp_path / "results"
    driver = subprocess.Popen(
        command("launch", spec, "--results", results),
        stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
    )  # fmt: skip
    folder = Folder(results / "small")
    wait(lambda: folder.events.is_dir() and events.progress(folder).training)
    family = psutil.Process(driver.pid)
    wait(lambda: any("Trainable.train" in p.name() for p in family.children(recursive=True)))
    next(p for p in family.children(recursive=True) if "Trainable.train" in p.name()).kill()
    assert driver.wait(timeout=200) == 0
    told = events.read_events(folder)
    assert [event["failure"] for event in told if event["event"] == "failed"] == ["lost"]
    assert status(results / "small")["done"] == 16


def test_the_plan_is_shown_before_training_begins(tmp_path):
    spec = write_spec(tmp_path)
    driver = subprocess.Popen(
        command("launch", spec, "--results", tmp_path / "results"),
        stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True,
    )  # fmt: skip
    first = next(line for line in driver.stderr if not line.startswith("warning: "))
    assert first.startswith("small")
    assert accepted(tmp_path / "results" / "small") == 0
    driver.communicate(timeout=200)
    assert driver.returncode == 0


def test_a_launch_on_a_terminal_shows_a_bar_and_obeys_ctrl_c(tmp_path):
    spec = write_spec(tmp_path, epochs=200)
    ours, theirs = pty.openpty()
    driver = subprocess.Popen(
        command("launch", spec, "--results", tmp_path / "results"),
        stdin=theirs, stdout=theirs, stderr=theirs, start_new_session=True,
    )  # fmt: skip
    os.close(theirs)
    folder = Folder(tmp_path / "results" / "small")
    wait(lambda: folder.events.is_dir() and events.progress(folder).training)
    driver.send_signal(signal.SIGINT)
    shown = b""
    with contextlib.suppress(OSError):  # the end of a terminal
        while part := os.read(ours, 4096):
            shown += part
    os.close(ours)
    assert driver.wait(timeout=60) == 130
    assert b"of 16 trials done" in shown and b"interrupted" in shown and b"bug" not in shown
    assert not status(folder.root)["running"]
