"""Concordance of risks with survival: Harrell's and Uno's.

Ties, in both: a pair is compared where the shorter time is an event, or where the times are equal
and one of them only is an event (who was censored then lived longer); two events at one time are
not compared. Equal risks count one half. What is not defined is NaN.
"""

import itertools

import numpy as np
from jaxtyping import Bool, Float, Int
from numpy import ndarray

_PAIRS = 2**22
"""Pairs in memory at once."""


def harrell(
    time: Float[ndarray, " case"], event: Bool[ndarray, " case"], risk: Float[ndarray, " case"]
) -> float:
    """Compute the share of comparable pairs whose shorter time has the higher risk.

    Harrell, Lee and Mark, Statistics in Medicine 1996.

    Args:
        time: to event or censoring.
        event: True where the event happened.
        risk: any monotone score, higher for an earlier event.
    """
    group = np.zeros(len(time), dtype=np.int64)
    return float(grouped_concordance(time, event, risk, group, 1)[0][0])


def uno(
    time: Float[ndarray, " case"],
    event: Bool[ndarray, " case"],
    risk: Float[ndarray, " case"],
    *,
    horizon: float | None = None,
    censoring: tuple[Float[ndarray, " other"], Bool[ndarray, " other"]] | None = None,
) -> float:
    """Compute the concordance weighted by the inverse squared chance of not being censored.

    Pairs whose shorter time t is an event before the horizon weigh 1 / G(t)^2, with G the
    Kaplan-Meier estimate of P(censoring later than t), events at t leaving first: Uno, Cai,
    Pencina, D'Agostino and Wei, Statistics in Medicine 2011. It does not depend on how patients
    were censored, which Harrell's does.

    Args:
        time: to event or censoring.
        event: True where the event happened.
        risk: higher for an earlier event.
        horizon: truncation time tau; pairs whose shorter time is not before it do not count.
        censoring: times and events that G is estimated on, of the training patients; default: of
            the same patients. NaN where G is zero at an event that counts: a shorter horizon helps.
    """
    weight = inverse_weights(time, event, horizon=horizon, censoring=censoring)
    group = np.zeros(len(time), dtype=np.int64)
    return float(grouped_concordance(time, event, risk, group, 1, weight)[0][0])


def inverse_weights(
    time: Float[ndarray, " case"],
    event: Bool[ndarray, " case"],
    *,
    horizon: float | None = None,
    censoring: tuple[Float[ndarray, " other"], Bool[ndarray, " other"]] | None = None,
) -> Float[ndarray, " case"]:
    """Compute the weights 1 / G(t)^2 of `uno`; 0 for a case that does not count as the shorter one.

    NaN where G is zero at an event before the horizon.
    """
    counts = event if horizon is None else event & (time < horizon)
    remaining = uncensored(*(censoring or (time, event)), at=time)
    weight = np.where(counts, np.nan, 0.0)
    np.divide(1.0, np.square(remaining), out=weight, where=counts & (remaining > 0))
    return weight


def grouped_concordance(
    time: Float[ndarray, " case"],
    event: Bool[ndarray, " case"],
    risk: Float[ndarray, " case"],
    group: Int[ndarray, " case"],
    num_groups: int,
    *weights: Float[ndarray, " case"],
) -> Float[ndarray, "kind group"]:
    """Compute the concordance of every group, for each of these weights of the shorter times.

    Args:
        time: to event or censoring.
        event: True where the event happened.
        risk: higher for an earlier event.
        group: number of each case's group, from 0 to `num_groups` - 1.
        num_groups: length of the results; a group without a comparable pair is NaN.
        weights: what each case counts as the one with the shorter time, 0 without an event; NaN
            makes its group NaN if it has a pair. None: one for each event, which is `harrell`.
    """
    given = weights or (event.astype(np.float64),)
    found = np.full((len(given), num_groups), np.nan)
    order = np.argsort(group, kind="stable")
    ends = np.cumsum(np.bincount(group, minlength=num_groups))
    for number, (start, end) in enumerate(itertools.pairwise([0, *ends.tolist()])):
        rows = order[start:end]
        if len(rows) > 1:
            each = np.stack([weight[rows] for weight in given])
            found[:, number] = _concordance(time[rows], event[rows], risk[rows], each)
    return found


def uncensored(
    time: Float[ndarray, " case"], event: Bool[ndarray, " case"], *, at: Float[ndarray, " other"]
) -> Float[ndarray, " other"]:
    """Estimate G(t) = P(censoring later than t) by Kaplan and Meier; events at t leave first."""
    times, place = np.unique(time, return_inverse=True)
    leaving = np.bincount(place, minlength=len(times))
    events = np.bincount(place, weights=event, minlength=len(times))
    at_risk = len(time) - np.cumsum(leaving) + leaving - events
    censored = leaving - events
    kept = 1 - np.divide(censored, at_risk, out=np.zeros(len(times)), where=at_risk > 0)
    steps: Float[ndarray, " step"] = np.concatenate([[1.0], np.cumprod(kept)])
    found: Float[ndarray, " other"] = steps[np.searchsorted(times, at, side="right")]
    return found


def _concordance(
    time: Float[ndarray, " case"],
    event: Bool[ndarray, " case"],
    risk: Float[ndarray, " case"],
    weights: Float[ndarray, "kind case"],
) -> Float[ndarray, " kind"]:
    """Average over comparable pairs, each weighing as the case with the shorter time."""
    if np.isnan(risk).any() or np.isnan(time).any():
        return np.full(len(weights), np.nan)
    right, total = np.zeros(len(weights)), np.zeros(len(weights))
    first = np.flatnonzero(event & (weights != 0).any(0))
    chunk = max(1, _PAIRS // max(1, len(time)))
    for rows in (first[start : start + chunk] for start in range(0, len(first), chunk)):
        t, r, weight = time[rows, None], risk[rows, None], weights[:, rows]
        pair = (time > t) | ((time == t) & ~event)
        higher = (pair & (r > risk)).sum(1) + (pair & (r == risk)).sum(1) / 2
        pairs = pair.sum(1)
        weight = np.where(pairs > 0, weight, 0.0)  # NaN does not matter without a pair
        right += weight @ higher
        total += weight @ pairs
    found = np.full(len(weights), np.nan)
    np.divide(right, total, out=found, where=total != 0)
    return found
