"""A picture on the terminal that is drawn again and again in one place."""

import contextlib
import io
import os
import shutil
import sys
from collections.abc import Callable, Iterator

ENTER, LEAVE = "\x1b[?1049h\x1b[?25l", "\x1b[?25h\x1b[?1049l"
"""Take a screen of our own without a cursor, and give it back."""


@contextlib.contextmanager
def take() -> Iterator[Callable[[Callable[[], None]], None]]:
    """Take the terminal; the screen that was there comes back at the end.

    A terminal that cannot move its cursor gets one picture below the other.

    Yields:
        A function to call with what prints the picture.
    """
    if os.environ.get("TERM", "dumb") == "dumb":
        yield lambda draw: draw()
        return
    terminal = sys.stdout

    def show(draw: Callable[[], None]) -> None:
        terminal.write(_picture(draw))
        terminal.flush()

    terminal.write(ENTER)
    try:
        yield show
    finally:
        terminal.write(LEAVE)
        terminal.flush()


class _Page(io.StringIO):
    """What is printed for a terminal, before it is shown there."""

    def isatty(self) -> bool:
        return True


def _picture(draw: Callable[[], None]) -> str:
    """Draw from the upper left corner; what does not fit below is left out."""
    page = _Page()
    with contextlib.redirect_stdout(page):
        draw()
    size = shutil.get_terminal_size()
    shown = page.getvalue().splitlines()
    if len(shown) >= size.lines:
        shown = [*shown[: size.lines - 2], "…"]
    return "\x1b[H" + "".join(f"{line}\x1b[K\n" for line in shown) + "\x1b[J"
