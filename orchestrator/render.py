"""The terminal: text, `--json` and `--quiet`; the only file that imports rich.

Data go to stdout, everything else to stderr. Colour and boxes appear on a terminal only; piped text
is tab-separated with a header. In JSON mode stdout carries exactly one value, errors included.
"""

import contextlib
import json
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, Literal

Mode = Literal["text", "json", "quiet"]
PLAIN_PROGRESS_S = 5.0


def value(content: Any) -> None:
    """Print one JSON value."""
    sys.stdout.write(json.dumps(content, ensure_ascii=False, indent=1) + "\n")


def lines(items: Sequence[str]) -> None:
    """Print one item a line, as --quiet does."""
    for item in items:
        sys.stdout.write(f"{item}\n")


def note(text: str, *, hint: str = "", kind: str = "") -> None:
    """Tell the user something on stderr."""
    prefix = f"{kind}: " if kind else ""
    sys.stderr.write(f"{prefix}{text}\n")
    if hint:
        sys.stderr.write(f"hint: {hint}\n")
    sys.stderr.flush()


def error(mode: Mode, *, kind: str, message: str, hint: str = "") -> None:
    """Show an error: several problems one a line; as JSON on stdout in JSON mode."""
    problems = message.splitlines()
    if mode == "json":
        value({"error": {"kind": kind, "problems": problems, "hint": hint}})
    elif len(problems) == 1:
        note(problems[0], hint=hint, kind="error")
    else:
        note("\n  ".join([f"{len(problems)} problems", *problems]), hint=hint, kind="error")


def facts(rows: Sequence[tuple[str, str]]) -> None:
    """Print labelled lines on stdout, labels in one column."""
    width = max(len(label) for label, _ in rows)
    for label, text in rows:
        indented = text.replace("\n", "\n" + " " * (width + 2))
        sys.stdout.write(f"{label:<{width}}  {indented}\n")


def table(columns: Sequence[str], rows: Sequence[Sequence[str]], *, numeric: int = 0) -> None:
    """Print a table: aligned on a terminal, tab-separated elsewhere.

    Args:
        columns: header.
        rows: cells as text.
        numeric: this many columns, counted from the right, are aligned to the right.
    """
    if not sys.stdout.isatty():
        for row in [columns, *rows]:
            clean = (cell.replace("\t", " ").replace("\n", " ") for cell in row)
            sys.stdout.write("\t".join(clean) + "\n")
        return
    from rich.box import SIMPLE_HEAD
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    grid = Table(box=SIMPLE_HEAD, pad_edge=False, collapse_padding=True)
    for position, name in enumerate(columns):
        right = position >= len(columns) - numeric
        side: Literal["left", "right"] = "right" if right else "left"
        grid.add_column(name.replace("_", " "), justify=side, no_wrap=not right, overflow="fold")
    for row in rows:
        grid.add_row(*(Text(cell) for cell in row))
    Console(soft_wrap=False).print(grid)


def next_command(text: str) -> None:
    """Suggest the likely next command, on a terminal only."""
    if sys.stderr.isatty():
        note(f"Next: {text}")


def confirm(question: str) -> bool:
    """Ask on the terminal; anything but yes is no."""
    sys.stderr.write(f"{question} [y/N] ")
    sys.stderr.flush()
    return sys.stdin.readline().strip().lower() in ("y", "yes")


def number(amount: float, *, digits: int = 3) -> str:
    """Write a number for people; empty where there is none."""
    return "" if amount != amount else f"{amount:.{digits}f}"


def duration(seconds: float) -> str:
    """Write a duration for people."""
    if seconds < 90:
        return f"{seconds:.0f} s"
    if seconds < 90 * 60:
        return f"{seconds / 60:.0f} min"
    return f"{seconds // 3600:.0f} h {seconds % 3600 / 60:02.0f} min"


@contextlib.contextmanager
def progress(mode: Mode) -> Iterator[Callable[[Mapping[str, Any]], None]]:
    """Show training progress on stderr: a bar on a terminal, a line now and then elsewhere.

    Yields:
        A function to call with the broker's state.
    """
    if mode != "text":
        yield _silent
    elif sys.stderr.isatty():
        with _bar() as report:
            yield report
    else:
        yield _plain()


def _silent(_state: Mapping[str, Any]) -> None:
    """Show nothing."""


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
    if 0.05 < share < 1:
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
