import time
from dataclasses import replace
from datetime import timedelta

import pytest

from cluster.slurm_text import Job
from orchestrator import events, status_text, summary
from tests.orchestrator.stories import BEGAN, Story, compare
from tests.orchestrator.test_render import on_terminal


@pytest.fixture
def story(tmp_path, monkeypatch):
    monkeypatch.setenv("TZ", "UTC")
    time.tzset()
    return Story(tmp_path / "robustness", monkeypatch)


def packs(number, lanes=60):
    return {f"7f{i:02d}": [f"{i:02d}{lane:010x}" for lane in range(lanes)] for i in range(number)}


def busy(story):
    """Tell of a sweep in the middle, with one failure of every kind that a table shows."""
    price = {"gpu_hours": 31.0, "low": 26.0, "high": 38.0, "source": "smoke"}
    story.plan(packs(20), max_gpu_hours=48.0, price=price, cells=24)
    story.pilot(0, "5095791_1", "started", "joined")
    story.pilot(0, "5095791_2", "started", "joined", node="gpu11")
    story.pilot(0, "5095791_3")
    story.pilot(0, "5095791_4", "started", "joined", "left")
    story.tell(0, "launch", "submitted", role="driver", job="5095790", size="normal", gpus=0,
               by="launch", tag="sweep-d")  # fmt: skip
    story.drive(0.1, "5095790")
    for i in range(7):
        story.assign(5 * i, f"7f{i:02d}", pilot=f"5095791_{1 + i % 2}", worker=f"w{i % 2}")
        failed = {"030000000000": "numeric"} if i == 3 else {}
        story.accept(5 * i + 5, f"7f{i:02d}", worker=f"w{i % 2}", failed=failed)
    ids = packs(20)["7f07"]
    story.fail(36, "7f07", "gpu_memory", "CUDA out of memory")
    story.tell(36, "driver", "split", pack="7f07", into={"a": ids[:30], "b": ids[30:]}, reason="")
    story.fail(37, "7f08", "data", "scan '7F\x1b[31m-0312/AT2' has no tiles", final=True)
    story.tell(38, "driver", "excluded", node="gpu09", reason="sick GPU: ECC error")
    for i in (9, 10):
        story.assign(38, f"7f{i:02d}", pilot=f"5095791_{1 + i % 2}", worker=f"w{i % 2}")


def queue():
    running = [
        Job(id=name, state="RUNNING", reason="None", node=node, start=BEGAN, time_left_s=left)
        for name, node, left in [
            ("5095790", "cpu01", 83_400), ("5095791_1", "gpu07", 4740), ("5095791_2", "gpu11", 4740)
        ]
    ]  # fmt: skip
    start = BEGAN + timedelta(hours=2, minutes=20)
    waits = Job(id="5095791_3", state="PENDING", reason="Priority", node="", start=start,
                time_left_s=None)  # fmt: skip
    return {job.id: job for job in [*running, waits]}


def look(story, *, minute, queue=None, running=True):
    told = events.read_events(story.folder)
    state = events.fold(told, events.list_segments(story.folder))
    now = BEGAN + timedelta(minutes=minute)
    return summary.make(told, state, queue, running=running, now=now), state, now


def shown(story, *, minute, queue=None, running=True):
    found, state, now = look(story, minute=minute, queue=queue, running=running)
    status_text.show("robustness", found, state, code="1a2b3c4 (clean)", now=now)
    return f"Next: {status_text.next_command('robustness', found, state)}\n"


def test_a_busy_sweep_looks_so_in_a_pipe(story, capsys):
    busy(story)
    last = shown(story, minute=41, queue=queue())
    compare("status_busy.txt", capsys.readouterr().out + last)


def test_a_busy_sweep_looks_so_on_a_narrow_terminal(story, monkeypatch):
    busy(story)
    with on_terminal(monkeypatch, "dumb") as terminal:
        shown(story, minute=41, queue=queue())
    compare("status_busy_60.txt", terminal.text)
    assert max(map(len, terminal.text.splitlines())) <= 60


def test_a_sweep_whose_slurm_is_away_looks_so(story, capsys):
    busy(story)
    last = shown(story, minute=41)
    compare("status_no_slurm.txt", capsys.readouterr().out + last)


