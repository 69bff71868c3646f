import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from orchestrator import control, events, jobs, watch
from orchestrator.errors import StoreError, SweepError
from tests.orchestrator.stories import Story
from tests.orchestrator.test_render import on_terminal

PACKS = {f"p{i}": [f"t{i}{lane}" for lane in range(2)] for i in range(6)}


@pytest.fixture
def story(tmp_path, monkeypatch):
    made = Story(tmp_path / "robustness", monkeypatch)
    made.plan(PACKS)
    return made


@pytest.fixture
def trained_here(story):
    """Say that this very process trains the sweep."""
    story.tell(1, "launch", "launching", **jobs.identity())
    story.drive(1)
    story.assign(1, "p0")
    return story


@pytest.fixture
def squeue(tmp_path, monkeypatch):
    """Put a program on PATH that answers as SLURM would, and counts how often it was asked."""
    folder = tmp_path / "bin"
    folder.mkdir()
    count, answer = folder / "asked", folder / "answer"
    program = folder / "squeue"
    program.write_text(f'#!/bin/sh\necho >> "{count}"\nexec cat "{answer}"\n')
    program.chmod(0o755)
    monkeypatch.setenv("PATH", f"{folder}:{os.environ['PATH']}")

    def say(text: str) -> Path:
        answer.write_text(text)
        return count

    return say


def told(story, capsys):
    capsys.readouterr()
    code = watch.status(story.folder, mode="json")
    return code, json.loads(capsys.readouterr().out)


def test_status_asks_slurm_once_and_is_fine_while_the_driver_is_queued(story, squeue, capsys):
    count = squeue("7|PENDING||N/A|1:00:00|0:00|Priority\n7_9|RUNNING|n|N/A|1:00|0:01|None\n")
    story.tell(1, "launch", "submitted", role="driver", job="7", size="normal", gpus=0,
               by="launch", tag="t")  # fmt: skip
    code, value = told(story, capsys)
    assert code == 0 and value["running"] and value["slurm_reachable"]
    assert value["jobs"][0]["state"] == "PENDING" and value["jobs"][0]["reason"] == "Priority"
    assert count.read_text().count("\n") == 1


def test_status_prints_although_slurm_does_not_answer(story, monkeypatch, capsys):
    monkeypatch.setenv("PATH", "")
    story.tell(1, "launch", "submitted", role="driver", job="7")
    assert watch.status(story.folder, mode="text") == 0
    text = capsys.readouterr().out
    assert "not reachable" in text and "12 waiting" in text


def test_a_sweep_with_missing_trials_that_nobody_trains_is_an_error(story, capsys):
    code, value = told(story, capsys)
    assert code == 1 and not value["running"] and value["next"] == "sweep resume robustness"


def test_a_sweep_that_is_done_is_fine(story, capsys):
    for pack in PACKS:
        story.accept(2, pack)
    code, value = told(story, capsys)
    assert code == 0 and value["done"] == 12


def test_quiet_prints_the_ids_to_train(story, capsys):
    story.accept(2, "p0")
    watch.status(story.folder, mode="quiet")
    assert capsys.readouterr().out.split() == [t for p in list(PACKS)[1:] for t in PACKS[p]]


def test_the_code_of_the_launch_is_shown_where_it_is_known(story, capsys):
    story.folder.code.write_text(json.dumps({"commit": "1a2b3c4d5e", "clean": False}))
    watch.status(story.folder, mode="text")
    assert "code 1a2b3c4 (with changes)" in capsys.readouterr().out
    story.folder.code.write_text("[]")
    watch.status(story.folder, mode="text")
    assert "code" not in capsys.readouterr().out


def test_following_ends_with_the_sweep_and_shows_each_look(trained_here, capsys):
    waited = []

    def sleep(seconds):
        waited.append(seconds)
        if len(waited) == 1:
            trained_here.accept(2, "p0")
        else:
            trained_here.tell(3, "launch", "launched")

    code = watch.follow(trained_here.folder, mode="json", sleep=sleep)
    lines = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert [line["done"] for line in lines] == [0, 2, 2]
    assert [line["running"] for line in lines] == [True, True, False]
    assert waited == [30, 30] and code == 1


