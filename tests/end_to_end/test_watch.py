"""The commands that look after a sweep, on a real one that trains on this machine."""

import contextlib
import json
import os
import pty
import signal
import subprocess

import pytest

from orchestrator import events
from orchestrator.folder import Folder
from tests.end_to_end.sweeps import accepted, command, status, sweep, table, wait, write_spec

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def results(tmp_path_factory):
    """Results of a finished sweep."""
    home = tmp_path_factory.mktemp("watched 'sweeps'")
    sweep("launch", write_spec(home), "--results", home / "results")
    return home / "results"


def json_of(*arguments, code=0):
    return json.loads(sweep(*arguments, "--json", code=code).stdout)


@pytest.fixture
def start():
    """Launch a sweep in the background; it ends with the test."""
    launched = []

    def begin(spec, results):
        driver = subprocess.Popen(
            command("launch", spec, "--results", results),
            stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
        )  # fmt: skip
        launched.append(driver)
        folder = Folder(results / "small")
        wait(lambda: folder.events.is_dir() and events.progress(folder).training)
        return driver, folder

    yield begin
    for driver in launched:
        driver.terminate()
        driver.wait(timeout=60)


def test_one_trial_is_found_by_the_start_of_its_id(results):
    trial = events.progress(Folder(results / "small")).trials[3]
    told = json_of("status", "small", "--trial", trial[:9], "--results", results)
    assert told["trial"] == trial and told["state"] == "done"
    assert told["cells"][0]["encoder"] == "tiny" and told["attempts"][0]["outcome"] == "result"
    lines = json_of("logs", "small", trial, "--results", results)["lines"]
    assert lines and all(told["attempts"][0]["pack"] in line for line in lines)


def test_a_damaged_segment_is_found_and_trained_again(results):
    folder = results / "small"
    before = table(folder)
    sweep("status", "small", "--check", "--results", results)
    segment = next(path for path in folder.joinpath("segments").iterdir())
    path = segment / "predictions.parquet"
    path.write_bytes(path.read_bytes()[:200])
    told = json_of("status", "small", "--check", "--results", results, code=1)
    assert list(told["damaged"]) == [segment.name]
    sweep("resume", "small", "--retry", "damaged", "--results", results)
    assert json_of("status", "small", "--check", "--results", results)["damaged"] == {}
    assert table(folder) == before


def test_a_finished_sweep_is_watched_and_followed_to_its_end_at_once(results):
    watched = sweep("status", "small", "--watch", "--json", "--results", results, timeout=20)
    assert [json.loads(line)["done"] for line in watched.stdout.splitlines()] == [16]
    followed = sweep("logs", "small", "--follow", "--json", "--results", results, timeout=20)
    assert json.loads(followed.stdout.splitlines()[-1])["event"] == "launched"


def test_only_one_view_at_a_time(results):
    both = sweep("status", "small", "--failed", "--check", "--results", results, code=2)
    assert "only one at a time" in both.stderr


def test_a_sweep_that_does_not_train_is_not_held(results):
    done = sweep("hold", "small", "--results", results, code=1)
    assert "does not train" in done.stderr


def test_cancelled_cells_are_left_out_and_trained_again_when_asked(tmp_path, start):
    # Long packs: those of the arm, which come last, must wait yet when it is cancelled.
    spec, results = write_spec(tmp_path, epochs=400), tmp_path / "results"
    driver, _ = start(spec, results)
    told = json_of("cancel", "small", "--where", "arm=infonce", "--results", results)
    assert told["cells"] == 2 and told["cancelled_trials"]
    assert driver.wait(timeout=240) == 1
    state = status(results / "small")
    assert state["done"] + state["failures"]["cancelled"] == 16
    assert sweep("status", "small", "--failed", "-q", "--results", results, code=1).stdout
    sweep("resume", "small", "--results", results, code=1)
    assert status(results / "small")["failures"] == state["failures"]
    sweep("resume", "small", "--retry", "cancelled", "--results", results)
    assert status(results / "small")["done"] == 16


def test_a_held_sweep_starts_nothing_until_it_is_released(tmp_path, start):
    # Many packs: some must be left when the driver reads the hold, however fast the machine is.
    spec, results = write_spec(tmp_path, seeds=16, epochs=40), tmp_path / "results"
    driver, folder = start(spec, results)
    sweep("hold", "small", "--results", results)
    assert status(results / "small")["held"]
    wait(lambda: not events.progress(folder).training)
    packs = accepted(results / "small")
    assert packs > 0 and status(results / "small")["running"]
    sweep("hold", "small", "--release", "--results", results)
    assert driver.wait(timeout=240) == 0
    assert accepted(results / "small") > packs


def test_watching_on_a_terminal_ends_with_ctrl_c_and_the_sweep_goes_on(tmp_path, start):
    spec, results = write_spec(tmp_path, epochs=100), tmp_path / "results"
    driver, _ = start(spec, results)
    ours, theirs = pty.openpty()
    watching = subprocess.Popen(
        command("status", "small", "--watch", "--results", results),
        stdin=theirs, stdout=theirs, stderr=theirs, start_new_session=True,
        env={**os.environ, "TERM": "xterm", "COLUMNS": "80", "LINES": "24"},
    )  # fmt: skip
    os.close(theirs)
    shown = os.read(ours, 4096)
    while b"again every 30 s" not in shown:
        shown += os.read(ours, 4096)
    watching.send_signal(signal.SIGINT)
    with contextlib.suppress(OSError):  # the end of a terminal
        while part := os.read(ours, 4096):
            shown += part
    os.close(ours)
    assert watching.wait(timeout=30) == 130
    assert b"16 trials" in shown and b"\x1b[?1049l" in shown
    assert driver.poll() is None
    driver.send_signal(signal.SIGINT)
    assert driver.wait(timeout=60) == 130
