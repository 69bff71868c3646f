"""How far the scanners of the same glass agree, on scores and on classes.

Arrays are dense, [..., slide, scanner], with NaN where a slide was not scanned; leading axes are
groups (trials, for example) that are measured apart, in one pass. What is not defined is NaN. Pairs
of scanners give a matrix, [..., scanner, scanner].
"""

from typing import NamedTuple

import numpy as np
from jaxtyping import Float
from numpy import ndarray

Scores = Float[ndarray, "*group slide scanner"]
Values = Float[ndarray, "*group"]
Pairs = Float[ndarray, "*group scanner scanner"]


class Icc(NamedTuple):
    """Intraclass correlations of single scores."""

    agreement: Values
    consistency: Values


class BlandAltman(NamedTuple):
    """Bias of a row's scanner against a column's, and its 95 % limits of agreement."""

    bias: Pairs
    lower: Pairs
    upper: Pairs


def rmsd(scores: Scores) -> Pairs:
    """Compute sqrt(mean over slides of (s_a - s_b)^2) of each pair of scanners.

    Only slides on both scanners enter; NaN where there is none. In the score's own unit: a model
    whose scores are all halved halves it.
    """
    first, second = _paired(scores)
    return _root_mean_square(first - second)


def rank_rmsd(scores: Scores) -> Pairs:
    """Compute `rmsd` on midranks divided by the number of slides.

    Ranks are among the slides that both scanners of a pair have. Not changed by any monotone
    transformation of the scores of a scanner.
    """
    if np.isnan(scores).any():
        first, _ = _paired(scores)
        ranks = _midrank_share(first)  # the second's of a pair are the first's of the turned pair
    else:
        by_scanner = _midrank_share(np.ascontiguousarray(np.swapaxes(scores, -1, -2)))
        ranks, _ = np.broadcast_arrays(by_scanner[..., :, None, :], by_scanner[..., None, :, :])
    return _root_mean_square(ranks - np.swapaxes(ranks, -2, -3))


def bland_altman(scores: Scores) -> BlandAltman:
    """Compute mean and mean ± 1.96 SD over slides of s_row - s_column (Bland and Altman, 1986).

    NaN with fewer than two slides on both scanners, and on the diagonal zero.
    """
    first, second = _paired(scores)
    difference = first - second
    count = _count(difference)
    bias = _ratio(np.nansum(difference, axis=-1), count)
    squares = np.nansum(np.square(difference - bias[..., None]), axis=-1)
    spread = 1.96 * np.sqrt(_ratio(squares, count - 1))
    bias = np.where(count > 1, bias, np.nan)
    return BlandAltman(bias, bias - spread, bias + spread)


def icc(scores: Scores) -> Icc:
    """Compute ICC(2,1), absolute agreement, and ICC(3,1), consistency (Shrout and Fleiss, 1979).

    (MS_slide - MS_error) / (MS_slide + (k - 1) MS_error + k (MS_scanner - MS_error) / n), without
    the last term for consistency, from the two-way analysis of variance over the n slides that were
    scanned on all k scanners. NaN with fewer than two such slides or scanners, or no variance.
    """
    complete = ~np.isnan(scores).any(-1, keepdims=True)
    number = complete.sum((-2, -1)).astype(np.float64)
    k = scores.shape[-1]
    held = np.where(complete, scores, 0.0)
    grand = _ratio(held.sum((-2, -1)), number * k)[..., None, None]
    centred = np.where(complete, scores - grand, 0.0)
    slide, scanner = centred.mean(-1), _ratio(centred.sum(-2), number[..., None])
    between = k * np.square(slide).sum(-1)
    columns = number * np.square(scanner).sum(-1)
    error = np.square(centred).sum((-2, -1)) - between - columns
    rows = _ratio(between, number - 1)
    residual = np.maximum(_ratio(error, (number - 1) * (k - 1)), 0.0)
    scanners = _ratio(columns, np.full_like(number, k - 1))
    extra = k * _ratio(scanners - residual, number)
    scale = rows + (k - 1) * residual
    return Icc(_ratio(rows - residual, scale + extra), _ratio(rows - residual, scale))


