"""Metrics of weighted patients, for thousands of draws of weights at once; pure numpy.

With weights of one, each is the metric of `training.metrics` to rounding; with whole weights, that
of a sample in which a patient stands so many times. What is not defined in a draw is NaN there.
Weights are [case, draw], draws in the last axis so that a patient's weights lie together.
"""

import numpy as np

_EXACT = 2**24
"""Whole numbers below this are exact in float32."""

_ROUNDING = 1e-12
"""Spread below this share of the mean square is none: the difference of two sums is not exact."""


def auroc(label: np.ndarray, score: np.ndarray, weight: np.ndarray) -> np.ndarray:
    """Compute the AUROC of each draw: weighted pairs of a positive above a negative, ties half.

    Negatives are added up in the order of their scores, once, and each positive takes the sum of
    those below it: no sorting per draw.

    Args:
        label: 1 for a positive case, 0 for a negative one.
        score: any monotone score.
        weight: [case, draw].
    """
    positive, negative = np.flatnonzero(label == 1), np.flatnonzero(label == 0)
    size = weight.shape[1]
    if not len(positive) or not len(negative) or np.isnan(score).any():
        return np.full(size, np.nan)
    negative = negative[np.argsort(score[negative], kind="stable")]
    ranked = score[negative]
    below = np.empty((len(negative) + 1, size), dtype=weight.dtype)
    below[0] = 0
    for place, case in enumerate(negative):
        np.add(below[place], weight[case], out=below[place + 1])
    lower = np.searchsorted(ranked, score[positive], side="left")
    upper = np.searchsorted(ranked, score[positive], side="right")
    own = weight[positive]
    wide = np.float64 if 2 * len(positive) * len(negative) >= _EXACT else weight.dtype
    won = _dot(own, below[lower], wide)
    if (lower != upper).any():
        won = (won + _dot(own, below[upper], wide)) / 2
    total = own.sum(0, dtype=np.float64) * below[-1]
    return _ratio(won.astype(np.float64), total)


def concordance(
    time: np.ndarray, event: np.ndarray, risks: np.ndarray, weight: np.ndarray
) -> np.ndarray:
    """Compute Harrell's concordance, [row, draw]; ties as in `training.metrics.concordance`.

    A pair weighs as the product of its two cases; what is comparable is found once for all rows.

    Args:
        time: to event or censoring.
        event: True where the event happened.
        risks: [row, case], higher for an earlier event.
        weight: [case, draw].
    """
    first = np.flatnonzero(event)
    found = np.full((len(risks), weight.shape[1]), np.nan)
    if not len(first) or np.isnan(time).any():
        return found
    own, t = weight[first], time[first, None]
    pair = ((time > t) | ((time == t) & ~event)).astype(weight.dtype)
    total = _dot(own, pair @ weight, np.float64)
    for row, risk in enumerate(risks):
        r = risk[first, None]
        right = pair * ((r > risk) + (r == risk) * 0.5).astype(weight.dtype)
        if not np.isnan(risk).any():
            found[row] = _ratio(_dot(own, right @ weight, np.float64), total)
    return found


def shares(parts: np.ndarray, whole: np.ndarray, weight: np.ndarray) -> np.ndarray:
    """Divide weighted sums over cases, [row, draw]; NaN where the whole weighs nothing.

    Args:
        parts: [row, case], summed above the line.
        whole: [row, case], summed below it.
        weight: [case, draw].
    """
    wide = weight.astype(np.float64)
    return _ratio(parts @ wide, whole @ wide)


def inconsistency(
    paired: np.ndarray,
    within: np.ndarray,
    mean: np.ndarray,
    square: np.ndarray,
    weight: np.ndarray,
) -> np.ndarray:
    """Compute `training.metrics.robustness.inconsistency` of each draw, [row, draw].

    Args:
        paired: [row, patient], slides of the patient on several scanners.
        within: sum over these of the variance over scanners.
        mean: sum of the mean score, measured from about the mean over slides.
        square: sum of its square.
        weight: [patient, draw].
    """
    wide = weight.astype(np.float64)
    slides, varied, total = paired @ wide, within @ wide, mean @ wide
    with np.errstate(invalid="ignore", divide="ignore"):
        squares = square @ wide
        spread = squares - np.square(total) / slides
        spread[~(spread > _ROUNDING * squares)] = np.nan
        found: np.ndarray = np.sqrt(varied / slides * (slides - 1) / spread)
    return found


def _dot(first: np.ndarray, second: np.ndarray, kind: type | np.dtype) -> np.ndarray:
    """Sum over cases the products of two arrays [case, draw]."""
    return np.asarray(np.einsum("ib,ib->b", first, second, dtype=kind))


def _ratio(part: np.ndarray, whole: np.ndarray) -> np.ndarray:
    found = np.full(np.broadcast(part, whole).shape, np.nan)
    np.divide(part, whole, out=found, where=whole > 0)
    return found
