"""The metrics of every trial of a survival task; pure.

Patients, scores and scanners are as in `measure`; the score is the risk. Then

    concordance                  Harrell's; mean over the seen scanners
    uno_concordance              Uno's, weights and truncation from the training patients (the
                                 truncation time is their last event); mean over the seen scanners
    hazard_ratio                 per SD of the score on the scanner, of Cox's model with the score
                                 alone; geometric mean over the seen scanners
    inconsistency                as in `measure`
    flip_rate                    empty: a risk has no classes
    worst_scanner_concordance    the lowest of the seen scanners, where there are two
    unseen_scanner_concordance   mean over the scanners that are not seen

A scanner on which a metric is not defined (no comparable pair; scores that order the events without
fault have no hazard ratio) is left out of that trial's mean. The order of the rows never changes a
bit of the result.
"""

from collections.abc import Mapping, Sequence

import numpy as np
import pandas as pd

from orchestrator import measure, measure_cases
from orchestrator.measure_cases import Cases
from training.metrics import agreement
from training.metrics.concordance import grouped_concordance
from training.metrics.hazard import grouped_log_hazard_ratio

METRICS = (
    "concordance",
    "uno_concordance",
    "hazard_ratio",
    "inconsistency",
    "flip_rate",
    "worst_scanner_concordance",
    "unseen_scanner_concordance",
)

COLUMNS = ("patients", "events", "concordance", "uno_concordance", "hazard_ratio")
"""What is known of a trial on a scanner."""

GAPS = (
    "worst_scanner_concordance",
    "unseen_scanner_concordance",
    "concordance_gap",
    "concordance_cv",
    "worst_scanner_uno_concordance",
    "unseen_scanner_uno_concordance",
    "uno_concordance_gap",
)
"""What `gaps` compares, as `measure_scanners.gaps` does."""


def trials(
    threshold: pd.Series, predictions: pd.DataFrame, *, unseen: Sequence[Sequence[str]]
) -> pd.DataFrame:
    """Measure trials on their held-out patients.

    Args:
        threshold: not used but for its index, the trial ids.
        predictions: a row per trial and scan, also of other trials; no augmented views.
        unseen: for each trial, the scanners kept out of training.

    Returns:
        A row per trial, columns `METRICS`; NaN where a metric does not apply.

    Raises:
        StoreError: The predictions are damaged (`measure.trials`), or tell no outcomes.
    """
    ids = pd.Index(threshold.index)
    if not len(ids):
        return pd.DataFrame(index=ids, columns=list(METRICS), dtype=np.float64)
    found = measure_cases.cases(threshold, predictions, unseen=unseen, survival=True)
    return of(found, by_scanner(found))


def of(found: Cases, each: Mapping[str, np.ndarray]) -> pd.DataFrame:
    """Measure cases, see `trials`, from what `by_scanner` says of each scanner."""
    seen, number = found.seen, len(found.ids)
    measured = {
        "concordance": measure.mean(each["concordance"], seen),
        "uno_concordance": measure.mean(each["uno_concordance"], seen),
        "hazard_ratio": np.exp(measure.mean(np.log(each["hazard_ratio"]), seen)),
        "inconsistency": measure.inconsistency(found.slide, number),
        "flip_rate": np.full(number, np.nan),
        "worst_scanner_concordance": measure.worst(each["concordance"], seen),
        "unseen_scanner_concordance": measure.mean(each["concordance"], ~seen),
    }
    return pd.DataFrame(measured, index=found.ids, columns=list(METRICS))


def by_scanner(found: Cases) -> dict[str, np.ndarray]:
    """Measure each trial on each scanner, [trial, scanner]; `COLUMNS`, NaN where not defined."""
    made = {name: np.full(found.seen.shape, np.nan) for name in COLUMNS}
    for part in measure_cases.parts(found):
        time, event, weight = part.told.T
        died, score = event > 0, part.score[:, 0]
        group, number = part.group, part.num_groups
        harrell, uno = grouped_concordance(time, died, score, group, number, died * 1.0, weight)
        values = (
            np.bincount(group, minlength=number),
            np.bincount(group, weights=died, minlength=number),
            harrell,
            uno,
            np.exp(grouped_log_hazard_ratio(time, died, score, group, number)),
        )
        for name, value in zip(COLUMNS, values, strict=True):
            made[name][part.trials] = value.reshape(-1, len(found.scanners))
    return made


def gaps(found: Cases, each: Mapping[str, np.ndarray]) -> pd.DataFrame:
    """Compare scanners: a row per trial, columns `GAPS`; terms as in `measure_scanners.gaps`."""
    seen, concordance = found.seen, each["concordance"]
    measured = {
        "concordance_cv": agreement.coefficient_of_variation(np.where(seen, concordance, np.nan))
    }
    for name in ("concordance", "uno_concordance"):
        lowest, highest = measure.worst(each[name], seen), -measure.worst(-each[name], seen)
        measured[f"worst_scanner_{name}"] = lowest
        measured[f"unseen_scanner_{name}"] = measure.mean(each[name], ~seen)
        measured[f"{name}_gap"] = highest - lowest
    return pd.DataFrame(measured, index=found.ids, columns=list(GAPS))
