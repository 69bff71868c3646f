"""How well the scores of a binary task do as probabilities, for many groups of cases at once.

Scores are logits. Arrays are long, a row per case, as in `accuracy`; what is not defined is NaN.
"""

import numpy as np
from jaxtyping import Float, Int
from numpy import ndarray

_STEPS = 100
"""Newton steps at most; a fit that has not converged then is NaN."""


def brier(labels: Int[ndarray, " case"], scores: Float[ndarray, " case"]) -> float:
    """Compute the mean squared difference of probability and label (Brier, 1950)."""
    return float(grouped_brier(labels, scores, np.zeros(len(labels), np.int64), 1)[0])


def calibration(
    labels: Int[ndarray, " case"], scores: Float[ndarray, " case"]
) -> tuple[float, float]:
    """Compute the calibration intercept and slope, see `grouped_calibration`."""
    one = np.zeros(len(labels), np.int64)
    intercept, slope = grouped_calibration(labels, scores, one, 1)
    return float(intercept[0]), float(slope[0])


def expected_calibration_error(
    labels: Int[ndarray, " case"], scores: Float[ndarray, " case"], *, num_bins: int = 10
) -> float:
    """Compute the expected calibration error, see `grouped_calibration_error`."""
    one = np.zeros(len(labels), np.int64)
    return float(grouped_calibration_error(labels, scores, one, 1, num_bins=num_bins)[0])


def grouped_brier(
    labels: Int[ndarray, " case"],
    scores: Float[ndarray, " case"],
    group: Int[ndarray, " case"],
    num_groups: int,
) -> Float[ndarray, " group"]:
    """Compute the Brier score of every group; NaN without cases."""
    squares = np.square(probability(scores) - labels)
    return _share(squares, group, num_groups)


def grouped_multiclass_brier(
    labels: Int[ndarray, " case"],
    scores: Float[ndarray, "case class"],
    group: Int[ndarray, " case"],
    num_groups: int,
) -> Float[ndarray, " group"]:
    """Compute half the mean of sum over classes of (p_c - [y = c])^2 from logits of every group.

    Brier, 1950, divided by two, so that two classes agree with `grouped_brier`.
    """
    wide = scores.astype(np.float64)
    chance = np.exp(wide - np.logaddexp.reduce(wide, axis=1, keepdims=True))
    wanted = labels[:, None] == np.arange(scores.shape[1])
    return _share(np.square(chance - wanted).sum(1) / 2, group, num_groups)


def grouped_calibration_error(
    labels: Int[ndarray, " case"],
    scores: Float[ndarray, " case"],
    group: Int[ndarray, " case"],
    num_groups: int,
    *,
    num_bins: int = 10,
) -> Float[ndarray, " group"]:
    """Compute sum over bins of n_b / n × |mean probability - share of positives| of every group.

    Bins of equal width of the positive class's probability (Naeini, Cooper and Hauskrecht, AAAI
    2015, equation 3, for a binary task). It falls with fewer bins and rises with fewer cases: to be
    compared between groups of one size only.
    """
    chance = probability(scores)
    undefined = np.isnan(chance)
    place = np.minimum(np.where(undefined, 0, chance) * num_bins, num_bins - 1).astype(np.int64)
    size = num_groups * num_bins
    gap = np.bincount(group * num_bins + place, weights=chance - labels, minlength=size)
    count = np.bincount(group, minlength=num_groups)
    with np.errstate(invalid="ignore"):  # 0 / 0 is the NaN that is meant
        error: Float[ndarray, " group"] = np.abs(gap).reshape(num_groups, -1).sum(1) / count
    return error


