"""Draws of patients and what follows from them: intervals and p-values; pure numpy.

A draw gives every patient a weight, the same for all models, scans, slides and seeds: that is what
makes a difference of two models paired. Patients are drawn inside strata (test set and class), so
that no draw loses a class. Three kinds of interval:

    percentile   quantiles of the draws; n of the n patients of a stratum are drawn (Efron 1979)
    bca          quantiles moved by bias and acceleration, from the jackknife (Efron 1987)
    expanded     n - 1 of n are drawn, each counting n / (n - 1), so that the variance of a mean is
                 right (Rao and Wu 1988), and the quantiles are those of Student's t (Hesterberg
                 2015); an interval from few patients is wider

`make coverage` measures how often each holds the truth.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
import scipy  # scipy.special is loaded on first use: half a second

from training import seeds

Method = Literal["percentile", "bca", "expanded"]

DEFINED = 0.9
"""Share of the draws in which a value must be defined for it to have an interval."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Draws:
    """Weights of patients.

    Attributes:
        weight: [patient, column]: first ones, which give the estimate; then the draws; then, for
            `bca`, what leaves out one patient after the other.
        num_draws: how many.
        method: kind of interval that they are for.
        freedom: patients minus strata: degrees of freedom.
    """

    weight: np.ndarray
    num_draws: int
    method: Method
    freedom: int


def strata(
    patient: np.ndarray, trial: np.ndarray, label: np.ndarray, *, num_patients: int
) -> np.ndarray:
    """Number the stratum of each patient: test sets that share no patient, then the class.

    Folds that hold out the same patients, or some of them, are one test set. A patient alone in a
    stratum joins those of the class in other test sets.

    Args:
        patient: number of the patient of each row.
        trial: by which trial it is held out.
        label: its class; a patient whose class differs between trials is of none.
        num_patients: how many.
    """
    parts = _components(patient, trial, num_patients)
    lowest, highest = np.full(num_patients, np.iinfo(np.int64).max), np.full(num_patients, -1)
    np.minimum.at(lowest, patient, label)
    np.maximum.at(highest, patient, label)
    kind = np.where(lowest == highest, lowest, -1)
    _, found = np.unique(np.stack([parts, kind]), axis=1, return_inverse=True)
    found = found.ravel()
    alone = np.bincount(found)[found] == 1
    found = np.where(alone, found.max() + 2 + kind, found)
    return np.asarray(np.unique(found, return_inverse=True)[1].ravel())


def draw(
    stratum: np.ndarray, names: Sequence[str], *, num_draws: int, method: Method, seed: int
) -> Draws:
    """Draw patients with replacement inside strata.

    A stratum's draws depend on the seed and its first patient alone. A patient alone in its stratum
    is in every draw.

    Args:
        stratum: number of each patient's stratum.
        names: of the patients, in sorted order.
        num_draws: how many.
        method: of the intervals; `expanded` draws one patient fewer.
        seed: of the draws.
    """
    size = len(stratum)
    further = size if method == "bca" else 0
    weight = np.ones((size, 1 + num_draws + further), dtype=np.float32)
    for number in range(int(stratum.max(initial=-1)) + 1):
        rows = np.flatnonzero(stratum == number)
        if len(rows) < 2 or not num_draws:
            continue
        count = len(rows) - (method == "expanded")
        random = seeds.generator(seed, "draw of patients", str(names[rows[0]]))
        drawn = random.multinomial(count, np.full(len(rows), 1 / len(rows)), size=num_draws)
        weight[rows, 1 : 1 + num_draws] = drawn.T * (len(rows) / count)
    if further:
        weight[np.arange(size), 1 + num_draws + np.arange(size)] = 0
    freedom = size - len(np.unique(stratum))
    return Draws(weight=weight, num_draws=num_draws, method=method, freedom=max(1, freedom))


def intervals(values: np.ndarray, draws: Draws, *, level: float) -> tuple[np.ndarray, np.ndarray]:
    """Give the lower and upper limits of each row.

    Args:
        values: [row, column], columns as in `Draws.weight`; NaN where a draw has no value.
        draws: which made them.
        level: of the interval, 0.95 for example.
    """
    drawn, count = _sorted(values, draws)
    bias, pull = _correction(values, drawn, count, draws)
    limits = []
    for tail in ((1 - level) / 2, (1 + level) / 2):
        limits.append(_quantile(drawn, count, _share_at(tail, bias, pull, draws)))
    return limits[0], limits[1]


