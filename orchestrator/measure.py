"""The metrics of every trial, from predictions of thousands of trials in one pass; pure.

A trial is measured on its held-out patients. The score of a patient on a scanner is the mean over
the patient's slides there; a scanner is seen unless the trial kept it out of training. Then

    auroc, accuracy, balanced_accuracy   mean over the seen scanners. Classes by the threshold fixed
                                         in training (score >= threshold), or the largest logit;
                                         multi-class AUROC is macro one-against-the-rest
    worst_scanner_auroc                  the lowest of the seen scanners, where there are two
    unseen_scanner_auroc                 mean over the scanners that are not seen
    inconsistency                        over all scanners of a slide; with several classes the mean
                                         over class logits, centred over classes
    flip_rate                            over all scanners of a patient

A scanner on which a metric is not defined (AUROC of one class) is left out of that trial's mean.
The order of the rows never changes a bit of the result.
"""

from collections.abc import Mapping, Sequence

import numpy as np
import pandas as pd

from orchestrator import measure_cases
from orchestrator.measure_cases import Cases, Means, Part
from training.metrics import accuracy, robustness

METRICS = (
    "accuracy",
    "auroc",
    "balanced_accuracy",
    "inconsistency",
    "flip_rate",
    "worst_scanner_auroc",
    "unseen_scanner_auroc",
)

_ON_A_SCANNER = ("accuracy", "balanced_accuracy", "auroc")


def trials(
    threshold: pd.Series, predictions: pd.DataFrame, *, unseen: Sequence[Sequence[str]]
) -> pd.DataFrame:
    """Measure trials on their held-out patients.

    Args:
        threshold: decision threshold of each trial to measure, on the score; indexed by trial id.
            Not used where scores are per class.
        predictions: a row per trial and scan, also of other trials; no augmented views.
        unseen: for each trial, in the order of `threshold`, the scanners kept out of training.

    Returns:
        A row per trial, columns `METRICS`; NaN where a metric does not apply.

    Raises:
        StoreError: A scan is predicted twice, a trial has no held-out predictions or no threshold,
            or a score is not finite.
    """
    ids = pd.Index(threshold.index)
    if not len(ids):
        return pd.DataFrame(index=ids, columns=list(METRICS), dtype=np.float64)
    parts = []
    for places in measure_cases.alike(ids, predictions):
        away = [unseen[place] for place in places.tolist()]
        found = measure_cases.cases(threshold.iloc[places], predictions, unseen=away)
        parts.append(of(found, by_scanner(found)))
    return pd.concat(parts).loc[ids] if len(parts) > 1 else parts[0]


def of(found: Cases, each: Mapping[str, np.ndarray]) -> pd.DataFrame:
    """Measure cases, see `trials`, from what `by_scanner` says of each scanner."""
    case, number = found.patient, len(found.ids)
    assert found.predicted is not None, "risks have no classes"
    flips = robustness.grouped_flip_rate(found.predicted, case.member, case.trial, number)
    measured = {
        "accuracy": mean(each["accuracy"], found.seen),
        "balanced_accuracy": mean(each["balanced_accuracy"], found.seen),
        "auroc": mean(each["auroc"], found.seen),
        "worst_scanner_auroc": worst(each["auroc"], found.seen),
        "unseen_scanner_auroc": mean(each["auroc"], ~found.seen),
        "inconsistency": inconsistency(found.slide, number),
        "flip_rate": flips,
    }
    return pd.DataFrame(measured, index=found.ids, columns=list(METRICS))


def by_scanner(found: Cases) -> dict[str, np.ndarray]:
    """Measure each trial on each scanner, [trial, scanner]."""
    made = {name: np.full(found.seen.shape, np.nan) for name in _ON_A_SCANNER}
    for part in measure_cases.parts(found):
        values = zip(_ON_A_SCANNER, _on_scanners(part), strict=True)
        for name, value in values:
            made[name][part.trials] = value.reshape(-1, len(found.scanners))
    return made


def _on_scanners(part: Part) -> tuple[np.ndarray, ...]:
    """Measure `_ON_A_SCANNER`, a value per group."""
    group, number = part.group, part.num_groups
    if part.score.shape[1] == 1:
        area = accuracy.grouped_auroc(part.label, part.score[:, 0], group, number)
    else:
        area = accuracy.grouped_multiclass_auroc(part.label, part.score, group, number)
    plain, balanced = accuracy.grouped_accuracy(
        part.label, part.predicted, group, number, num_classes=part.num_classes
    )
    return plain, balanced, area


def inconsistency(slide: Means, num_trials: int) -> np.ndarray:
    """Compute the inconsistency of every trial over the scanners of its slides."""
    score = slide.score
    if score.shape[1] > 1:
        score = score - score.mean(1, keepdims=True)
    columns = [
        robustness.grouped_inconsistency(column, slide.member, slide.trial, num_trials)
        for column in score.T
    ]
    average: np.ndarray = np.stack(columns).mean(0)
    return average


def mean(values: np.ndarray, use: np.ndarray) -> np.ndarray:
    """Average each row over the columns to use where it is defined; NaN where there is none."""
    use = use & ~np.isnan(values)
    with np.errstate(invalid="ignore"):  # 0 / 0 is the NaN that is meant
        average: np.ndarray = np.where(use, values, 0).sum(1) / use.sum(1)
    return average


def worst(values: np.ndarray, use: np.ndarray) -> np.ndarray:
    """Find each row's lowest value among the columns to use; NaN with fewer than two."""
    use = use & ~np.isnan(values)
    lowest = np.where(use, values, np.inf).min(1)
    return np.where(use.sum(1) > 1, lowest, np.nan)