def test_a_finished_sweep_compares_the_price_with_what_was_paid(story, capsys):
    price = {"gpu_hours": 1.0, "low": 0.8, "high": 1.2, "source": "probe"}
    story.plan(packs(1), price=price)
    story.pilot(0, "1", "started", "joined")
    story.drive(0.1)
    story.accept(60, "7f00")
    story.pilot(66, "1", "left", seconds=3960.0)
    story.end(66)
    last = shown(story, minute=90, queue={}, running=False)
    compare("status_done.txt", capsys.readouterr().out + last)


def test_all_queued_says_when_the_first_pilot_starts(story, capsys):
    story.plan(packs(1))
    story.pilot(0, "5095791_3")
    shown(story, minute=1, queue={"5095791_3": queue()["5095791_3"]})
    assert "first pilot starts about 14:20" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("reason", "command"),
    [
        ("breaker", "sweep logs robustness --failed"),
        ("budget", "sweep resume robustness --max-gpu-hours 4"),
        ("no pilots", "sweep resume robustness"),
    ],
)
def test_a_sweep_that_was_stopped_says_why_and_what_helps(story, capsys, reason, command):
    story.plan(packs(2), max_gpu_hours=2.0)
    story.drive(0)
    story.tell(1, "driver", "stopped", reason=reason, message="3 attempts failed alike")
    story.end(2, reason=reason, message="3 attempts failed alike")
    last = shown(story, minute=3, queue={}, running=False)
    text = capsys.readouterr().out
    assert f"{reason}: 3 attempts failed alike" in text and "nothing runs" in text
    assert last == f"Next: {command}\n"


def test_a_held_sweep_says_how_it_goes_on(story, capsys):
    story.plan(packs(2))
    story.tell(1, "control", "held")
    last = shown(story, minute=2, queue={})
    assert "nothing new starts" in capsys.readouterr().out
    assert last == "Next: sweep hold robustness --release\n"


def test_a_driver_that_slurm_holds_is_told_from_one_that_waits(story, capsys):
    story.plan(packs(1))
    story.tell(0, "launch", "submitted", role="driver", job="7", size="normal", gpus=0,
               by="launch", tag="sweep-d")  # fmt: skip
    held = Job(id="7", state="PENDING", reason="launch failed requeued held", node="", start=None,
               time_left_s=None)  # fmt: skip
    shown(story, minute=1, queue={"7": held}, running=False)
    told = capsys.readouterr().out
    assert "7 queued (launch failed requeued held); it never starts, sweep resume" in told
    shown(story, minute=1, queue={"7": replace(held, reason="Priority")})
    assert "7 queued (Priority)\n" in capsys.readouterr().out


def test_a_driver_that_cannot_submit_is_reported(story, capsys):
    story.plan(packs(2))
    story.tell(1, "driver", "unsubmittable", message="sbatch: error: access denied")
    shown(story, minute=2, queue={})
    assert "access denied" in capsys.readouterr().out


def test_many_pilots_are_cut_short(story, capsys):
    story.plan(packs(1))
    for i in range(60):
        story.pilot(0, f"1_{i}", "started", "joined")
    shown(story, minute=1)
    text = capsys.readouterr().out
    assert "and 20 further pilots" in text and "1_39" in text and "1_40" not in text


def test_a_hundred_per_cent_means_all(story, capsys):
    story.plan(packs(1, lanes=1000))
    ids = packs(1, lanes=1000)["7f00"]
    story.accept(1, "7f00", failed={ids[0]: "numeric"})
    shown(story, minute=2, queue={}, running=False)
    assert "999 done" in (text := capsys.readouterr().out) and "99 %" in text


def test_a_line_for_a_log_has_time_name_and_counts(story):
    busy(story)
    found, _, now = look(story, minute=41, queue=queue())
    text = status_text.line("a\tb", found, now=now)
    assert text.startswith("2026-11-23T12:41:00Z  a\\tb  419 done  120 training")


def test_json_has_the_agreed_keys(story):
    busy(story)
    found, state, _ = look(story, minute=41, queue=queue())
    told = status_text.value("robustness", found, state, [])
    assert list(told) == [
        "sweep", "trials", "done", "training", "waiting", "failed", "cells", "running",
        "slurm_reachable", "jobs", "failures", "late_segments", "seconds", "launched", "started",
        "rate_per_min", "left_s", "pilots", "pilots_left", "used_gpu_hours", "max_gpu_hours",
        "price", "causes", "held", "excluded", "stopped", "unsubmittable", "cancelled", "next",
    ]  # fmt: skip
    assert told["failures"] == {"data": 60, "numeric": 1}
    assert told["pilots"][2]["start"] == "2026-11-23T14:20:00+00:00"
