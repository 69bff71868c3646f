"""Figures of slides: the tiles with the most attention, drawn on the picture of a scan."""

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from orchestrator import canvas
from orchestrator.canvas import Figure
from orchestrator.wording import counted, short

if TYPE_CHECKING:
    from orchestrator.canvas import Axes


@dataclass(frozen=True, slots=True, kw_only=True)
class Attended:
    """A scan and where a trial looks.

    Attributes:
        encoder: of the trial.
        cell: its name.
        slide: of the scan.
        scanner: that made it.
        picture: [y, x, colour], the scan made small.
        corners: [tile, 2], upper left corners x and y in pixels of the picture.
        span: side of a tile there.
        weight: [tile], attention, which sums to one over all tiles of the bag.
    """

    encoder: str
    cell: str
    slide: str
    scanner: str
    picture: np.ndarray
    corners: np.ndarray
    span: float
    weight: np.ndarray


def attention(shown: Attended) -> Figure:
    """Draw a scan with its top tiles; the stronger the colour, the more attention."""
    height, width = shown.picture.shape[:2]
    most = float(shown.weight.max()) if len(shown.weight) else 1.0

    def plot(axes: "Axes") -> None:
        axes.imshow(shown.picture, interpolation="nearest")
        for (x, y), weight in zip(shown.corners, shown.weight, strict=True):
            strength = float(weight) / most if most > 0 else 0.0
            right, low = x + shown.span, y + shown.span
            axes.fill(
                [x, right, right, x], [y, y, low, low], facecolor=canvas.colour(1),
                edgecolor=canvas.colour(1), linewidth=0.4, alpha=0.15 + 0.65 * strength,
            )  # fmt: skip
        axes.set_xlim(0, width)
        axes.set_ylim(height, 0)
        axes.set_axis_off()
        axes.set_title(short(f"{shown.slide} on {shown.scanner}: {shown.cell}", 44))

    share = float(shown.weight.sum())
    return Figure(
        name=canvas.file_name("attention", shown.encoder, shown.cell, shown.slide, shown.scanner),
        caption=f"{shown.encoder}, {shown.cell}: slide {shown.slide} on {shown.scanner}; the "
        f"{counted(len(shown.weight), 'tile')} with the most attention hold {100 * share:.0f} % "
        "of it.",
        alt=f"Picture of slide {shown.slide} on {shown.scanner} with "
        f"{counted(len(shown.weight), 'tile')} marked.",
        plot=plot,
        height=min(5.0, max(1.5, canvas.WIDTH_IN * height / width + 0.3)),
    )
