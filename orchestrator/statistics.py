"""Tests of differences: multiplicity, permutation, non-inferiority, DeLong; pure.

Holm and Benjamini-Hochberg are statsmodels'; this is the only file that imports it.
"""

from typing import Literal

import numpy as np
import scipy  # scipy.special is loaded on first use: half a second

from training import seeds

Adjustment = Literal["holm", "bh"]

LOWER_IS_BETTER = frozenset(
    (
        "inconsistency", "flip_rate", "brier", "calibration_error", "auroc_gap",
        "balanced_accuracy_gap", "concordance_gap", "auroc_cv", "concordance_cv",
        "uno_concordance_gap", "worst_scanner_brier", "worst_scanner_intercept",
        "worst_scanner_slope", "rmsd", "rank_rmsd",
    )
)  # fmt: skip
"""Metrics that are better when lower; of the others, more is better."""


def adjust(p: np.ndarray, method: Adjustment) -> np.ndarray:
    """Adjust p-values for being several: Holm's for a family, Benjamini-Hochberg's for exploring.

    NaN stays NaN and is not counted.
    """
    from statsmodels.stats.multitest import fdrcorrection, multipletests

    found = np.full(len(p), np.nan)
    there = ~np.isnan(p)
    if there.any():
        # multipletests ends in a garbage collection, which takes longer than all else.
        holm = method == "holm"
        found[there] = (
            multipletests(p[there], method="holm") if holm else fdrcorrection(p[there])
        )[1]
    return found


def effect_size(difference: np.ndarray, error: np.ndarray, patients: np.ndarray) -> np.ndarray:
    """Divide a difference by the SD of one patient's influence on it.

    For a mean of paired differences that is Cohen's d of paired data; for any other metric the SD
    is the standard error of sampling patients times the root of their number.
    """
    scale = error * np.sqrt(patients)
    found = np.full(len(scale), np.nan)
    np.divide(difference, scale, out=found, where=scale > 0)
    return found


def noninferior(
    low: np.ndarray, high: np.ndarray, margin: np.ndarray, *, lower_is_better: np.ndarray
) -> list[bool | None]:
    """Say whether the interval of a difference excludes a loss of the margin or more.

    A two-sided interval of 95 % makes this a one-sided test at 2.5 %. None without a margin or an
    interval.
    """
    bound = np.where(lower_is_better, -high, low)
    unknown = np.isnan(bound) | np.isnan(margin)
    return [
        None if nothing else bool(least > -most)
        for nothing, least, most in zip(unknown, bound, margin, strict=True)
    ]


def delong(label: np.ndarray, first: np.ndarray, second: np.ndarray) -> tuple[float, float, float]:
    """Compare two AUROCs on the same independent cases, by DeLong, DeLong and Clarke-Pearson, 1988.

    Only for one row per patient: repeated scans are not independent.

    Returns:
        The difference, its standard error, and the two-sided p-value; NaN where it is not defined.
    """
    positive, negative = label == 1, label == 0
    parts, areas = [], []
    for score in (first, second):
        placed = _placements(score[positive], score[negative])
        parts.append(placed)
        areas.append(float(placed[0].mean()) if positive.any() and negative.any() else np.nan)
    difference = areas[0] - areas[1]
    with np.errstate(invalid="ignore", divide="ignore"):
        variance = sum(
            np.var(parts[0][side] - parts[1][side], ddof=1) / len(parts[0][side])
            if len(parts[0][side]) > 1
            else np.nan
            for side in (0, 1)
        )
        error = float(np.sqrt(variance))
    if not error > 0:
        return difference, error, np.nan if np.isnan(error) else float(difference == 0)
    return difference, error, float(2 * scipy.special.ndtr(-abs(difference) / error))


def permutation(
    label: np.ndarray, first: np.ndarray, second: np.ndarray, *, num_draws: int, seed: int
) -> float:
    """Compare two AUROCs on the same patients by exchanging the models within patients.

    Scores of two models live on two scales, so they are ranked over the patients before they are
    mixed, as Bandos, Rockette and Gur (Statistics in Medicine 2005) do. All scanners of a patient
    are exchanged together; the AUROC is the mean over scanners.

    Args:
        label: [patient], 1 or 0.
        first: scores of one model, [patient, scanner].
        second: of the other.
        num_draws: permutations.
        seed: of these.

    Returns:
        The two-sided p-value, (1 + as extreme) / (1 + permutations); NaN where it is not defined.
    """
    from scipy.stats import rankdata  # most of a second of start-up

    ranks = np.stack([rankdata(each, axis=0) for each in (first, second)])
    order = [np.flatnonzero(label == 1), np.flatnonzero(label == 0)]
    if not len(order[0]) or not len(order[1]):
        return float("nan")
    random = seeds.generator(seed, "permutation of models")
    swaps = random.random((num_draws, len(label))) < 0.5
    swaps[0] = False
    values = np.empty(num_draws)
    for draw, swap in enumerate(swaps):
        mixed = np.where(swap[None, :, None], ranks[::-1], ranks)
        values[draw] = _area(mixed[0], *order) - _area(mixed[1], *order)
    extreme = (np.abs(values[1:]) >= abs(values[0]) - 1e-12).sum()
    return float((1 + extreme) / num_draws)


def exact_interval(successes: int, total: int, *, level: float = 0.95) -> tuple[float, float]:
    """Give the interval of a share by Clopper and Pearson, 1934."""
    tail = (1 - level) / 2
    low = (
        float(scipy.special.betaincinv(successes, total - successes + 1, tail))
        if successes
        else 0.0
    )
    high = (
        float(scipy.special.betaincinv(successes + 1, total - successes, 1 - tail))
        if successes < total
        else 1.0
    )
    return low, high


def _placements(positive: np.ndarray, negative: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Share of negatives below each positive, and of positives above each negative; ties half."""

    def shares(values: np.ndarray, others: np.ndarray) -> np.ndarray:
        ranked = np.sort(others)
        below = np.searchsorted(ranked, values, "left") + np.searchsorted(ranked, values, "right")
        return np.asarray(below / 2 / max(len(others), 1))

    return shares(positive, negative), 1 - shares(negative, positive)


def _area(ranks: np.ndarray, positive: np.ndarray, negative: np.ndarray) -> float:
    """Average the AUROC of ranks over scanners, [patient, scanner]."""
    from scipy.stats import rankdata

    mixed = rankdata(ranks, axis=0)
    size = len(positive)
    won = mixed[positive].sum(0) - size * (size + 1) / 2
    return float((won / (size * len(negative))).mean())
