"""The terminal: text, `--json` and `--quiet`; the only file that imports rich.

Data go to stdout, everything else to stderr. Colour and boxes appear on a terminal only; piped text
is tab-separated with a header. In JSON mode stdout carries exactly one value, errors included; what
streams is one JSON value a line. No control character of a name reaches a terminal.
"""

import contextlib
import json
import math
import re
import shutil
import sys
import textwrap
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from datetime import datetime
from typing import Any, Literal, ParamSpec

P = ParamSpec("P")
Mode = Literal["text", "json", "quiet"]
PLAIN_PROGRESS_S = 5.0
# What moves a cursor, starts an escape sequence, or turns the direction of writing around.
CONTROL = re.compile(
    "[\x00-\x08\x0b-\x1f\x7f-\x9f\u2028\u2029\u200e\u200f\u202a-\u202e\u2066-\u2069]"
)
CONTROL_IN_JSON = re.compile("[\x7f-\x9f\u2028\u2029\u200e\u200f\u202a-\u202e\u2066-\u2069]")


def clean(text: str) -> str:
    """Write a name of the user on one line, its control characters as escapes."""
    return _visible(text).replace("\n", "\\n").replace("\t", "\\t")


def value(content: Any) -> None:
    """Print one JSON value."""
    sys.stdout.write(_json(content, indent=1) + "\n")


def json_line(content: Any) -> None:
    """Print one JSON value on one line, as streams do, and let it go at once."""
    sys.stdout.write(_json(content) + "\n")
    sys.stdout.flush()


def lines(items: Sequence[str]) -> None:
    """Print one item a line, as --quiet does."""
    for item in items:
        sys.stdout.write(f"{clean(item)}\n")


def block(text: str) -> None:
    """Print lines as they are, but for control characters, and let them go at once."""
    sys.stdout.write(f"{_visible(text)}\n")
    sys.stdout.flush()


def note(text: str, *, hint: str = "", kind: str = "") -> None:
    """Tell the user something on stderr."""
    prefix = f"{kind}: " if kind else ""
    sys.stderr.write(f"{prefix}{_visible(text)}\n")
    if hint:
        sys.stderr.write(f"hint: {_visible(hint)}\n")
    sys.stderr.flush()


def now_and_then(mode: Mode, text: Callable[P, str]) -> Callable[P, None]:
    """Give a function that tells the user the text of its arguments, but not too often."""
    last = time.monotonic()

    def tell(*given: P.args, **named: P.kwargs) -> None:
        nonlocal last
        if mode == "text" and time.monotonic() - last > PLAIN_PROGRESS_S:
            last = time.monotonic()
            note(text(*given, **named))

    return tell


def error(mode: Mode, *, kind: str, message: str, hint: str = "") -> None:
    """Show an error: several problems one a line; in JSON mode one line, as it may end a stream."""
    problems = message.splitlines()
    if mode == "json":
        json_line({"error": {"kind": kind, "problems": problems, "hint": hint}})
    elif len(problems) == 1:
        note(problems[0], hint=hint, kind="error")
    else:
        note("\n  ".join([f"{len(problems)} problems", *problems]), hint=hint, kind="error")


def facts(rows: Sequence[tuple[str, str]], *, width: int = 0) -> None:
    """Print labelled lines on stdout, labels in one column of at least `width` characters."""
    shown = [(clean(label), _visible(text)) for label, text in rows]
    width = max([width, *(len(label) for label, _ in shown)])
    for label, text in shown:
        indented = _wrapped(text, width + 2).replace("\n", "\n" + " " * (width + 2))
        sys.stdout.write(f"{label:<{width}}  {indented}".rstrip() + "\n")


def _wrapped(text: str, indent: int) -> str:
    """Break lines between words so that they fit a terminal; elsewhere they stay."""
    room = shutil.get_terminal_size().columns - indent
    if not sys.stdout.isatty() or room < 20:
        return text
    return "\n".join(part for line in text.split("\n") for part in _broken(line, room))


def _broken(line: str, room: int) -> list[str]:
    """Break one line between words; between columns where it has some."""
    glued = re.sub("(?<! ) (?! )", "\u00a0", line) if "   " in line else line
    parts = textwrap.wrap(glued, room, break_long_words=False, break_on_hyphens=False)
    return [part.replace("\u00a0", " ") for part in parts] or [""]


def table(
    columns: Sequence[str],
    rows: Sequence[Sequence[str]],
    *,
    numeric: int = 0,
    prose: bool = False,
) -> None:
    """Print a table: aligned on a terminal, tab-separated elsewhere.

    Args:
        columns: header.
        rows: cells as text.
        numeric: this many columns, counted from the right, are aligned to the right.
        prose: a further column, the last, has sentences, which may take several lines.
    """
    if not sys.stdout.isatty():
        for row in [columns, *rows]:
            plain = (_visible(cell).replace("\t", " ").replace("\n", " ") for cell in row)
            sys.stdout.write("\t".join(plain) + "\n")
        return
    from rich.box import SIMPLE_HEAD
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    grid = Table(box=SIMPLE_HEAD, show_edge=False, pad_edge=False, collapse_padding=True)
    last = len(columns) - prose
    for position, name in enumerate(columns):
        right = last - numeric <= position < last
        side: Literal["left", "right"] = "right" if right else "left"
        wraps = right or position >= last
        grid.add_column(name.replace("_", " "), justify=side, no_wrap=not wraps, overflow="fold")
    for row in rows:
        grid.add_row(*(Text(clean(cell)) for cell in row))
    Console(soft_wrap=False).print("", grid, "", sep="\n")


