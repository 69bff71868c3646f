"""How far the scanners of a slide agree on its score and on a patient's class; pure.

Measured for thousands of trials in one pass, on dense arrays of a bounded size. All scanners count,
also those kept out of training, as for `inconsistency`. Scores per class are centred over the
classes, measured class by class, and averaged; so a metric on scores is one number.

    score_sd                  SD over slides of the mean score: what `rmsd` is to be read against,
                              since a model whose scores shrink agrees more without being better
    rmsd, rank_rmsd           mean over pairs of scanners, on the score and on ranks
    icc_agreement             ICC(2,1)
    icc_consistency           ICC(3,1)
    scanner_ratio             do scores move with the scanner, or just with the scan: F ratio of the
                              scanners, about 1 where these are exchangeable
    cohen_kappa               of classes, mean over pairs of scanners; empty of risks
    fleiss_kappa              of classes, over all scanners; empty of risks
"""

import numpy as np
import pandas as pd

from orchestrator.measure_cases import Cases, Means
from training.metrics import agreement, controlled_shift

METRICS = (
    "score_sd",
    "rmsd",
    "rank_rmsd",
    "icc_agreement",
    "icc_consistency",
    "scanner_ratio",
    "cohen_kappa",
    "fleiss_kappa",
)

_NUMBERS = 2**19
"""Entries of an array over pairs of scanners, about."""


def trials(found: Cases) -> pd.DataFrame:
    """Measure every trial: a row each, columns `METRICS`, NaN where one does not apply.

    A trial's scanners are those that have a scan of a held-out patient of it: a scanner that other
    trials have takes no slide out of its ICC.
    """
    number = len(found.ids)
    made = {name: np.full(number, np.nan) for name in METRICS}
    score = found.slide.score
    if score.shape[1] > 1:
        score = score - score.mean(1, keepdims=True)
    for group in _alike(found.slide, number, len(found.scanners)):
        columns = [_scores(_dense(found.slide, column, *group)) for column in score.T]
        for name in columns[0]:
            made[name][group[0]] = np.stack([each[name] for each in columns]).mean(0)
        if found.predicted is None:
            continue
        classes = _dense(found.patient, found.predicted.astype(np.float64), *group)
        made["cohen_kappa"][group[0]] = _over_pairs(agreement.cohen_kappa(classes))
        made["fleiss_kappa"][group[0]] = agreement.fleiss_kappa(classes)
    return pd.DataFrame(made, index=found.ids, columns=list(METRICS))


def _scores(scores: np.ndarray) -> dict[str, np.ndarray]:
    """Measure dense scores, [trial, slide, scanner]."""
    correlation = agreement.icc(scores)
    return {
        "score_sd": _spread(scores),
        "rmsd": _over_pairs(agreement.rmsd(scores)),
        "rank_rmsd": _over_pairs(agreement.rank_rmsd(scores)),
        "icc_agreement": correlation.agreement,
        "icc_consistency": correlation.consistency,
        "scanner_ratio": controlled_shift.scanner_ratio(scores),
    }


def _alike(slide: Means, number: int, num_scanners: int) -> list[tuple[np.ndarray, np.ndarray]]:
    """Group trials that have the same scanners: numbers of the trials, and of the scanners."""
    there = np.zeros((number, num_scanners), dtype=bool)
    there[slide.trial, slide.scanner] = True
    kinds, kind = np.unique(there, axis=0, return_inverse=True)
    largest = int(np.bincount(slide.trial).max())
    found = []
    for place, scanners in enumerate(np.flatnonzero(row) for row in kinds):
        members = np.flatnonzero(kind.ravel() == place)
        chunk = max(1, _NUMBERS // (largest * max(1, len(scanners))))
        found += [
            (members[start : start + chunk], scanners) for start in range(0, len(members), chunk)
        ]
    return found


def _dense(
    means: Means, values: np.ndarray, trials: np.ndarray, scanners: np.ndarray
) -> np.ndarray:
    """Lay out values as [trial, member, scanner]; NaN where a member has no scan."""
    first, last = np.searchsorted(means.trial, [trials[0], trials[-1] + 1])
    where = np.full(int(trials[-1] - trials[0]) + 1, -1)
    where[trials - trials[0]] = np.arange(len(trials))
    place = where[means.trial[first:last] - trials[0]]
    rows = first + np.flatnonzero(place >= 0)
    place = place[place >= 0]
    member = means.member[rows]
    new = np.ones(len(rows), dtype=bool)
    new[1:] = (np.diff(member) != 0) | (np.diff(place) != 0)
    rank = np.cumsum(new) - 1
    rank -= rank[np.searchsorted(place, np.arange(len(trials)))][place]
    dense = np.full((len(trials), int(rank.max()) + 1, len(scanners)), np.nan)
    dense[place, rank, np.searchsorted(scanners, means.scanner[rows])] = values[rows]
    return dense


def _spread(scores: np.ndarray) -> np.ndarray:
    """Compute the SD, with n - 1, over slides of the mean over their scanners."""
    there = ~np.isnan(scores)
    scans = there.sum(-1)
    slides = (scans > 0).sum(-1)
    with np.errstate(invalid="ignore"):  # 0 / 0 is the NaN that is meant
        mean = np.where(there, scores, 0.0).sum(-1) / scans
        centre = np.nansum(mean, -1) / slides
        squares = np.nansum(np.square(mean - centre[:, None]), -1)
        variance = np.where(slides > 1, squares / np.maximum(slides - 1, 1), np.nan)
    spread: np.ndarray = np.sqrt(variance)
    return spread


def _over_pairs(values: np.ndarray) -> np.ndarray:
    """Average a matrix over the pairs of scanners that have a value."""
    above = values[..., *np.triu_indices(values.shape[-1], 1)]
    there = ~np.isnan(above)
    with np.errstate(invalid="ignore"):  # 0 / 0 is the NaN that is meant
        mean: np.ndarray = np.where(there, above, 0.0).sum(-1) / there.sum(-1)
    return mean
