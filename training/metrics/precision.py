"""The area under the precision-recall curve, for many groups of cases at once."""

import numpy as np
from jaxtyping import Float, Int
from numpy import ndarray

from training.metrics.accuracy import sort


def auprc(labels: Int[ndarray, " case"], scores: Float[ndarray, " case"]) -> float:
    """Compute the average precision, see `grouped_auprc`."""
    return float(grouped_auprc(labels, scores, np.zeros(len(labels), np.int64), 1)[0])


def grouped_auprc(
    labels: Int[ndarray, " case"],
    scores: Float[ndarray, " case"],
    group: Int[ndarray, " case"],
    num_groups: int,
) -> Float[ndarray, " group"]:
    """Compute the average precision of every group: sum over thresholds of precision × recall won.

    Steps, not trapezoids, which are optimistic (Davis and Goadrich, ICML 2006); equal scores are
    one threshold. Chance is the share of positives: groups of different shares do not compare.

    Args:
        labels: 1 for a positive case, 0 for a negative one.
        scores: any monotone score.
        group: number of each case's group, from 0 to `num_groups` - 1.
        num_groups: length of the result; NaN where a class is missing or a score is NaN.
    """
    order = sort(-scores, group, num_groups)
    score, member, positive = scores[order], group[order], labels[order]
    last = np.ones(len(order), dtype=bool)
    last[:-1] = (score[1:] != score[:-1]) | (member[1:] != member[:-1])
    sizes = np.bincount(group, minlength=num_groups)
    positives = np.bincount(group, weights=labels, minlength=num_groups)
    before = np.cumsum(sizes) - sizes
    before_positive = np.cumsum(positives) - positives
    ends = np.flatnonzero(last)
    owner = member[ends]
    taken = ends + 1 - before[owner]
    found = np.cumsum(positive)[ends] - before_positive[owner]
    won = np.diff(found, prepend=0)
    # The first threshold of a group starts from none found, whatever the group before ended with.
    starts = np.flatnonzero(np.diff(owner, prepend=-1))
    won[starts] = found[starts]
    area = np.bincount(owner, weights=won * found / taken, minlength=num_groups)
    undefined = np.bincount(group, weights=np.isnan(scores), minlength=num_groups) > 0
    undefined |= (positives == 0) | (positives == sizes)
    result = np.full(num_groups, np.nan)
    np.divide(area, positives, out=result, where=~undefined)
    return result