def test_following_off_a_terminal_prints_a_line_a_look(trained_here, capsys):
    watch.follow(
        trained_here.folder, mode="text",
        sleep=lambda _: trained_here.tell(3, "launch", "launched"),
    )  # fmt: skip
    lines = capsys.readouterr().out.splitlines()
    assert len(lines) == 2 and "2 training" in lines[0] and "nothing runs" in lines[1]


def test_following_on_a_terminal_draws_in_place_and_leaves_the_last_status(
    trained_here, monkeypatch
):
    with on_terminal(monkeypatch) as terminal:
        watch.follow(
            trained_here.folder, mode="text",
            sleep=lambda _: trained_here.tell(3, "launch", "launched"),
        )  # fmt: skip
    drawn, _, last = terminal.text.partition("\x1b[?1049l")
    assert "again every 30 s" in drawn and "Next:" not in drawn
    assert "nothing runs" in last and "Next: sweep resume robustness" in last


@pytest.fixture
def interruptible():
    """Programs that a shell starts in the background ignore Ctrl-C."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


@pytest.mark.usefixtures("interruptible")
def test_ctrl_c_ends_the_watching_only(trained_here):
    def interrupt(_):
        os.kill(os.getpid(), signal.SIGINT)

    with pytest.raises(KeyboardInterrupt):
        watch.follow(trained_here.folder, mode="json", sleep=interrupt)


def test_hold_writes_what_the_driver_obeys_and_release_takes_it_back(trained_here, capsys):
    folder = trained_here.folder
    assert watch.hold(folder, release=False, mode="text") == 0
    assert "packs in training (1) finish" in capsys.readouterr().out
    assert events.progress(folder).held
    assert watch.hold(folder, release=False, mode="json") == 0
    assert json.loads(capsys.readouterr().out)["changed"] is False
    watch.hold(folder, release=True, mode="text")
    assert "hands out packs" in capsys.readouterr().out
    assert not events.progress(folder).held
    watch.hold(folder, release=True, mode="text")
    assert "not held" in capsys.readouterr().out
    written = [event["event"] for event in events.read_events(folder)]
    assert written.count("held") == written.count("unheld") == 1


def test_a_sweep_that_nobody_trains_is_not_held(story):
    with pytest.raises(StoreError, match="does not train"):
        watch.hold(story.folder, release=False, mode="text")


def test_a_held_sweep_without_a_driver_can_be_released_and_resumed(story, capsys):
    control.hold(story.folder)
    watch.hold(story.folder, release=True, mode="text")
    assert "no driver runs" in capsys.readouterr().out
    assert not events.progress(story.folder).held


def test_cancelling_cells_gives_up_their_trials_and_keeps_results(story, capsys):
    story.accept(2, "p0")
    assert watch.cancel(story.folder, where=["arm=erm"], mode="json") == 0
    value = json.loads(capsys.readouterr().out)
    assert value["cancelled_trials"] == ["t10", "t20", "t30", "t40", "t50"]
    assert (value["cells"], value["done"]) == (1, 1)
    state = events.progress(story.folder)
    assert {state.failed[trial] for trial in state.given_up} == {"cancelled"}
    assert state.done == ["t00", "t01"]
    watch.cancel(story.folder, where=["arm=erm"], mode="text")
    assert "0 trials of 1 cell" in capsys.readouterr().out


def test_a_wrong_condition_cancels_nothing(story):
    before = len(events.read_events(story.folder))
    for condition in ("arm=none", "arms=erm", "arm"):
        with pytest.raises(SweepError):
            watch.cancel(story.folder, where=[condition], mode="text")
    assert len(events.read_events(story.folder)) == before


def test_status_imports_nothing_heavy(trained_here):
    heavy = ("torch", "ray", "pandas", "pyarrow", "submitit", "numpy", "rich")
    program = (
        "import sys; from pathlib import Path; from orchestrator import watch;"
        "from orchestrator.folder import Folder;"
        f"watch.status(Folder(Path({str(trained_here.folder.root)!r})), mode='text');"
        f"sys.exit(str([name for name in {heavy!r} if name in sys.modules] or 0))"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True)
    assert done.stderr.strip() == "0"
