"""The figures of scanners: scores of the same slides on two scanners, and calibration; pure.

All folds and seeds of a cell are drawn together, for the eye only: every number of the tables is
averaged over folds as everywhere. Of very many slides an evenly spaced sample is drawn.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd

from orchestrator import canvas
from orchestrator.canvas import FAINT, SOFT, Figure
from orchestrator.figures import legend, taller
from orchestrator.wording import number, short

if TYPE_CHECKING:
    from orchestrator.canvas import Axes

POINTS_MAX = 300
"""Slides of a scatter plot."""
BINS = 8
"""Of predicted probability."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Pair:
    """Scores of the slides of a cell on two scanners.

    Attributes:
        encoder: of the cell.
        cell: its name.
        first: a scanner.
        second: another.
        scores: [slide, 2]; a slide of several trials has a row of each.
    """

    encoder: str
    cell: str
    first: str
    second: str
    scores: np.ndarray


def wide(predictions: pd.DataFrame, trials: Sequence[str]) -> pd.DataFrame:
    """Lay out the scores of trials: a row per trial and slide held out, a column per scanner.

    Of several classes the score is the log-odds of the slide's own class.
    """
    rows = predictions[predictions["held_out"].eq(True) & predictions["trial"].isin(trials)]
    rows = rows[rows["scanner"].astype("str") != ""]
    score = rows["score"]
    if len(rows) and score.dtype.kind != "f":
        each = np.stack([np.atleast_1d(one) for one in score])
        own = each[:, 0] if each.shape[1] == 1 else _own_class(each, rows["label"])
        score = pd.Series(own, index=rows.index)
    rows = rows.assign(score=score.astype(np.float64))
    grouped = rows.groupby(["trial", "slide", "scanner"], observed=True)["score"].mean()
    return grouped.unstack("scanner").sort_index()


def furthest(scores: pd.DataFrame, scanners: Sequence[str]) -> tuple[str, str] | None:
    """Choose the two scanners on which the same slides differ the most (root mean square)."""
    there = [name for name in scanners if name in scores]
    best, chosen = -1.0, None
    for place, first in enumerate(there):
        for second in there[place + 1 :]:
            apart = (scores[first] - scores[second]).dropna()
            size = float(np.sqrt((apart**2).mean())) if len(apart) else -1.0
            if size > best:
                best, chosen = size, (first, second)
    return chosen


def scatter(pair: Pair) -> Figure:
    """Draw the score on one scanner against that on another."""
    points, left = _sample(pair.scores)
    low, high = (float(points.min()), float(points.max())) if len(points) else (0.0, 1.0)

    def plot(axes: "Axes") -> None:
        axes.plot([low, high], [low, high], color=SOFT, linewidth=0.9, linestyle=":")
        axes.plot(
            points[:, 0], points[:, 1], "o", color=canvas.colour(0), markersize=2.6, alpha=0.55,
            markeredgewidth=0,
        )  # fmt: skip
        axes.set_xlabel(f"score on {short(pair.first, 24)}")
        axes.set_ylabel(f"score on {short(pair.second, 24)}")
        axes.set_title(short(f"{pair.encoder}: {pair.cell}", 44))
        axes.grid(color=FAINT, linewidth=0.6)
        axes.set_axisbelow(True)

    agree = float(np.corrcoef(pair.scores.T)[0, 1]) if _varies(pair.scores) else float("nan")
    return Figure(
        name=canvas.file_name("scores", pair.encoder, pair.cell),
        caption=f"{pair.encoder}, {pair.cell}: the same slides on {pair.first} and {pair.second}; "
        f"on the dotted line the scores agree. Correlation {number(agree)}.{left}",
        alt=f"Scatter plot of scores on {pair.second} against {pair.first}.",
        plot=plot,
    )


