import contextlib
import json
from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from orchestrator import render, screen

HOSTILE = "a\x1b[31m\tb\nc\x07\x9b2J\u202e"


class Terminal:
    """A stream that says it is a terminal and keeps what it is given."""

    def __init__(self) -> None:
        self.text = ""

    def isatty(self) -> bool:
        return True

    def write(self, text: str) -> int:
        self.text += text
        return len(text)

    def flush(self) -> None:
        pass


@contextlib.contextmanager
def on_terminal(monkeypatch, term="xterm"):
    """Put a terminal of 60 columns and 12 lines in place of stdout and stderr."""
    made = Terminal()
    for name, text in {"COLUMNS": "60", "LINES": "12", "TERM": term}.items():
        monkeypatch.setenv(name, text)
    with contextlib.redirect_stdout(made), contextlib.redirect_stderr(made):
        yield made


def printed(draw, capsys):
    draw()
    done = capsys.readouterr()
    return done.out + done.err


@pytest.mark.parametrize(
    "draw",
    [
        lambda: render.facts([(HOSTILE, HOSTILE)]),
        lambda: render.table(["A"], [[HOSTILE]]),
        lambda: render.lines([HOSTILE]),
        lambda: render.note(HOSTILE, hint=HOSTILE),
        lambda: render.block(HOSTILE),
        lambda: render.value({"name": HOSTILE}),
        lambda: render.json_line({"name": HOSTILE}),
        lambda: render.error("text", kind="x", message=HOSTILE),
    ],
)
def test_no_control_character_of_a_name_is_printed(draw, capsys, monkeypatch):
    with on_terminal(monkeypatch) as terminal:
        draw()
    for text in (terminal.text, printed(draw, capsys)):
        assert not any(mark in text for mark in ("\x1b[31m", "\x07", "\x9b", "\u202e"))


def test_ids_stay_one_a_line(capsys):
    assert printed(lambda: render.lines(["a\nb"]), capsys) == "a\\nb\n"


@given(st.text())
def test_json_reads_back_as_it_was(name):
    assert json.loads(render._json({"name": name}))["name"] == name


def test_what_json_does_not_have_is_null(capsys):
    text = printed(lambda: render.value({"a": [float("nan"), 1.5, ("b", float("inf"))]}), capsys)
    assert json.loads(text) == {"a": [None, 1.5, ["b", None]]}


def test_a_stream_is_one_json_value_a_line(capsys):
    lines = printed(
        lambda: [render.json_line({"n": n, "text": "a\nb"}) for n in (1, 2)], capsys
    ).splitlines()
    assert [json.loads(line)["n"] for line in lines] == [1, 2]


def test_piped_tables_are_separated_by_tabs_under_a_header(capsys):
    text = printed(lambda: render.table(["A", "B"], [["x\ty", "1"]], numeric=1), capsys)
    assert text == "A\tB\nx y\t1\n"


def test_facts_are_broken_between_words_on_a_narrow_terminal(monkeypatch):
    counts = "1,200 done   12.5 trials/min   about 3 h left"
    with on_terminal(monkeypatch) as terminal:
        render.facts([("used", "word " * 20), ("", counts)])
    lines = terminal.text.splitlines()
    assert max(map(len, lines)) <= 60
    assert all(line.startswith("used  ") or line.startswith("      ") for line in lines)
    assert "12.5 trials/min" in terminal.text and "about 3 h left" in terminal.text


def test_facts_are_not_broken_off_a_terminal(capsys):
    text = printed(lambda: render.facts([("used", "word " * 40)]), capsys)
    assert len(text.splitlines()) == 1


@pytest.mark.parametrize(("name", "text"), [("NO_COLOR", "1"), ("TERM", "dumb")])
def test_colour_is_off_where_the_user_says_so(monkeypatch, name, text):
    with on_terminal(monkeypatch) as terminal:
        monkeypatch.setenv(name, text)
        render.table(["A"], [["x"]])
    assert not any(f"\x1b[{code}" in terminal.text for code in range(30, 50))
    assert name != "TERM" or "\x1b" not in terminal.text


def test_a_table_fits_a_narrow_terminal_and_its_prose_wraps(monkeypatch):
    rows = [["1", "5095791_1", "240", "starts about 14:20 (Priority) " * 3]]
    columns = ["Pilot", "SLURM id", "Done", "Time left"]
    with on_terminal(monkeypatch, "dumb") as terminal:
        render.table(columns, rows, numeric=1, prose=True)
    assert max(len(line) for line in terminal.text.splitlines()) <= 60
    assert "5095791_1" in terminal.text


def test_a_picture_is_drawn_in_one_place_and_the_terminal_given_back(monkeypatch):
    with on_terminal(monkeypatch) as terminal, screen.take() as redraw:
        for _ in range(2):
            redraw(lambda: render.block("\n".join(map(str, range(40)))))
    shown = terminal.text
    assert shown.startswith(screen.ENTER) and shown.endswith(screen.LEAVE)
    first, second = shown.removeprefix(screen.ENTER).split("\x1b[H")[1:]
    assert first.count("\n") < 12 and "…" in first
    assert second.count("\n") == first.count("\n")


def test_the_terminal_is_given_back_when_interrupted(monkeypatch):
    interrupted = pytest.raises(KeyboardInterrupt)
    with on_terminal(monkeypatch) as terminal, interrupted, screen.take():
        raise KeyboardInterrupt
    assert terminal.text.endswith(screen.LEAVE)


def test_a_dumb_terminal_gets_one_picture_below_the_other(monkeypatch):
    with on_terminal(monkeypatch, "dumb") as terminal, screen.take() as redraw:
        redraw(lambda: render.block("a"))
        redraw(lambda: render.block("b"))
    assert terminal.text == "a\nb\n"


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(-3, "0 s"), (5, "5 s"), (100, "2 min"), (7199, "2 h 00 min"), (7260, "2 h 01 min"),
     (200_000, "2 days 7 h")],
)  # fmt: skip
def test_durations_read_well(seconds, text):
    assert render.duration(seconds) == text


@pytest.mark.parametrize(
    ("seconds", "text"), [(0, "0:00:00"), (4740, "1:19:00"), (90_061, "1-01:01:01")]
)
def test_columns_show_a_clock(seconds, text):
    assert render.clock(seconds) == text


@pytest.mark.parametrize(
    ("amount", "text"),
    [(0, "0"), (0.034, "0.034"), (31.0, "31"), (10.94, "10.9"), (1234.5, "1,234")],
)
def test_gpu_hours_have_two_or_three_digits(amount, text):
    assert render.hours(amount) == text


def test_a_time_names_its_day_unless_it_is_today():
    now = datetime.now(UTC)
    assert len(render.moment(now, now=now)) == 5
    assert len(render.moment(now + timedelta(days=2), now=now)) == 12


def test_things_are_counted():
    assert render.many(1, "trial") == "1 trial" and render.many(1200, "trial") == "1,200 trials"


def test_an_error_is_one_line_of_json_as_it_may_end_a_stream(capsys):
    render.error("json", kind="interrupted", message="one\ntwo", hint="the same")
    (line,) = capsys.readouterr().out.splitlines()
    wanted = {"kind": "interrupted", "problems": ["one", "two"], "hint": "the same"}
    assert json.loads(line) == {"error": wanted}


def test_progress_says_that_the_sweep_is_held(capsys):
    state = {"done": 2, "total": 8, "failed": 0, "shares": 0.0, "training": 0, "waiting": 3}
    with render.progress("text") as report:
        report({**state, "held": True})
    assert "0 packs training, 3 waiting, 25%, held: no further pack" in capsys.readouterr().err