def grouped_calibration(
    labels: Int[ndarray, " case"],
    scores: Float[ndarray, " case"],
    group: Int[ndarray, " case"],
    num_groups: int,
) -> tuple[Float[ndarray, " group"], Float[ndarray, " group"]]:
    """Compute the calibration intercept and slope of every group by logistic recalibration.

    The slope is b in logit P(y = 1) = a + b s; the intercept is a in logit P(y = 1) = a + s, with
    the slope held at one (calibration in the large). Perfect: 0 and 1. Cox, 1958; Van Calster et
    al., Journal of Clinical Epidemiology 2016.

    Both are NaN where a class is missing; the slope also where scores are all equal or separate the
    classes, since the fit has no maximum then.
    """
    size = {"minlength": num_groups}
    count = np.bincount(group, **size)
    positive = np.bincount(group, weights=labels, **size)
    finite = np.isfinite(scores)
    wide = np.where(finite, scores, 0.0).astype(np.float64)
    defined = (positive > 0) & (positive < count)
    defined &= np.bincount(group, weights=~finite, **size) == 0
    mean = _share(wide, group, num_groups)
    spread = np.sqrt(_share(np.square(wide - mean[group]), group, num_groups))
    overlapping = defined & _overlap(labels, wide, group, num_groups)
    unit = np.where(overlapping, spread, 1.0)
    centred = (wide - mean[group]) / unit[group]
    line = _fit(labels, np.zeros_like(wide), centred, group, overlapping)
    level = _fit(labels, wide, None, group, defined)
    return level[0], line[1] / unit


def probability(scores: Float[ndarray, "*case"]) -> Float[ndarray, "*case"]:
    """Turn logits into probabilities, without overflow."""
    wide = scores.astype(np.float64)
    small = np.exp(-np.abs(wide))
    chance: Float[ndarray, "*case"] = np.where(wide >= 0, 1.0, small) / (1 + small)
    return chance


def _overlap(
    labels: Int[ndarray, " case"],
    scores: Float[ndarray, " case"],
    group: Int[ndarray, " case"],
    num_groups: int,
) -> ndarray:
    """Tell where no threshold separates the classes, not even with ties on it."""
    ends = np.full((2, 2, num_groups), np.inf)
    for label in (0, 1):
        chosen = labels == label
        np.minimum.at(ends[label, 0], group[chosen], scores[chosen])
        np.minimum.at(ends[label, 1], group[chosen], -scores[chosen])
    lowest, highest = ends[:, 0], -ends[:, 1]
    overlapping: ndarray = (highest[0] > lowest[1]) & (highest[1] > lowest[0])
    return overlapping


def _fit(
    labels: Int[ndarray, " case"],
    offset: Float[ndarray, " case"],
    slope: Float[ndarray, " case"] | None,
    group: Int[ndarray, " case"],
    wanted: ndarray,
) -> Float[ndarray, "2 group"]:
    """Maximise the likelihood of logit P = offset + a + b × slope in every wanted group.

    Newton's method with halved steps; b stays zero without a slope.
    """
    num_groups = len(wanted)
    active = wanted.copy()
    found = np.zeros((2, num_groups))

    def total(values: ndarray) -> ndarray:
        sums: ndarray = np.bincount(group, weights=values, minlength=num_groups)
        return sums

    def evaluate(at: ndarray) -> tuple[ndarray, ndarray]:
        """Give the log-likelihood of every group and the probability of every case."""
        logit = offset + at[0][group]
        if slope is not None:
            logit = logit + at[1][group] * slope
        small = np.exp(-np.abs(logit))
        value = total(labels * logit - np.maximum(logit, 0) - np.log1p(small))
        return value, np.where(logit >= 0, 1.0, small) / (1 + small)

    best, chance = evaluate(found)
    for _ in range(_STEPS):
        if not active.any():
            break
        rest, weight = labels - chance, chance * (1 - chance)
        first, a = total(rest), total(weight)
        second = b = np.zeros(num_groups)
        c = np.ones(num_groups)
        if slope is not None:
            second, b, c = total(rest * slope), total(weight * slope), total(weight * slope * slope)
            c = np.where(c > 0, c, 1.0)
        determinant = np.where(active, a * c - b * b, 1.0)
        step = np.stack([c * first - b * second, a * second - b * first]) / determinant
        step[:, ~active] = 0
        for _ in range(30):
            value, chance = evaluate(found + step)
            worse = active & ~(value >= best - 1e-12 * np.abs(best))
            if not worse.any():
                break
            step[:, worse] /= 2
        found, best = found + step, np.where(active, value, best)
        active = active & (np.abs(step).max(0) > 1e-10 * (1 + np.abs(found).max(0)))
    return np.where(wanted & ~active, found, np.nan)


def _share(
    values: Float[ndarray, " case"], group: Int[ndarray, " case"], num_groups: int
) -> Float[ndarray, " group"]:
    with np.errstate(invalid="ignore"):  # 0 / 0 is the NaN that is meant
        return np.bincount(group, weights=values, minlength=num_groups) / np.bincount(
            group, minlength=num_groups
        )
