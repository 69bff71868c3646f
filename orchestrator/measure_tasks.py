"""Measures trials as their tasks want: classes and survival have metrics of their own; pure."""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd

from orchestrator import measure, measure_cases, measure_scanners, measure_survival
from orchestrator.measure_cases import Cases

METRICS = (*measure.METRICS, *measure_scanners.METRICS)
"""Columns of the main table of a sweep of classes."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Measured:
    """Trials of classes, or those of survival.

    Attributes:
        survival: which of the two.
        cases: what they are measured on.
        on_scanner: what they come to on each scanner, [trial, scanner], by metric.
        main: the metrics of the main table, by trial.
    """

    survival: bool
    cases: Cases
    on_scanner: Mapping[str, np.ndarray]
    main: pd.DataFrame

    @property
    def on_scanner_names(self) -> tuple[str, ...]:
        """Metrics on a scanner, in the order of their columns; `patients` is the first."""
        return measure_survival.COLUMNS if self.survival else measure_scanners.COLUMNS

    def gaps(self) -> pd.DataFrame:
        """Compare scanners, a row per trial."""
        if self.survival:
            return measure_survival.gaps(self.cases, self.on_scanner)
        return measure_scanners.gaps(self.cases, self.on_scanner)


def trials(
    threshold: pd.Series,
    predictions: pd.DataFrame,
    *,
    unseen: Sequence[Sequence[str]],
    survives: Sequence[bool],
) -> tuple[Measured, ...]:
    """Measure trials, those of classes first; see `measure` and `measure_survival`.

    Trials of tasks with unlike numbers of classes are measured apart.

    Args:
        threshold: of each trial to measure, by trial id.
        predictions: a row per trial and scan.
        unseen: for each trial, the scanners kept out of training.
        survives: for each trial, whether its task is survival.
    """
    found = []
    for survival in (False, True):
        mine = np.flatnonzero(np.array(survives, bool) == survival)
        for places in measure_cases.alike(threshold.index[mine], predictions):
            own = mine[places]
            if not len(own):
                continue
            away = [unseen[place] for place in own.tolist()]
            cases = measure_cases.cases(
                threshold.iloc[own], predictions, unseen=away, survival=survival
            )
            found.append(_survival(cases) if survival else _classes(cases))
    return tuple(found)


def main(measured: Sequence[Measured], planned: Collection[bool]) -> pd.DataFrame:
    """Join the metrics of the main table, by trial.

    Args:
        measured: the trials.
        planned: whether tasks are survival, of all that is planned; their columns are there even
            where none of their trials is done.
    """
    names = {False: METRICS, True: measure_survival.METRICS}
    empty = [pd.DataFrame(columns=list(names[each]), dtype=np.float64) for each in sorted(planned)]
    done = [each.main for each in measured]
    columns = dict.fromkeys(name for each in (*empty, *done) for name in each.columns)
    return pd.concat(done or empty).reindex(columns=list(columns))


def _classes(cases: Cases) -> Measured:
    each = measure_scanners.by_scanner(cases, measure.by_scanner(cases))
    table = measure.of(cases, each).join(measure_scanners.averaged(cases, each))
    return Measured(survival=False, cases=cases, on_scanner=each, main=table)


def _survival(cases: Cases) -> Measured:
    each = measure_survival.by_scanner(cases)
    table = measure_survival.of(cases, each)
    return Measured(survival=True, cases=cases, on_scanner=each, main=table)
