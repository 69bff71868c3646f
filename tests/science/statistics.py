"""Paired statistics over cohorts: intervals, multiplicity, and whether the nulls are honest.

The cohorts of a world are independent draws of everything (tissue, encoder, scanners, patients,
initialisation), so differences between two arms in the same cohorts are independent replicates and
a t interval is what they call for. That holds for retraining too, unlike an interval from one
cohort. Scales (inconsistency, oracle distance, scanner ratio) are compared by their logarithm: a
ratio, whose mean over cohorts is a geometric mean.
"""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float
from numpy import ndarray
from scipy import stats

LEVEL = 0.95


@dataclass(frozen=True, slots=True, kw_only=True)
class Estimate:
    """A mean over cohorts, its 95 % interval and the two-sided p-value against zero.

    NaN where fewer than two cohorts have a value. Without any spread the interval is the mean.
    """

    mean: float
    low: float
    high: float
    p: float
    num_cohorts: int


def estimate(values: Float[ndarray, " cohort"]) -> Estimate:
    """Estimate the mean of what was found in each cohort; NaN is left out and not counted."""
    values = values[~np.isnan(values)]
    count = len(values)
    if count < 2:
        return Estimate(mean=np.nan, low=np.nan, high=np.nan, p=np.nan, num_cohorts=count)
    mean = float(values.mean())
    error = float(values.std(ddof=1) / np.sqrt(count))
    reach = float(stats.t.ppf((1 + LEVEL) / 2, count - 1)) * error
    p = float(2 * stats.t.sf(abs(mean) / error, count - 1)) if error > 0 else float(mean == 0)
    return Estimate(mean=mean, low=mean - reach, high=mean + reach, p=p, num_cohorts=count)


def log_ratio(
    arm: Float[ndarray, " cohort"], reference: Float[ndarray, " cohort"]
) -> Float[ndarray, " cohort"]:
    """Compute log(arm / reference); NaN where one of them is zero, so that no ratio exists."""
    there = (arm > 0) & (reference > 0)
    return np.log(np.where(there, arm, np.nan) / np.where(there, reference, 1.0))


def holm(p: Float[ndarray, " test"]) -> Float[ndarray, " test"]:
    """Adjust p-values of a family (Holm, 1979); NaN takes no part."""
    order = np.argsort(p)[: int((~np.isnan(p)).sum())]  # NaN comes last
    adjusted = np.full(len(p), np.nan)
    steps = p[order] * np.arange(len(order), 0, -1)
    adjusted[order] = np.minimum(np.maximum.accumulate(steps), 1.0)
    return adjusted


@dataclass(frozen=True, slots=True, kw_only=True)
class Chance:
    """How often chance gives at least what was found.

    Args:
        found: the statistic: wins, or the largest |t|.
        expected: its mean where only the signs of the cohorts' differences are left to chance.
        p: share of random signs that give as much.
        num_arms: arms that have a value in every cohort.
    """

    found: float
    expected: float
    p: float
    num_arms: int


def wins_by_chance(
    differences: Float[ndarray, "cohort arm"], *, draws: int = 10_000
) -> tuple[Chance, Chance]:
    """Ask whether more arms have an interval above zero than chance gives, or one lies higher.

    Returns the number of such intervals, and the largest t.

    Where there is nothing to be won, an arm's difference is as likely as its negative. All
    differences of a cohort change sign together (one sign per cohort, drawn), so that arms stay as
    dependent as they are: they share the reference, the patients and the scanners. A binomial count
    would take them for independent.

    Args:
        differences: positive is in favour of the arm; an arm with a NaN takes no part.
        draws: of signs; the generator is fixed.
    """
    return (
        _chance(differences, lambda t, limit: (t > limit).sum(-1), draws),
        _chance(differences, lambda t, _: t.max(-1, initial=0.0), draws),
    )


def deviation_by_chance(
    differences: Float[ndarray, "cohort arm"], *, draws: int = 10_000
) -> Chance:
    """Ask whether the arm that is farthest from zero is farther than chance gives, by its |t|.

    Signs are drawn as in `wins_by_chance`. This is a test over all arms at once.

    Args:
        differences: from the value that the null demands; an arm with a NaN takes no part.
        draws: of signs; the generator is fixed.
    """
    return _chance(differences, lambda t, _: np.abs(t).max(-1, initial=0.0), draws)


def _chance(
    differences: Float[ndarray, "cohort arm"],
    statistic: Callable[[ndarray, float], ndarray],
    draws: int,
) -> Chance:
    there = ~np.isnan(differences).any(0)
    kept = differences[:, there]
    limit = float(stats.t.ppf((1 + LEVEL) / 2, max(len(kept) - 1, 1)))
    found = float(statistic(_t(kept.mean(0), kept), limit))
    rng = np.random.default_rng(0)
    signs = rng.choice((-1.0, 1.0), size=(draws, len(kept)))
    drawn = statistic(_t(signs @ kept / len(kept), kept), limit)
    return Chance(
        found=found,
        expected=float(drawn.mean()),
        p=float((1 + (drawn >= found - 1e-9).sum()) / (draws + 1)),
        num_arms=int(there.sum()),
    )


def _t(mean: ndarray, values: ndarray) -> ndarray:
    """Divide means of sign-changed differences by their standard error; 0 where all are zero."""
    count = len(values)
    squares = np.square(values).mean(0) - np.square(mean)
    error = np.sqrt(np.maximum(squares, 0.0) / (count - 1))
    size = np.abs(values).max(0, initial=0.0)
    safe = np.where(error > 1e-12 * size, error, 1e-12 * size)
    return np.divide(mean, safe, out=np.zeros_like(mean), where=safe > 0)
