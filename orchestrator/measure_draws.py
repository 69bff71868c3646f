"""The metrics of every trial for every draw of its patients; pure.

Column by column they are what `measure`, `measure_scanners` and `measure_survival` say of a sample
in which each patient has its weight. A scanner on which a metric is not defined in a draw is left
out of that draw's mean, as there. Scores are read once per trial and scanner, not once per draw:
about a millisecond for 400 patients and 2,000 draws.
"""

from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass

import numpy as np
import scipy

from orchestrator import weighted
from orchestrator.measure_cases import Cases, Means
from training.metrics.accuracy import one_vs_rest
from training.metrics.calibration import probability

ON_A_SCANNER = ("accuracy", "balanced_accuracy", "brier", "auroc", "concordance")
"""Metrics whose mean over the seen scanners counts."""

METRICS = (
    *ON_A_SCANNER,
    "inconsistency",
    "flip_rate",
    *(
        f"{which}_scanner_{name}"
        for name in ("auroc", "balanced_accuracy", "concordance")
        for which in ("worst", "unseen")
    ),
    "auroc_gap",
    "balanced_accuracy_gap",
    "concordance_gap",
)
"""What has draws; other metrics have estimates only."""

_BLOCK = 2**23
"""Numbers of an array over trials, scanners and draws, about."""


@dataclass(frozen=True, slots=True, kw_only=True)
class _Layout:
    """Trials whose rows are of the same members, scanners and outcomes (two tasks have two).

    Attributes:
        trials: their numbers.
        rows: [trial, row], places in `Means`.
        member: of each row.
        scanner: of each row.
    """

    trials: np.ndarray
    rows: np.ndarray
    member: np.ndarray
    scanner: np.ndarray


def trials(
    found: Cases,
    weight: np.ndarray,
    *,
    metrics: Collection[str],
) -> dict[str, np.ndarray]:
    """Measure trials under weights of patients.

    Args:
        found: the cases.
        weight: [patient, column], patients as numbered in the cases.
        metrics: of `METRICS`, which to measure; others are left out.

    Returns:
        [trial, column] of each metric, float32; NaN where it is not defined.
    """
    names = [name for name in METRICS if name in metrics]
    shape = (len(found.ids), weight.shape[1])
    made = {name: np.full(shape, np.nan, dtype=np.float32) for name in names}
    has = ("concordance",) if found.predicted is None else ON_A_SCANNER[:-1]
    bases = [base for base in has if any(name in made for name in _of(base))]
    for layout in _layouts(found.patient, len(found.ids)):
        for base, block, values in _on_scanners(found, layout, weight, bases):
            scanners = np.unique(layout.scanner)
            reduced = _over_scanners(base, values, found.seen[block][:, scanners])
            for name in names:
                if name in reduced:
                    made[name][block] = reduced[name]
        if "flip_rate" in made and found.predicted is not None:
            made["flip_rate"][layout.trials] = _flip_rate(found, layout, weight)
    if "inconsistency" in made:
        for layout in _layouts(found.slide, len(found.ids)):
            made["inconsistency"][layout.trials] = _inconsistency(found, layout, weight)
    return made


def _of(base: str) -> tuple[str, ...]:
    """Name the metrics that are made of one on a scanner."""
    return (base, f"worst_scanner_{base}", f"unseen_scanner_{base}", f"{base}_gap")


def _layouts(means: Means, number: int) -> Iterator[_Layout]:
    """Group trials whose rows are alike, see `_Layout`, in the order of their first ones."""
    ends = np.searchsorted(means.trial, np.arange(number + 1))
    groups: dict[tuple[bytes, ...], list[int]] = {}
    for trial in range(number):
        own = slice(ends[trial], ends[trial + 1])
        key = tuple(each[own].tobytes() for each in (means.member, means.scanner, means.told))
        groups.setdefault(key, []).append(trial)
    for members in groups.values():
        first = slice(ends[members[0]], ends[members[0] + 1])
        size = first.stop - first.start
        if size:
            yield _Layout(
                trials=np.array(members),
                rows=ends[members][:, None] + np.arange(size),
                member=means.member[first],
                scanner=means.scanner[first],
            )


