"""The drawing surface of figures: the only file that imports matplotlib.

A figure is one small panel, so that a page can set panels side by side or one below the other. The
same data give the same bytes. Text stays text, set in the reader's own sans-serif; names are never
read as formulas. Colours are those of Okabe and Ito (2008), which colour-blind readers tell apart;
line style and marker differ along with them.
"""

import hashlib
import io
import logging
import re
import warnings
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import numpy as np
    from matplotlib.axes import Axes as Axes

COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#000000")
MARKERS = ("o", "s", "^", "D", "v", "P", "X")
DASHES = ("-", "--", "-.", ":")
INK, SOFT, FAINT = "#1b1f24", "#5b6470", "#d5dae0"
WIDTH_IN, HEIGHT_IN = 4.0, 3.0

_PNG_DPI = 300
_DATED = {
    "svg": ("Date", "Creator", "Format", "Type"),
    "pdf": ("CreationDate", "Creator", "Producer"),
    "png": ("Software",),
}
"""What files would say of their making, and must not."""
_STYLE = {
    "font.family": "sans-serif",
    "font.sans-serif": ["DejaVu Sans"],
    "font.size": 9.0,
    "text.color": INK,
    "text.parse_math": False,
    "axes.edgecolor": SOFT,
    "axes.labelcolor": INK,
    "axes.linewidth": 0.7,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.formatter.useoffset": False,
    "axes.titlesize": 9.5,
    "axes.titleweight": "bold",
    "axes.titlelocation": "left",
    "xtick.color": SOFT,
    "ytick.color": SOFT,
    "xtick.labelcolor": INK,
    "ytick.labelcolor": INK,
    "xtick.labelsize": 8.0,
    "ytick.labelsize": 8.0,
    "lines.linewidth": 1.4,
    "lines.markersize": 4.5,
    "legend.frameon": False,
    "legend.fontsize": 8.0,
    "svg.fonttype": "none",
    "pdf.fonttype": 42,
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Figure:
    """A panel that can be written in several forms.

    Attributes:
        name: of its files; ASCII letters, digits, dot and dash.
        caption: one or two sentences below it.
        alt: what it shows, for who cannot see it.
        plot: draws it.
        width: in inches.
        height: in inches.
    """

    name: str
    caption: str
    alt: str
    plot: Callable[["Axes"], None]
    width: float = WIDTH_IN
    height: float = HEIGHT_IN

    def svg(self) -> str:
        """Return an `<svg>` element to stand in a page; its ids are its own there."""
        text = self.save("svg")[0]
        return _tidy(text[text.index(b"<svg") :].decode(), self.name)

    def save(self, *forms: str) -> list[bytes]:
        """Return the bytes of files: svg, pdf, or png for print."""
        import matplotlib
        from matplotlib.figure import Figure as Sheet

        logging.getLogger("matplotlib").setLevel(logging.WARNING)
        made = []
        with matplotlib.rc_context({**_STYLE, "svg.hashsalt": self.name}):  # type: ignore[dict-item]
            sheet = Sheet(figsize=(self.width, self.height), layout="constrained")
            self.plot(sheet.add_subplot())
            with warnings.catch_warnings():
                # The page's reader has fonts for more scripts than the file has.
                warnings.filterwarnings("ignore", message="Glyph .* missing from font")
                for form in forms:
                    target = io.BytesIO()
                    nothing = dict.fromkeys(_DATED[form])
                    sheet.savefig(target, format=form, metadata=nothing, dpi=_PNG_DPI)
                    sheet.set_layout_engine("none")  # as it was laid out for the first
                    made.append(target.getvalue())
        return made


def picture(path: Path, side: int) -> "np.ndarray":
    """Read a PNG file as [y, x, colour], its longer side made `side` pixels at most."""
    from matplotlib import image

    whole: np.ndarray = image.imread(path)[..., :3]
    every = -(-max(whole.shape[:2]) // side)
    return whole[::every, ::every]


def colour(position: int) -> str:
    """Return the colour of the n-th thing that is told apart."""
    return COLOURS[position % len(COLOURS)]


def marker(position: int) -> str:
    """Return the marker of the n-th thing; differs from others of its colour."""
    return MARKERS[(position + position // len(COLOURS)) % len(MARKERS)]


def dashes(position: int) -> str:
    """Return the line style of the n-th thing."""
    return DASHES[position % len(DASHES)]


def file_name(*parts: object) -> str:
    """Make a name for files from words that may hold anything."""
    return "-".join(re.sub(r"[^A-Za-z0-9.]+", "_", str(part)).strip("_") or "x" for part in parts)


def _tidy(svg: str, name: str) -> str:
    """Let no id of a figure be that of another on the page, and drop what a page does not need.

    That are ids to which nothing refers, the fixed size, the font, which the page sets, space
    between elements, and digits beyond a hundredth of a point.
    """
    used = set(re.findall(r'(?:href="#|url\(#)([^")]+)', svg))
    own = hashlib.sha256(name.encode()).hexdigest()[:8]
    svg = re.sub(r' id="([^"]*)"', lambda m: f' id="{own}{m[1]}"' if m[1] in used else "", svg)
    svg = re.sub(r'(href="#|url\(#)', rf"\g<1>{own}", svg)
    svg = re.sub(r" font-family: [^;\"]*;", "", svg)
    svg = re.sub(r' transform="rotate\(-0 [^"]*\)"', "", svg)
    svg = re.sub(r"<style.*?</style>", "", svg, count=1, flags=re.DOTALL)
    svg = re.sub(r"<[^>]*>", lambda tag: re.sub(r"(\.\d\d)\d+", r"\1", tag[0]), svg)
    head, mark, rest = svg.partition(">")
    svg = re.sub(r' (?:width|height)="[^"]*"', "", head) + mark + rest
    return re.sub(r">\s+<", "><", svg)