def bland_altman(pair: Pair) -> Figure:
    """Draw the difference of two scanners against their mean, with the limits of agreement."""
    points, left = _sample(pair.scores)
    apart = pair.scores[:, 1] - pair.scores[:, 0]
    bias = float(apart.mean()) if len(apart) else float("nan")
    spread = 1.96 * float(apart.std(ddof=1)) if len(apart) > 1 else float("nan")

    def plot(axes: "Axes") -> None:
        axes.axhline(0, color=SOFT, linewidth=0.9, linestyle=":")
        for level, style in ((bias, "-"), (bias - spread, "--"), (bias + spread, "--")):
            if np.isfinite(level):
                axes.axhline(level, color=canvas.colour(1), linewidth=1.1, linestyle=style)
        axes.plot(
            points.mean(1), points[:, 1] - points[:, 0], "o", color=canvas.colour(0),
            markersize=2.6, alpha=0.55, markeredgewidth=0,
        )  # fmt: skip
        axes.set_xlabel("mean of both scores")
        axes.set_ylabel(short(f"{pair.second} − {pair.first}", 30))
        axes.set_title(short(f"{pair.encoder}: {pair.cell}", 44))
        axes.grid(color=FAINT, linewidth=0.6)
        axes.set_axisbelow(True)

    return Figure(
        name=canvas.file_name("bland-altman", pair.encoder, pair.cell),
        caption=f"{pair.encoder}, {pair.cell}: bias {number(bias)} (line), 95 % limits of "
        f"agreement {number(bias - spread)} to {number(bias + spread)} (dashed).{left}",
        alt=f"Bland-Altman plot of {pair.second} minus {pair.first}: bias {number(bias)}.",
        plot=plot,
    )


def calibration(encoder: str, cell: str, probability: pd.DataFrame) -> Figure:
    """Draw observed against predicted frequency, a line per scanner.

    Args:
        encoder: of the cell.
        cell: its name.
        probability: scanner, probability, label (0 or 1), seen; a row per patient and trial.
    """
    edges = np.linspace(0, 1, BINS + 1)
    place = np.clip(np.digitize(probability["probability"], edges) - 1, 0, BINS - 1)
    binned = probability.assign(bin=place).groupby(["scanner", "bin"])
    means = binned[["probability", "label"]].mean().reset_index()
    scanners = list(dict.fromkeys(probability["scanner"]))
    unseen = set(probability.loc[~probability["seen"], "scanner"])

    def plot(axes: "Axes") -> None:
        axes.plot([0, 1], [0, 1], color=SOFT, linewidth=0.9, linestyle=":")
        for order, scanner in enumerate(scanners):
            own = means[means["scanner"] == scanner]
            name = f"{short(scanner, 20)} (unseen)" if scanner in unseen else short(scanner, 28)
            axes.plot(
                own["probability"], own["label"], canvas.dashes(order), label=name,
                color=canvas.colour(order), marker=canvas.marker(order),
            )  # fmt: skip
        axes.set_xlabel("predicted probability")
        axes.set_ylabel("observed frequency")
        axes.set_xlim(-0.02, 1.02)
        axes.set_ylim(-0.02, 1.02)
        axes.grid(color=FAINT, linewidth=0.6)
        axes.set_title(short(f"{encoder}: {cell}", 44))
        legend(axes)

    return Figure(
        name=canvas.file_name("calibration", encoder, cell),
        caption=f"{encoder}, {cell}: observed frequency in {BINS} bins of predicted probability, a "
        "line per scanner; on the dotted line the probabilities are right.",
        alt=f"Reliability diagram of {cell} on {encoder} for {len(scanners)} scanners.",
        plot=plot,
        height=taller(len(scanners)),
    )


def _own_class(score: np.ndarray, label: pd.Series) -> np.ndarray:
    """Return the log-odds of the right class."""
    rows, right = np.arange(len(score)), label.to_numpy(np.int64)
    own = score[rows, right]
    others = score.astype(np.float64).copy()
    others[rows, right] = -np.inf
    top = others.max(1, keepdims=True)
    rest: np.ndarray = own - (top[:, 0] + np.log(np.exp(others - top).sum(1)))
    return rest


def _sample(scores: np.ndarray) -> tuple[np.ndarray, str]:
    """Take evenly spaced rows of very many, and say so."""
    if len(scores) <= POINTS_MAX:
        return scores, ""
    chosen = np.linspace(0, len(scores) - 1, POINTS_MAX).round().astype(np.int64)
    return scores[chosen], f" Drawn: {POINTS_MAX} of {len(scores):,} points."


def _varies(scores: np.ndarray) -> bool:
    return len(scores) > 1 and bool((scores.std(0) > 0).all())