def _on_scanners(
    found: Cases,
    layout: _Layout,
    weight: np.ndarray,
    bases: Collection[str],
) -> Iterator[tuple[str, np.ndarray, np.ndarray]]:
    """Measure on each scanner: a metric, some trials, and [trial, scanner, column]."""
    scanners = np.unique(layout.scanner)
    places = [np.flatnonzero(layout.scanner == scanner) for scanner in scanners]
    gathered: dict[bytes, np.ndarray] = {}
    for place in places:
        key = layout.member[place].tobytes()
        if key not in gathered:
            gathered[key] = weight[layout.member[place]]
    weights = [gathered[layout.member[place].tobytes()] for place in places]
    step = max(1, _BLOCK // (len(scanners) * weight.shape[1]))
    for start in range(0, len(layout.trials) if bases else 0, step):
        block = slice(start, start + step)
        for base in bases:
            values = np.stack(
                [
                    _measured(base, found, layout.rows[block][:, place], own)
                    for place, own in zip(places, weights, strict=True)
                ],
                axis=1,
            )
            yield base, layout.trials[block], values


def _measured(base: str, found: Cases, rows: np.ndarray, weight: np.ndarray) -> np.ndarray:
    """Measure some trials on one scanner, [trial, column]."""
    case = found.patient
    label, score = case.label[rows], case.score[rows]
    if base == "concordance":
        time, event, _ = case.told[rows[0]].T
        return weighted.concordance(time, event > 0, score[:, :, 0], weight)
    if base == "auroc":
        return np.stack([_auroc(*own, weight) for own in zip(label, score, strict=True)])
    if base == "brier":
        return weighted.shares(_squares(label, score), np.ones(label.shape), weight)
    assert found.predicted is not None
    right = (label == found.predicted[rows]).astype(np.float64)
    if base == "accuracy":
        return weighted.shares(right, np.ones(label.shape), weight)
    recalls = [
        weighted.shares(right * (label == c), (label == c).astype(np.float64), weight)
        for c in range(max(2, score.shape[2]))
    ]
    return np.asarray(np.mean(recalls, axis=0))


def _auroc(label: np.ndarray, score: np.ndarray, weight: np.ndarray) -> np.ndarray:
    """Compute the AUROC of one trial; several classes: the mean of one against the rest."""
    if score.shape[1] == 1:
        return weighted.auroc(label, score[:, 0], weight)
    ranked = one_vs_rest(score)
    areas = [weighted.auroc(label == c, ranked[:, c], weight) for c in range(score.shape[1])]
    return np.asarray(np.mean(areas, axis=0))


def _squares(label: np.ndarray, score: np.ndarray) -> np.ndarray:
    """Give each case's part of the Brier score, [trial, case]."""
    if score.shape[2] == 1:
        return np.asarray(np.square(probability(score[:, :, 0]) - label))
    chance = np.exp(score - np.logaddexp.reduce(score, axis=2, keepdims=True))
    wanted = label[:, :, None] == np.arange(score.shape[2])
    return np.asarray(np.square(chance - wanted).sum(2) / 2)


def _over_scanners(base: str, values: np.ndarray, seen: np.ndarray) -> Mapping[str, np.ndarray]:
    """Reduce [trial, scanner, column] to [trial, column]: mean, worst, unseen and gap."""
    there = ~np.isnan(values)
    use = seen[:, :, None] & there
    count = use.sum(1)
    lowest = np.where(use, values, np.inf).min(1)
    highest = np.where(use, values, -np.inf).max(1)
    several = count > 1
    worst, unseen = f"worst_scanner_{base}", f"unseen_scanner_{base}"
    with np.errstate(invalid="ignore"):  # infinity minus infinity where no scanner is
        gap = np.where(several, highest - lowest, np.nan)
    return {
        base: _mean(values, use),
        worst: np.where(several, lowest, np.nan),
        unseen: _mean(values, ~seen[:, :, None] & there),
        f"{base}_gap": gap,
    }


def _mean(values: np.ndarray, use: np.ndarray) -> np.ndarray:
    with np.errstate(invalid="ignore"):  # 0 / 0 is the NaN that is meant
        return np.asarray(np.where(use, values, 0).sum(1) / use.sum(1))


def _flip_rate(found: Cases, layout: _Layout, weight: np.ndarray) -> np.ndarray:
    """Compute the flip rate of the trials of a layout."""
    starts = np.flatnonzero(np.diff(layout.member, prepend=-1))
    paired = np.diff(np.append(starts, len(layout.member))) > 1
    assert found.predicted is not None
    classes = found.predicted[layout.rows]
    lowest = np.minimum.reduceat(classes, starts, axis=1)
    highest = np.maximum.reduceat(classes, starts, axis=1)
    flips = ((lowest != highest) & paired).astype(np.float64)
    whole = np.broadcast_to(paired.astype(np.float64), flips.shape)
    return weighted.shares(flips, whole, weight[layout.member[starts]])


def _inconsistency(found: Cases, layout: _Layout, weight: np.ndarray) -> np.ndarray:
    """Compute the inconsistency of the trials of a layout of slides."""
    starts = np.flatnonzero(np.diff(layout.member, prepend=-1))
    counts = np.diff(np.append(starts, len(layout.member)))
    keep = counts > 1
    owner, place = np.unique(found.owner[layout.rows[0][starts]], return_inverse=True)
    score = found.slide.score[layout.rows]  # [trial, row, column]
    if score.shape[2] > 1:
        score = score - score.mean(2, keepdims=True)
    # Sparse: of 25,000 patients a full matrix of slides and owners has 5 GB.
    to_owner = scipy.sparse.csr_array((keep * 1.0, (np.arange(len(starts)), place)))
    made = []
    for column in np.moveaxis(score, 2, 0):
        shifted = column - column[:, -1:]  # equal scores become exact zeros, as in the metric
        mean = np.add.reduceat(shifted, starts, axis=1) / counts
        squares = np.square(shifted - np.repeat(mean, counts, axis=1))
        within = np.add.reduceat(squares, starts, axis=1) / np.maximum(counts - 1, 1)
        centre = mean[:, keep].mean(1, keepdims=True) if keep.any() else 0.0
        centred = (mean - centre) * keep
        varied, total, squared = (each @ to_owner for each in (within, centred, np.square(centred)))
        paired = np.broadcast_to(to_owner.sum(0), varied.shape)
        made.append(weighted.inconsistency(paired, varied, total, squared, weight[owner]))
    return np.asarray(np.mean(made, axis=0))