def cohen_kappa(classes: Scores) -> Pairs:
    """Compute (p_o - p_e) / (1 - p_e) of each pair of scanners (Cohen, 1960).

    p_o is the share of equal classes among slides on both scanners, p_e the one expected from each
    scanner's own class shares there. NaN where all are of one class, so that p_e is one.
    """
    first, second = _paired(classes)
    count = _count(first)
    observed = _ratio((first == second).sum(-1).astype(np.float64), count)
    expected = np.zeros_like(observed)
    for each in np.unique(classes[~np.isnan(classes)]):
        a, b = (first == each).sum(-1), (second == each).sum(-1)
        expected = expected + _ratio(a * b / 1.0, count * count)
    return _ratio(observed - expected, 1 - expected)


def fleiss_kappa(classes: Scores) -> Values:
    """Compute Fleiss' kappa over the slides that were scanned on all scanners (Fleiss, 1971).

    NaN without such slides, with one scanner, or where all are of one class.
    """
    complete = ~np.isnan(classes).any(-1)
    number, k = complete.sum(-1).astype(np.float64), classes.shape[-1]
    agreeing, expected = np.zeros_like(number), np.zeros_like(number)
    for each in np.unique(classes[~np.isnan(classes)]):
        votes = np.where(complete, (classes == each).sum(-1), 0)
        agreeing = agreeing + (votes * (votes - 1)).sum(-1)
        expected = expected + np.square(_ratio(votes.sum(-1) / 1.0, number * k))
    observed = _ratio(agreeing / 1.0, number * k * (k - 1))
    return _ratio(observed - expected, 1 - expected)


def coefficient_of_variation(values: Float[ndarray, "*group scanner"]) -> Values:
    """Compute SD / mean over scanners of a performance, with n - 1 in the SD.

    NaN with fewer than two scanners that have a value, or where the mean is not positive.
    """
    count = _count(values)
    mean = _ratio(np.nansum(values, axis=-1), count)
    squares = np.nansum(np.square(values - mean[..., None]), axis=-1)
    mean = np.where(mean > 0, mean, np.nan)
    return _ratio(np.sqrt(_ratio(squares, count - 1)), mean)


def _paired(scores: Scores) -> tuple[ndarray, ndarray]:
    """Give the scores of both scanners of each pair, [..., scanner, scanner, slide]."""
    by_scanner = np.swapaxes(scores, -1, -2).astype(np.float64)
    first, second = np.broadcast_arrays(by_scanner[..., :, None, :], by_scanner[..., None, :, :])
    there = ~np.isnan(first) & ~np.isnan(second)
    return np.where(there, first, np.nan), np.where(there, second, np.nan)


def _midrank_share(values: ndarray) -> ndarray:
    """Rank along the last axis, ties sharing their mean rank, divided by the number of values."""
    order = np.argsort(values, axis=-1)
    ordered = np.take_along_axis(values, order, axis=-1)
    place = np.arange(values.shape[-1])
    new = np.ones(values.shape, dtype=bool)
    new[..., 1:] = ordered[..., 1:] != ordered[..., :-1]
    first = np.maximum.accumulate(np.where(new, place, 0), axis=-1)
    ends = np.ones(values.shape, dtype=bool)
    ends[..., :-1] = new[..., 1:]
    flipped = np.flip(np.where(ends, place, values.shape[-1]), axis=-1)
    last = np.flip(np.minimum.accumulate(flipped, axis=-1), axis=-1)
    ranks = np.empty(values.shape)
    np.put_along_axis(ranks, order, (first + last) / 2 + 1, axis=-1)
    ranks = np.where(np.isnan(values), np.nan, ranks)
    return _ratio(ranks, _count(values)[..., None])


def _root_mean_square(difference: ndarray) -> ndarray:
    return np.asarray(
        np.sqrt(_ratio(np.nansum(np.square(difference), axis=-1), _count(difference)))
    )


def _count(values: ndarray) -> ndarray:
    return np.asarray(np.count_nonzero(~np.isnan(values), axis=-1), np.float64)


def _ratio(numerator: ndarray | np.floating, denominator: ndarray | np.floating) -> ndarray:
    """Divide; NaN where the denominator is not positive."""
    there = denominator > 0
    with np.errstate(invalid="ignore"):
        result: ndarray = np.where(there, numerator / np.where(there, denominator, 1.0), np.nan)
    return result
