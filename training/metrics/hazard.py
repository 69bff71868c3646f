"""The hazard ratio of a score: how much sooner events come where it is higher.

For many sets of cases at once, each measured by itself. What is not defined is NaN.
"""

from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool, Float, Int
from numpy import ndarray

_CELLS = 2**20
"""Cases, padding included, that are fitted at once."""
_STEPS, _TOLERANCE, _LARGEST = 60, 1e-10, 30.0


def hazard_ratio(
    time: Float[ndarray, " case"], event: Bool[ndarray, " case"], score: Float[ndarray, " case"]
) -> float:
    """Compute the hazard ratio per SD of the score, see `grouped_log_hazard_ratio`."""
    group = np.zeros(len(time), dtype=np.int64)
    return float(np.exp(grouped_log_hazard_ratio(time, event, score, group, 1)[0]))


def grouped_log_hazard_ratio(
    time: Float[ndarray, " case"],
    event: Bool[ndarray, " case"],
    score: Float[ndarray, " case"],
    group: Int[ndarray, " case"],
    num_groups: int,
) -> Float[ndarray, " group"]:
    r"""Fit Cox's model to the score alone, in every group; the coefficient per SD of the score.

    $\beta$ of the hazard $\lambda_0(t) e^{\beta x}$, $x = (s - \bar s) / \mathrm{SD}(s)$, where the
    partial likelihood with Efron's ties (Cox, 1972; Efron, 1977) is highest: Newton's method, steps
    halved until the likelihood does not fall. The SD has n - 1 in its denominator.

    Args:
        time: to event or censoring.
        event: True where the event happened.
        score: higher for an earlier event.
        group: number of each case's group, from 0 to `num_groups` - 1.
        num_groups: length of the result.

    Returns:
        NaN without an event or a spread of scores, and where the likelihood has no maximum: scores
        that order the events without fault.
    """
    sizes = np.bincount(group, minlength=num_groups)
    found = np.full(num_groups, np.nan)
    if not len(time):
        return found
    order = np.lexsort((score, ~event, -time, group))
    starts = np.cumsum(sizes) - sizes
    width = int(sizes.max())
    each = max(1, _CELLS // width)
    for low in range(0, num_groups, each):
        mine = slice(low, min(low + each, num_groups))
        place = starts[mine, None] + np.arange(width)
        real = np.arange(width) < sizes[mine, None]
        rows = order[np.where(real, place, 0)]
        found[mine] = _fit(_prepare(time[rows], event[rows] & real, score[rows], real))
    return found


@dataclass(frozen=True, slots=True, kw_only=True)
class _Groups:
    """Groups of cases, [group, case], latest times first, at equal times events first.

    Attributes:
        x: scores in SDs; 0 in padding.
        real: False in padding.
        event: where the event happened.
        last: place of the last case with the same time.
        before: place of the case before the first event at the time; -1 is none.
        dying: place of the last event at the time.
        left: l / d of Efron's rule for the l-th of the d events at the time.
    """

    x: ndarray
    real: ndarray
    event: ndarray
    last: ndarray
    before: ndarray
    dying: ndarray
    left: ndarray


def _prepare(time: ndarray, event: ndarray, score: ndarray, real: ndarray) -> _Groups:
    score = score.astype(np.float64)
    number = real.sum(1, keepdims=True)
    with np.errstate(invalid="ignore", divide="ignore"):  # no spread: NaN is meant
        mean = np.where(real, score, 0).sum(1, keepdims=True) / number
        centred = np.where(real, score - mean, 0)
        spread = np.sqrt(np.square(centred).sum(1, keepdims=True) / (number - 1))
        x = centred / spread
    places = np.broadcast_to(np.arange(time.shape[1]), time.shape)
    new = np.ones(time.shape, bool)
    new[:, 1:] = (time[:, 1:] != time[:, :-1]) | (real[:, 1:] != real[:, :-1])
    first = np.maximum.accumulate(np.where(new, places, 0), axis=1)
    ends = np.ones(time.shape, bool)
    ends[:, :-1] = new[:, 1:]
    backwards = np.where(ends, places, time.shape[1])[:, ::-1]
    last = np.minimum.accumulate(backwards, axis=1)[:, ::-1]
    # Events come first among equal times: the l-th of them is at place first + l.
    counts = np.concatenate([np.zeros((len(time), 1), np.int64), np.cumsum(event, axis=1)], axis=1)
    tied = np.take_along_axis(counts, last + 1, 1) - np.take_along_axis(counts, first, 1)
    return _Groups(
        x=x,
        real=real,
        event=event,
        last=last,
        before=first - 1,
        dying=first + tied - 1,
        left=(places - first) / np.maximum(tied, 1),
    )


def _fit(of: _Groups) -> Float[ndarray, " group"]:
    beta = np.zeros(len(of.x))
    with np.errstate(invalid="ignore", divide="ignore", over="ignore"):
        best, slope, curvature = _likelihood(of, beta)
        moving = of.event.any(1) & np.isfinite(slope) & (curvature > 0)
        defined = moving.copy()
        step = np.ones(len(beta))
        for _ in range(_STEPS):
            step = np.where(moving, slope / curvature, 0)
            for _ in range(30):
                value, up, bend = _likelihood(of, beta + step)
                worse = moving & ~(value >= best - 1e-12 * np.abs(best))
                if not worse.any():
                    break
                step = np.where(worse, step / 2, step)
            beta, best = beta + step, np.where(moving, value, best)
            slope, curvature = up, bend
            moving &= (np.abs(step) > _TOLERANCE) & (np.abs(beta) < _LARGEST)
            if not moving.any():
                break
        defined &= ~moving & (np.abs(beta) < _LARGEST)
    return np.where(defined, beta, np.nan)


def _likelihood(of: _Groups, beta: ndarray) -> tuple[ndarray, ndarray, ndarray]:
    """Give log-likelihood, its slope and minus its curvature in beta, [group] each."""
    eta = beta[:, None] * of.x
    highest = np.where(of.real, eta, -np.inf).max(1, keepdims=True)
    weight = np.where(of.real, np.exp(eta - highest), 0)
    sums = []
    for power in range(3):
        each = weight * of.x**power
        at_risk = np.take_along_axis(np.cumsum(each, axis=1), of.last, 1)
        dying = np.concatenate(
            [np.zeros((len(each), 1)), np.cumsum(each * of.event, axis=1)], axis=1
        )
        tied = np.take_along_axis(dying, of.dying + 1, 1)
        tied = tied - np.take_along_axis(dying, of.before + 1, 1)
        sums.append(at_risk - of.left * tied)
    mean = sums[1] / sums[0]
    terms = (
        eta - highest - np.log(sums[0]),
        of.x - mean,
        sums[2] / sums[0] - np.square(mean),
    )
    value, slope, curvature = (np.where(of.event, term, 0).sum(1) for term in terms)
    return value, slope, curvature
