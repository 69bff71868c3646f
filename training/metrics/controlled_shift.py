"""The controlled-shift test: identical biology, only the scanner changes; how far do scores move?

For paired scans of real slides, where a scan of each slide is the reference, and for simulated
ones, where the scan that no scanner touched is. `robustness.inconsistency` compares the scans of a
slide with each other; `distance` compares them with the reference, and `scanner_ratio` compares
what a scanner does to all slides alike with the rest. Arrays are [..., slide, scanner] with NaN
where a slide was not scanned; leading axes are groups (trials, for example). What is not defined is
NaN.
"""

import numpy as np
from jaxtyping import Float
from numpy import ndarray

Scores = Float[ndarray, "*group slide scanner"]
Reference = Float[ndarray, "*group slide"]
Values = Float[ndarray, "*group"]

_ROUNDING = 1e-24
"""An error below this share of the scores' squares is rounding."""


def distance(scores: Scores, reference: Reference) -> Values:
    """Compute how far scores lie from those of each slide's reference scan, in its spread.

    sqrt(mean over slides of the mean over scanners of (s - r)^2) / (SD over slides of r), with
    n - 1 in the SD. Not changed by scaling or shifting all scores; 0 means that nothing moved. NaN
    with fewer than two slides that have both, or without spread.

    Args:
        scores: of each slide on each scanner.
        reference: score of each slide's reference scan.
    """
    square = np.square(scores - reference[..., None])
    each, there = _mean(square, -1)
    there &= ~np.isnan(reference)
    moved, _ = _mean(np.where(there, each, np.nan), -1)
    held = np.where(there, reference, np.nan)
    centre, _ = _mean(held, -1)
    squares, _ = _mean(np.square(held - centre[..., None]), -1)
    count = there.sum(-1)
    with np.errstate(invalid="ignore", divide="ignore"):
        spread = squares * count / (count - 1)
        found = np.sqrt(moved / spread)
    return np.asarray(np.where((count > 1) & (spread > 0), found, np.nan))


def scanner_ratio(scores: Scores) -> Values:
    """Compute the F ratio of the scanners: do scores move with the scanner, or just with the scan?

    MS_scanner / MS_error of the two-way analysis of variance, slide by scanner, over the slides
    that were scanned on all scanners. About 1 where scanners are exchangeable, whatever the spread
    of the scores: unlike the inconsistency, a model that is merely less sensitive to which tiles a
    scan has does not lower it. NaN with fewer than two such slides or scanners, or no error.
    """
    complete = ~np.isnan(scores).any(-1, keepdims=True)
    count, k = complete.sum((-2, -1)), scores.shape[-1]
    slides, _ = _mean(np.where(complete, scores, np.nan), -1)
    held = np.where(complete, scores - slides[..., None], 0.0)
    with np.errstate(invalid="ignore", divide="ignore"):
        scanner = held.sum(-2) / count[..., None]
        between = count * np.square(scanner).sum(-1) / (k - 1) if k > 1 else np.nan * count
        rest = np.where(complete, held - scanner[..., None, :], 0.0)
        error = np.square(rest).sum((-2, -1)) / ((count - 1) * (k - 1))
        found = between / error
    size = np.square(np.where(complete, scores, 0.0)).sum((-2, -1))
    return np.asarray(np.where((count > 1) & (error > _ROUNDING * size), found, np.nan))


def _mean(values: ndarray, axis: int) -> tuple[ndarray, ndarray]:
    """Average what is not NaN, and say where there was something."""
    there = ~np.isnan(values)
    count = there.sum(axis)
    total = np.where(there, values, 0.0).sum(axis)
    return np.where(count > 0, total / np.maximum(count, 1), np.nan), np.asarray(count > 0)