def p_values(values: np.ndarray, draws: Draws) -> np.ndarray:
    """Give the two-sided p-value of each row against zero: where its interval would touch zero.

    Args:
        values: differences, [row, column] as in `intervals`.
        draws: which made them.
    """
    drawn, count = _sorted(values, draws)
    bias, pull = _correction(values, drawn, count, draws)
    below = (drawn < 0).sum(1) + (drawn == 0).sum(1) / 2
    share = (below + 0.5) / (count + 1)
    place = scipy.special.ndtri(np.clip(share, 0.5 / (count + 1), 1 - 0.5 / (count + 1)))
    if draws.method == "expanded":
        tail = scipy.special.stdtr(draws.freedom, place)
    else:
        moved = place - bias
        with np.errstate(invalid="ignore", divide="ignore"):
            tail = scipy.special.ndtr(moved / (1 + pull * moved) - bias)
    found = np.minimum(1.0, 2 * np.minimum(tail, 1 - tail))
    none = (count < DEFINED * draws.num_draws) | np.isnan(values[:, 0]) | (draws.num_draws == 0)
    return np.where(none, np.nan, found)


def spread(values: np.ndarray, draws: Draws) -> np.ndarray:
    """Give the SD of each row over the draws: the standard error of sampling patients."""
    drawn = values[:, 1 : 1 + draws.num_draws].astype(np.float64)
    there = ~np.isnan(drawn)
    count = there.sum(1)
    with np.errstate(invalid="ignore", divide="ignore"):
        mean = np.where(there, drawn, 0).sum(1) / count
        squares = np.where(there, np.square(drawn - mean[:, None]), 0).sum(1)
        sd = np.sqrt(squares / (count - 1))
    return np.where(count > 1, sd, np.nan)


def _components(patient: np.ndarray, trial: np.ndarray, num_patients: int) -> np.ndarray:
    """Number sets of patients that no trial joins."""
    from scipy.sparse import coo_array, csgraph

    num_trials = int(trial.max(initial=-1)) + 1
    size = num_trials + num_patients
    links = coo_array(
        (np.ones(len(trial), bool), (trial, num_trials + patient)), shape=(size, size)
    )
    _, part = csgraph.connected_components(links, directed=False)
    found: np.ndarray = part[num_trials:]
    return found


def _sorted(values: np.ndarray, draws: Draws) -> tuple[np.ndarray, np.ndarray]:
    """Sort the draws of each row, those without a value last; and count those that have one."""
    drawn = np.sort(values[:, 1 : 1 + draws.num_draws].astype(np.float64), axis=1)
    return drawn, (~np.isnan(drawn)).sum(1)


def _correction(
    values: np.ndarray, drawn: np.ndarray, count: np.ndarray, draws: Draws
) -> tuple[np.ndarray, np.ndarray]:
    """Estimate bias and acceleration of each row, on the scale of a normal; 0 unless `bca`."""
    none = np.zeros(len(values))
    if draws.method != "bca":
        return none, none
    estimate = values[:, :1].astype(np.float64)
    below = (drawn < estimate).sum(1) + (drawn == estimate).sum(1) / 2
    share = np.clip(below / np.maximum(count, 1), 0.5 / (count + 1), 1 - 0.5 / (count + 1))
    left_out = values[:, 1 + draws.num_draws :].astype(np.float64)
    influence = np.where(np.isnan(left_out), 0, estimate - left_out)
    cubes, squares = (influence**3).sum(1), np.square(influence).sum(1)
    pull = np.divide(cubes, 6 * squares**1.5, out=none.copy(), where=squares > 0)
    return scipy.special.ndtri(share), pull


def _share_at(tail: float, bias: np.ndarray, pull: np.ndarray, draws: Draws) -> np.ndarray:
    """Say which quantile of the draws is the limit."""
    if draws.method == "expanded":
        return np.full(len(bias), scipy.special.ndtr(scipy.special.stdtrit(draws.freedom, tail)))
    moved = bias + scipy.special.ndtri(tail)
    found: np.ndarray = scipy.special.ndtr(bias + moved / (1 - pull * moved))
    return found


def _quantile(drawn: np.ndarray, count: np.ndarray, share: np.ndarray) -> np.ndarray:
    """Take a quantile of each sorted row, linear between draws; NaN where too few are defined."""
    enough = (count >= DEFINED * drawn.shape[1]) & (count > 0) & ~np.isnan(share)
    place = np.where(enough, share * (count - 1), 0)
    lower = np.clip(place.astype(np.int64), 0, max(drawn.shape[1] - 1, 0))
    upper = np.minimum(lower + 1, np.maximum(count - 1, 0))
    if not drawn.shape[1]:
        return np.full(len(drawn), np.nan)
    row = np.arange(len(drawn))
    low, high = drawn[row, lower], drawn[row, upper]
    return np.where(enough, low + (high - low) * (place - lower), np.nan)
