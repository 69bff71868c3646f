"""How much scores and classes change between the scanners of the same glass.

Both quantities need a slide or patient seen by two scanners or more; others do not enter. The
`grouped_` functions take long arrays, a row per member and scanner, and answer for every group (a
trial, for example) in one pass. What is not defined is NaN.
"""

import numpy as np
from jaxtyping import Float, Int
from numpy import ndarray


def inconsistency(scores: Float[ndarray, "slide scanner"]) -> float:
    """Compare the spread of a slide's score between scanners with its spread between slides.

    sqrt(mean over slides of the variance over scanners) / (SD over slides of the mean score), both
    with n - 1 in the denominator, so that slides with two and with five scanners estimate the same.
    Not changed by scaling or shifting all scores; 0 means that scanners agree.

    Args:
        scores: score of each slide on each scanner; NaN where it was not scanned.
    """
    slide, _ = np.nonzero(present := ~np.isnan(scores))
    group = np.zeros(len(slide), dtype=np.int64)
    return float(grouped_inconsistency(scores[present], slide, group, 1)[0])


def flip_rate(predicted: Float[ndarray, "patient scanner"]) -> float:
    """Compute the share of patients whose class is not the same on all their scanners.

    Args:
        predicted: class number of each patient on each scanner; NaN where there is no scan.
    """
    patient, _ = np.nonzero(present := ~np.isnan(predicted))
    classes, group = predicted[present].astype(np.int64), np.zeros(len(patient), dtype=np.int64)
    return float(grouped_flip_rate(classes, patient, group, 1)[0])


def grouped_inconsistency(
    scores: Float[ndarray, " row"],
    slide: Int[ndarray, " row"],
    group: Int[ndarray, " row"],
    num_groups: int,
) -> Float[ndarray, " group"]:
    """Compute `inconsistency` of every group; NaN with fewer than two slides or no spread.

    Args:
        scores: one per slide and scanner.
        slide: number of the slide, from 0.
        group: number of the group, from 0 to `num_groups` - 1.
        num_groups: length of the result.
    """
    # Shifted by a score of the group: equal scores become exact zeros, not rounding noise.
    reference = np.zeros(num_groups)
    reference[group] = scores
    order, starts, counts = _members(slide, group)
    score = (scores - reference[group])[order]
    mean = np.add.reduceat(score, starts) / counts if len(starts) else score
    squares = np.square(score - np.repeat(mean, counts))
    total = np.add.reduceat(squares, starts) if len(starts) else squares
    paired = counts > 1
    owner, mean = group[order][starts][paired], mean[paired]
    within = _mean(total[paired] / (counts[paired] - 1), owner, num_groups)
    centre = _mean(mean, owner, num_groups)
    num_slides = np.bincount(owner, minlength=num_groups)
    spread = np.bincount(owner, weights=np.square(mean - centre[owner]), minlength=num_groups)
    defined = (num_slides > 1) & (spread > 0)
    result = np.full(num_groups, np.nan)
    result[defined] = np.sqrt(within[defined] * (num_slides[defined] - 1) / spread[defined])
    return result


def grouped_flip_rate(
    predicted: Int[ndarray, " row"],
    patient: Int[ndarray, " row"],
    group: Int[ndarray, " row"],
    num_groups: int,
) -> Float[ndarray, " group"]:
    """Compute `flip_rate` of every group; NaN without a patient on two scanners.

    Args:
        predicted: class number, one per patient and scanner.
        patient: number of the patient, from 0.
        group: number of the group, from 0 to `num_groups` - 1.
        num_groups: length of the result.
    """
    if not len(predicted):
        return np.full(num_groups, np.nan)
    order, starts, counts = _members(patient, group)
    classes = predicted[order]
    lowest, highest = np.minimum.reduceat(classes, starts), np.maximum.reduceat(classes, starts)
    paired = counts > 1
    return _mean((lowest != highest)[paired], group[order][starts][paired], num_groups)


def _members(
    member: Int[ndarray, " row"], group: Int[ndarray, " row"]
) -> tuple[Int[ndarray, " row"], Int[ndarray, " segment"], Int[ndarray, " segment"]]:
    """Sort rows by group and member: the order, where each member starts, how many rows it has."""
    order, step = np.arange(len(member)), np.diff(group)
    if not ((step > 0) | ((step == 0) & (np.diff(member) >= 0))).all():
        order = np.lexsort((member, group))
    a, b = group[order], member[order]
    new = np.ones(len(order), dtype=bool)
    new[1:] = (a[1:] != a[:-1]) | (b[1:] != b[:-1])
    starts = np.flatnonzero(new)
    return order, starts, np.diff(np.append(starts, len(order)))


def _mean(
    values: ndarray, group: Int[ndarray, " row"], num_groups: int
) -> Float[ndarray, " group"]:
    with np.errstate(invalid="ignore"):  # 0 / 0 is the NaN that is meant
        return np.bincount(group, weights=values, minlength=num_groups) / np.bincount(
            group, minlength=num_groups
        )
