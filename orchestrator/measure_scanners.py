"""How well every trial does on each scanner, and how far the scanners differ in that; pure.

Measured on the patients of `measure`.

    auprc                     average precision; several classes: the mean over classes
    brier                     mean squared difference of probability and label; several classes:
                              half the sum over classes, which for two classes is the same
    calibration_intercept     of logistic recalibration, slope held at one; 0 is perfect (binary)
    calibration_slope         of logistic recalibration; 1 is perfect (binary)
    calibration_error         expected calibration error in ten bins (binary)
    worst_class_accuracy      lowest share of right answers among the classes
"""

from collections.abc import Mapping

import numpy as np
import pandas as pd

from orchestrator import measure, measure_cases
from orchestrator.measure_cases import Cases, Part
from training.metrics import accuracy, agreement, calibration, precision

METRICS = ("auprc", "brier", "calibration_intercept", "calibration_slope", "calibration_error")
"""What the main table has beside `measure.METRICS`: the mean over the seen scanners."""

COLUMNS = (
    "patients", "auroc", "accuracy", "balanced_accuracy", "worst_class_accuracy", *METRICS
)  # fmt: skip
"""What is known of a trial on a scanner."""

GAPS = (
    "worst_scanner_auroc",
    "unseen_scanner_auroc",
    "auroc_gap",
    "auroc_cv",
    "worst_scanner_balanced_accuracy",
    "unseen_scanner_balanced_accuracy",
    "balanced_accuracy_gap",
    "worst_group_accuracy",
    "worst_scanner_brier",
    "worst_scanner_intercept",
    "worst_scanner_slope",
)
"""What `gaps` compares, see there."""


def by_scanner(found: Cases, known: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
    """Measure each trial on each scanner, [trial, scanner]; `COLUMNS`, NaN where not defined.

    Args:
        found: the cases.
        known: what `measure.by_scanner` says of them.
    """
    shape = found.seen.shape
    names = [name for name in COLUMNS if name not in known]
    made = {name: np.full(shape, np.nan) for name in names}
    for part in measure_cases.parts(found):
        each = _measure(part)
        for name in names:
            made[name][part.trials] = each[name].reshape(-1, shape[1])
    return {**known, **made}


def averaged(found: Cases, each: Mapping[str, np.ndarray]) -> pd.DataFrame:
    """Average over the seen scanners: a row per trial, columns `METRICS`."""
    return pd.DataFrame(
        {name: measure.mean(each[name], found.seen) for name in METRICS}, index=found.ids
    )


def gaps(found: Cases, each: Mapping[str, np.ndarray]) -> pd.DataFrame:
    """Compare scanners: a row per trial, columns `GAPS`.

    Worst is the lowest of the seen scanners (`worst_group_accuracy`: of their classes too), the
    highest Brier score, the largest |intercept| and the largest |slope - 1|; gap is highest minus
    lowest and cv SD over mean of the seen scanners. NaN with fewer than two seen scanners that
    have a value; `unseen_scanner_…` is the mean over the scanners that are not seen.
    """
    seen = found.seen
    intercept = np.abs(each["calibration_intercept"])
    slope = np.abs(each["calibration_slope"] - 1)
    measured = {
        "auroc_cv": agreement.coefficient_of_variation(np.where(seen, each["auroc"], np.nan)),
        "worst_group_accuracy": measure.worst(each["worst_class_accuracy"], seen),
        "worst_scanner_brier": -measure.worst(-each["brier"], seen),
        "worst_scanner_intercept": -measure.worst(-intercept, seen),
        "worst_scanner_slope": -measure.worst(-slope, seen),
    }
    for name in ("auroc", "balanced_accuracy"):
        lowest, highest = measure.worst(each[name], seen), -measure.worst(-each[name], seen)
        measured[f"worst_scanner_{name}"] = lowest
        measured[f"unseen_scanner_{name}"] = measure.mean(each[name], ~seen)
        measured[f"{name}_gap"] = highest - lowest
    return pd.DataFrame(measured, index=found.ids, columns=list(GAPS))


def _measure(part: Part) -> dict[str, np.ndarray]:
    """Measure what `measure.by_scanner` does not, a value per trial and scanner."""
    label, score, group, number = part.label, part.score, part.group, part.num_groups
    count = np.bincount(group, minlength=number).astype(np.float64)
    made = {"patients": count, "worst_class_accuracy": _recalls(part).min(1)}
    if score.shape[1] > 1:
        none = np.full(number, np.nan)
        made |= dict.fromkeys(METRICS, none)
        return made | _several_classes(label, score, group, number)
    logit = score[:, 0]
    intercept, slope = calibration.grouped_calibration(label, logit, group, number)
    return made | {
        "auprc": precision.grouped_auprc(label, logit, group, number),
        "brier": calibration.grouped_brier(label, logit, group, number),
        "calibration_intercept": intercept,
        "calibration_slope": slope,
        "calibration_error": calibration.grouped_calibration_error(label, logit, group, number),
    }


def _recalls(part: Part) -> np.ndarray:
    """Share of right answers, [group, class]; NaN where a class does not occur."""
    cell, size = part.group * part.num_classes + part.label, part.num_groups * part.num_classes
    right = np.bincount(cell, weights=part.label == part.predicted, minlength=size)
    with np.errstate(invalid="ignore"):  # 0 / 0 is the NaN that is meant
        share: np.ndarray = right / np.bincount(cell, minlength=size)
    return share.reshape(-1, part.num_classes)


def _several_classes(
    label: np.ndarray, score: np.ndarray, group: np.ndarray, number: int
) -> dict[str, np.ndarray]:
    ranked = accuracy.one_vs_rest(score)
    areas = [
        precision.grouped_auprc((label == c).astype(np.int64), ranked[:, c], group, number)
        for c in range(score.shape[1])
    ]
    return {
        "auprc": np.stack(areas).mean(0),
        "brier": calibration.grouped_multiclass_brier(label, score, group, number),
    }