def on_terminal() -> bool:
    """Tell whether a person reads stdout."""
    return sys.stdout.isatty()


def next_command(text: str) -> None:
    """Suggest the likely next command, on a terminal only."""
    if sys.stderr.isatty():
        note(f"Next: {text}")


def confirm(question: str) -> bool:
    """Ask on the terminal; anything but yes is no."""
    sys.stderr.write(f"{_visible(question)} [y/N] ")
    sys.stderr.flush()
    return sys.stdin.readline().strip().lower() in ("y", "yes")


def number(amount: float, *, digits: int = 3) -> str:
    """Write a number for people; empty where there is none."""
    return "" if amount != amount else f"{amount:.{digits}f}"


def many(number: int, noun: str) -> str:
    """Count things: `1 trial`, `1,200 trials`."""
    return f"{number:,} {noun}{'' if number == 1 else 's'}"


def duration(seconds: float) -> str:
    """Write a duration for people."""
    if seconds < 90:
        return f"{max(seconds, 0):.0f} s"
    minutes = round(seconds / 60)
    if minutes < 90:
        return f"{minutes} min"
    hours, minutes = divmod(minutes, 60)
    if hours < 48:
        return f"{hours} h {minutes:02d} min"
    return f"{hours // 24} days {hours % 24} h"


def clock(seconds: float) -> str:
    """Write a duration for a column: [days-]h:mm:ss."""
    minutes, second = divmod(max(round(seconds), 0), 60)
    hours, minute = divmod(minutes, 60)
    days, hour = divmod(hours, 24)
    if days:
        return f"{days}-{hour:02d}:{minute:02d}:{second:02d}"
    return f"{hour}:{minute:02d}:{second:02d}"


def hours(amount: float) -> str:
    """Write GPU-hours for people, to two or three digits."""
    return f"{amount:,.0f}" if amount >= 100 else f"{amount:.{3 if amount >= 1 else 2}g}"


def moment(when: datetime, *, now: datetime) -> str:
    """Write a time in this machine's time zone: the hour, and the day unless it is today."""
    here = when.astimezone()
    return f"{here:%H:%M}" if here.date() == now.astimezone().date() else f"{here:%d %b %H:%M}"


@contextlib.contextmanager
def progress(mode: Mode) -> Iterator[Callable[[Mapping[str, Any]], None]]:
    """Show training progress on stderr: a bar on a terminal, a line now and then elsewhere.

    Yields:
        A function to call with the broker's state.
    """
    if mode != "text":
        yield lambda _state: None
    elif sys.stderr.isatty():
        with _bar() as report:
            yield report
    else:
        yield _plain()


def _plain() -> Callable[[Mapping[str, Any]], None]:
    began, last, shown = time.monotonic(), 0.0, ""

    def report(state: Mapping[str, Any]) -> None:
        nonlocal last, shown
        text = _progress_text(state, time.monotonic() - began)
        over = not state["waiting"] and not state["training"]
        if text != shown and (over or not last or time.monotonic() - last > PLAIN_PROGRESS_S):
            last, shown = time.monotonic(), text
            note(text)

    return report


def _progress_text(state: Mapping[str, Any], seconds: float) -> str:
    share = (state["done"] + state["failed"] + state["shares"]) / max(state["total"], 1)
    text = f"{state['done']} of {state['total']} trials done"
    if state["failed"]:
        text += f", {state['failed']} failed"
    text += f", {state['training']} packs training, {state['waiting']} waiting, {share:.0%}"
    if state["held"]:
        text += ", held: no further pack begins"
    elif 0.05 < share < 1:
        text += f", about {duration(seconds * (1 - share) / share)} left"
    return text


@contextlib.contextmanager
def _bar() -> Iterator[Callable[[Mapping[str, Any]], None]]:
    from rich.console import Console
    from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn

    columns = (BarColumn(), TextColumn("{task.description}"), TimeElapsedColumn())
    began = time.monotonic()
    with Progress(*columns, console=Console(stderr=True)) as bars:
        task = bars.add_task("starting workers", total=None)

        def report(state: Mapping[str, Any]) -> None:
            bars.update(
                task,
                total=state["total"],
                completed=state["done"] + state["failed"] + state["shares"],
                description=_progress_text(state, time.monotonic() - began),
            )

        yield report


def _visible(text: str) -> str:
    """Replace control characters, but for line ends and tabs, by their escapes."""
    return CONTROL.sub(lambda found: ascii(found[0])[1:-1], text)


def _json(content: Any, *, indent: int | None = None) -> str:
    try:
        text = json.dumps(content, ensure_ascii=False, indent=indent, allow_nan=False)
    except ValueError:  # NaN is no JSON
        text = json.dumps(_finite(content), ensure_ascii=False, indent=indent)
    # json.dumps leaves out the upper control characters, which some terminals obey.
    return CONTROL_IN_JSON.sub(lambda found: f"\\u{ord(found[0]):04x}", text)


def _finite(content: Any) -> Any:
    """Write numbers that JSON does not have as null."""
    if isinstance(content, float):
        return content if math.isfinite(content) else None
    if isinstance(content, Mapping):
        return {key: _finite(one) for key, one in content.items()}
    return [_finite(one) for one in content] if isinstance(content, list | tuple) else content
