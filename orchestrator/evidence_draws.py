"""The trials of a sweep under draws of their patients, by what they are measured on; pure.

Class tasks, survival tasks and external cohorts are each measured on patients of their own, and
have draws of their own.
"""

from collections.abc import Collection, Iterator, Mapping

import numpy as np
import pandas as pd

from orchestrator import aggregate, measure_cases, measure_draws, resampling
from orchestrator.aggregate import Joined
from orchestrator.errors import SweepError
from orchestrator.evidence_rows import Drawn
from orchestrator.measure_cases import Cases
from orchestrator.resampling import Method

METRICS = (*measure_draws.METRICS, "external_auroc", "external_concordance")
"""What has intervals."""

_EXTERNAL = "external_"
_BCA_MAX = 10_000
"""Patients that `bca` takes: it measures every trial once more without each of them."""


def of(
    joined: Joined,
    predictions: pd.DataFrame,
    *,
    metrics: Collection[str],
    num_draws: int,
    method: Method,
    seed: int,
) -> list[Drawn]:
    """Draw patients and measure all trials that are done.

    Args:
        joined: plan and results.
        predictions: a row per trial and scan.
        metrics: which; those without draws are left out.
        num_draws: how many.
        method: of the intervals that will be made of them.
        seed: of the draws.

    Raises:
        SweepError: There are too many patients for the method.
    """
    drawn = []
    for found, names in _samples(joined, predictions, metrics):
        if method == "bca" and num_draws and len(found.patients) > _BCA_MAX:
            raise SweepError(
                f"bca of {len(found.patients):,} patients: expected {_BCA_MAX:,} at most",
                hint="--method expanded, which differs little with so many",
            )
        own = resampling.strata(
            found.patient.member,
            found.patient.trial,
            _classes(found),
            num_patients=len(found.patients),
        )
        draws = resampling.draw(
            own, [str(name) for name in found.patients],
            num_draws=num_draws, method=method, seed=seed,
        )  # fmt: skip
        values = measure_draws.trials(found, draws.weight, metrics=names)
        named = {names[name]: each for name, each in values.items()}
        drawn.append(Drawn(found=found, draws=draws, values=named))
    return drawn


def _samples(
    joined: Joined, predictions: pd.DataFrame, metrics: Collection[str]
) -> Iterator[tuple[Cases, Mapping[str, str]]]:
    """Give the cases of each kind, and names of the metrics."""
    inside = {name: name for name in measure_draws.METRICS if name in metrics}
    outside = {name.removeprefix(_EXTERNAL): name for name in metrics if name.startswith(_EXTERNAL)}
    for task in joined.tasks:
        yield task.cases, inside
    if not outside:
        return
    lives = joined.settings.map(aggregate.is_survival).to_numpy(bool)
    locked = joined.settings.map(lambda each: bool(each.get("external_cohorts"))).to_numpy(bool)
    if not locked.any():
        return
    rows = predictions[predictions["part"].eq("external")].assign(held_out=True)
    for survival in (False, True):
        every = joined.known["threshold"][locked & (lives == survival)]
        for places in measure_cases.alike(every.index, rows):
            mine, away = every.iloc[places], [()] * len(places)
            if len(mine):
                yield measure_cases.cases(mine, rows, unseen=away, survival=survival), outside


def _classes(found: Cases) -> np.ndarray:
    """Give the class of each row of a patient, or its event: patients are drawn inside them."""
    if found.predicted is not None:
        return found.patient.label
    event = found.patient.told[:, measure_cases.OUTCOME.index("event")]
    return np.asarray((event > 0).astype(np.int64))
