"""Concordance of risks with survival: Harrell's and Uno's.

Ties, in both: a pair is compared where the shorter time is an event, or where the times are equal
and one of them only is an event (who was censored then lived longer); two events at one time are
not compared. Equal risks count one half. What is not defined is NaN.
"""

import numpy as np
from jaxtyping import Bool, Float
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
    return _concordance(time, event, risk, event.astype(np.float64))


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
    weight = event.astype(np.float64)
    if horizon is not None:
        weight[time >= horizon] = 0
    remaining = uncensored(*(censoring or (time, event)), at=time)
    last = time.max(initial=-np.inf)
    compared = (time < last) | (~event & (time == last)).any()
    if (compared & (weight > 0) & (remaining == 0)).any():
        return float("nan")
    weight /= np.square(np.where(remaining > 0, remaining, 1.0))
    return _concordance(time, event, risk, weight)


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
    weight: Float[ndarray, " case"],
) -> float:
    """Average over comparable pairs, each weighing as the case with the shorter time."""
    if np.isnan(risk).any() or np.isnan(time).any():
        return float("nan")
    right = total = 0.0
    first = np.flatnonzero(weight > 0)
    chunk = max(1, _PAIRS // max(1, len(time)))
    for rows in (first[start : start + chunk] for start in range(0, len(first), chunk)):
        t, r, w = time[rows, None], risk[rows, None], weight[rows]
        pair = (time > t) | ((time == t) & ~event)
        higher = (pair & (r > risk)).sum(1) + (pair & (r == risk)).sum(1) / 2
        right += float(w @ higher)
        total += float(w @ pair.sum(1))
    return right / total if total else float("nan")
