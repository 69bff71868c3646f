"""The trials of a sweep under draws of their patients, by what they are measured on; pure.

Class tasks, survival tasks and external cohorts are each measured on patients of their own, and
have draws of their own.
"""

import json
from collections.abc import Collection, Iterator, Mapping

import numpy as np
import pandas as pd

from orchestrator import aggregate, measure_cases, measure_draws, resampling
from orchestrator.aggregate import Joined
from orchestrator.evidence_rows import Drawn
from orchestrator.measure_cases import Cases
from orchestrator.measure_draws import Outcome
from orchestrator.resampling import Method

METRICS = (*measure_draws.METRICS, "external_auroc", "external_concordance")
"""What has intervals."""

_EXTERNAL = "external_"


def of(
    joined: Joined,
    plan: pd.DataFrame,
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
        plan: a row per cell and trial, as in `plan.parquet`.
        predictions: a row per trial and scan.
        metrics: which; those without draws are left out.
        num_draws: how many.
        method: of the intervals that will be made of them.
        seed: of the draws.
    """
    drawn = []
    for found, outcome, names in _samples(joined, plan, predictions, metrics):
        own = resampling.strata(
            found.patient.member,
            found.patient.trial,
            _classes(found, outcome),
            num_patients=len(found.patients),
        )
        draws = resampling.draw(
            own, [str(name) for name in found.patients],
            num_draws=num_draws, method=method, seed=seed,
        )  # fmt: skip
        values = measure_draws.trials(found, draws.weight, metrics=names, outcome=outcome)
        named = {names[name]: each for name, each in values.items()}
        drawn.append(Drawn(found=found, draws=draws, values=named))
    return drawn


def _samples(
    joined: Joined, plan: pd.DataFrame, predictions: pd.DataFrame, metrics: Collection[str]
) -> Iterator[tuple[Cases, Outcome | None, Mapping[str, str]]]:
    """Give the cases of each kind, outcomes of survival, and names of the metrics."""
    inside = {name: name for name in measure_draws.METRICS if name in metrics}
    outside = {name.removeprefix(_EXTERNAL): name for name in metrics if name.startswith(_EXTERNAL)}
    if joined.cases is not None:
        yield joined.cases, None, inside
    config = plan.drop_duplicates("trial").set_index("trial")["config"]
    settings = config.loc[joined.known.index].map(json.loads)
    lives = settings.map(aggregate.is_survival).to_numpy(bool)
    locked = settings.map(lambda each: bool(each.get("external_cohorts"))).to_numpy(bool)
    threshold = joined.known["threshold"]
    if lives.any():
        unseen = [aggregate.unseen_of(each) for each in settings[lives]]
        found = measure_cases.cases(threshold[lives], predictions, unseen=unseen)
        yield found, _outcome(found, predictions), inside
    if not outside or not locked.any():
        return
    rows = predictions[predictions["part"].eq("external")].assign(held_out=True)
    for survival in (False, True):
        mine = threshold[locked & (lives == survival)]
        if len(mine):
            found = measure_cases.cases(mine, rows, unseen=[()] * len(mine))
            yield found, _outcome(found, rows) if survival else None, outside


def _outcome(found: Cases, predictions: pd.DataFrame) -> Outcome:
    """Look up the outcome of each patient."""
    known = predictions.drop_duplicates("patient").set_index("patient").loc[list(found.patients)]
    return Outcome(
        time=known["time"].to_numpy(np.float64), event=known["event"].to_numpy(np.float64) > 0
    )


def _classes(found: Cases, outcome: Outcome | None) -> np.ndarray:
    """Give the class of each row of a patient: patients are drawn inside classes."""
    if outcome is None:
        return found.patient.label
    return np.asarray(outcome.event[found.patient.member].astype(np.int64))
