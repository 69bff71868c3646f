"""How well scores and classes agree with the labels, for one set of cases or for many at once.

The `grouped_` functions take long arrays, a row per case, and answer for every group in one pass;
a group is any set of cases that is measured by itself (one trial on one scanner, for example). What
is not defined is NaN: a class that does not occur makes AUROC and balanced accuracy undefined,
because an average over the classes that happen to be there is another quantity.
"""

import numpy as np
from jaxtyping import Float, Int
from numpy import ndarray


def auroc(labels: Int[ndarray, " case"], scores: Float[ndarray, " case"]) -> float:
    """Compute the area under the ROC curve: P(score of a positive > of a negative), ties half.

    Args:
        labels: 1 for a positive case, 0 for a negative one.
        scores: any monotone score; the result is NaN where one is NaN.
    """
    return float(grouped_auroc(labels, scores, np.zeros(len(labels), dtype=np.int64), 1)[0])


def multiclass_auroc(labels: Int[ndarray, " case"], scores: Float[ndarray, "case class"]) -> float:
    """Average the one-against-the-rest AUROC over classes (macro average).

    Args:
        labels: class numbers.
        scores: logits. They are made comparable between cases by `one_vs_rest` first.
    """
    group = np.zeros(len(labels), dtype=np.int64)
    return float(grouped_multiclass_auroc(labels, scores, group, 1)[0])


def accuracy(labels: Int[ndarray, " case"], predicted: Int[ndarray, " case"]) -> float:
    """Compute the share of cases whose class is right; NaN without cases."""
    return float(np.mean(labels == predicted)) if len(labels) else float("nan")


def balanced_accuracy(
    labels: Int[ndarray, " case"], predicted: Int[ndarray, " case"], *, num_classes: int = 2
) -> float:
    """Average the share of right answers over the classes."""
    group = np.zeros(len(labels), dtype=np.int64)
    return float(grouped_accuracy(labels, predicted, group, 1, num_classes=num_classes)[1][0])


def best_threshold(labels: Int[ndarray, " case"], scores: Float[ndarray, " case"]) -> float:
    """Find the threshold t of the best balanced accuracy of `score >= t`.

    Candidates are the middles between neighbouring distinct scores; of equally good ones the
    nearest to zero, of two as near the lower. Zero, probability one half for a logit, where there
    is no candidate or one class only.
    """
    values, where = np.unique(scores.astype(np.float64), return_inverse=True)
    positives = np.bincount(where[labels == 1], minlength=len(values))
    negatives = np.bincount(where[labels == 0], minlength=len(values))
    if len(values) < 2 or not positives.any() or not negatives.any():
        return 0.0
    # 2 P N times the balanced accuracy: whole numbers, so that equally good is equal.
    found = positives.sum() - np.cumsum(positives)[:-1]
    spared = np.cumsum(negatives)[:-1]
    value = found * negatives.sum() + spared * positives.sum()
    middles = (values[:-1] + values[1:]) / 2
    # Between neighbouring floats the middle rounds to one of them; it must not be the lower.
    middles = np.where(middles > values[:-1], middles, values[1:])
    best = middles[value == value.max()]
    return float(best[np.argmin(np.abs(best))])


def grouped_auroc(
    labels: Int[ndarray, " case"],
    scores: Float[ndarray, " case"],
    group: Int[ndarray, " case"],
    num_groups: int,
) -> Float[ndarray, " group"]:
    """Compute the AUROC of every group from ranks, with midranks for ties.

    (R - P (P + 1) / 2) / (P N), with R the sum of the ranks of the P positives among the P + N
    cases (Mann and Whitney, 1947). Ranks are multiples of one half, so that sums are exact.

    Args:
        labels: 1 for a positive case, 0 for a negative one.
        scores: any monotone score.
        group: number of each case's group, from 0 to `num_groups` - 1.
        num_groups: length of the result; a group without cases is NaN.
    """
    order = sort(scores, group, num_groups)
    score, member, positive = scores[order], group[order], labels[order]
    new = np.ones(len(order), dtype=bool)
    new[1:] = (score[1:] != score[:-1]) | (member[1:] != member[:-1])
    starts = np.flatnonzero(new)
    lengths = np.diff(np.append(starts, len(order)))
    midrank = np.repeat(starts + (lengths + 1) / 2, lengths)
    sizes = np.bincount(group, minlength=num_groups)
    before = np.cumsum(sizes) - sizes
    num_positive = np.bincount(member, weights=positive, minlength=num_groups)
    num_negative = sizes - num_positive
    lowest = num_positive * before + num_positive * (num_positive + 1) / 2
    rank_sum = np.bincount(member, weights=midrank * positive, minlength=num_groups) - lowest
    undefined = np.bincount(member, weights=np.isnan(score), minlength=num_groups) > 0
    undefined |= (num_positive == 0) | (num_negative == 0)
    result = np.full(num_groups, np.nan)
    np.divide(rank_sum, num_positive * num_negative, out=result, where=~undefined)
    return result


def grouped_multiclass_auroc(
    labels: Int[ndarray, " case"],
    scores: Float[ndarray, "case class"],
    group: Int[ndarray, " case"],
    num_groups: int,
) -> Float[ndarray, " group"]:
    """Compute the macro one-against-the-rest AUROC of every group from logits."""
    ranked = one_vs_rest(scores)
    areas = [
        grouped_auroc((labels == c).astype(np.int64), ranked[:, c], group, num_groups)
        for c in range(scores.shape[1])
    ]
    macro: Float[ndarray, " group"] = np.stack(areas).mean(0)
    return macro


def grouped_accuracy(
    labels: Int[ndarray, " case"],
    predicted: Int[ndarray, " case"],
    group: Int[ndarray, " case"],
    num_groups: int,
    *,
    num_classes: int,
) -> tuple[Float[ndarray, " group"], Float[ndarray, " group"]]:
    """Compute accuracy and balanced accuracy of every group."""
    size = num_groups * num_classes
    cell = group * num_classes + labels
    cases = np.bincount(cell, minlength=size).reshape(num_groups, num_classes)
    right = np.bincount(cell, weights=labels == predicted, minlength=size).reshape(cases.shape)
    with np.errstate(invalid="ignore"):  # 0 / 0 is the NaN that is meant
        return right.sum(1) / cases.sum(1), (right / cases).mean(1)


def sort(
    scores: Float[ndarray, " case"], group: Int[ndarray, " case"], num_groups: int
) -> Int[ndarray, " case"]:
    """Order cases by group, then score; equal ones as it comes, which is quicker."""
    order = np.argsort(scores)
    # Sorting of 16 bits takes one pass.
    narrow = group[order].astype(np.uint16 if num_groups <= 2**16 else np.int64)
    return order[np.argsort(narrow, kind="stable")]


def one_vs_rest(scores: Float[ndarray, "case class"]) -> Float[ndarray, "case class"]:
    """Turn class logits into the logit of each class against the others together.

    s_c - log sum over other classes of exp(s): monotone in the class probability, not changed by a
    constant on all logits of a case, and without the ties of probabilities that round to one.
    """
    wide: Float[ndarray, "case class"] = scores.astype(np.float64)
    rest = [np.logaddexp.reduce(np.delete(wide, c, axis=1), axis=1) for c in range(wide.shape[1])]
    odds: Float[ndarray, "case class"] = wide - np.stack(rest, axis=1)
    return odds
