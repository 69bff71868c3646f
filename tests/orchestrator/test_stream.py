import json

import pytest

from orchestrator import jobs, stream
from tests.orchestrator.stories import Story


@pytest.fixture
def story(tmp_path, monkeypatch):
    made = Story(tmp_path / "s", monkeypatch)
    made.plan({"p": ["aa", "ab"], "q": ["ba"]})
    made.tell(1, "launch", "launching", **jobs.identity())
    return made


def script(*steps):
    """Take one step at each pause."""
    left = list(steps)
    return lambda _seconds: left.pop(0)()


def test_new_events_come_as_json_lines_until_nothing_runs(story, capsys):
    stream.follow(
        story.folder, with_driver=False, mode="json",
        sleep=script(
            lambda: story.assign(2, "p"),
            lambda: None,
            lambda: (story.accept(3, "p"), story.tell(4, "launch", "launched")),
        ),
    )  # fmt: skip
    lines = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    names = [line["event"] for line in lines]
    assert names == ["planned", "launching", "assigned", "accepted", "launched"]
    assert lines[2]["pack"] == "p" and lines[2]["writer"].startswith("driver-")


def test_a_sweep_that_does_not_run_shows_what_happened_last_and_ends(story, capsys):
    story.tell(2, "launch", "launched")
    for minute in range(20):
        story.fail(3 + minute, "p", "lost", f"message {minute}", minute)
    stream.follow(story.folder, with_driver=False, mode="text", sleep=script())
    lines = capsys.readouterr().out.splitlines()
    assert len(lines) == stream.RECENT
    assert lines[-1].startswith("12:22:00  failed     pack=p") and "message 19" in lines[-1]


def test_a_hostile_message_stays_on_its_line(story, capsys):
    story.fail(2, "p", "bug", "a\nb\x1b[2J")
    story.tell(3, "launch", "launched")
    stream.follow(story.folder, with_driver=False, mode="text", sleep=script())
    text = capsys.readouterr().out
    assert "\x1b" not in text and "message=a\\nb\\x1b[2J" in text


def test_with_the_driver_its_new_lines_come_too(story, capsys):
    story.tell(2, "launch", "submitted", role="driver", job="9")
    log = story.folder.pool / "submitit" / "9_0_log.out"
    log.parent.mkdir()
    log.write_text("old\n")
    story.tell(3, "driver", "ended", job="9", done=0, failed=0, reason="", message="")

    def more():
        with log.open("a") as file:
            file.write("new line\n")

    stream.follow(
        story.folder, with_driver=True, mode="json",
        sleep=script(more, lambda: story.tell(4, "launch", "launched")),
    )  # fmt: skip
    lines = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    said = [line["line"] for line in lines if line["event"] == "log"]
    assert said == ["new line"]


def test_a_driver_that_has_not_started_is_waited_for(story, capsys):
    story.tell(2, "launch", "submitted", role="driver", job="9")
    story.tell(3, "driver", "ended", job="9", done=0, failed=0, reason="", message="")
    log = story.folder.pool / "submitit" / "9_0_log.out"

    def begin():
        log.parent.mkdir()
        log.write_text("first line\n")

    stream.follow(
        story.folder, with_driver=True, mode="text",
        sleep=script(begin, lambda: story.tell(4, "launch", "launched")),
    )  # fmt: skip
    assert "driver    first line" in capsys.readouterr().out


def test_quiet_prints_the_packs(story, capsys):
    story.accept(2, "p")
    story.tell(3, "launch", "launched")
    stream.follow(story.folder, with_driver=False, mode="quiet", sleep=script())
    assert capsys.readouterr().out == "p\n"
