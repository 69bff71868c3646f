"""The scans that a trial reads: one row each, with part, label and what sampling needs to know.

Augmented views come with `pairs: augmented` or where they are asked for, and are of parts of their
own. Rows are ordered by view id, so that the order of shards and of the index does not change a
result; views of held-out scans come last.
"""

from collections.abc import Collection
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import pandas as pd

from training.config import Task, TrialConfig, left_out
from training.data import augmented, folds, groups, index, seen, survival
from training.data.index import Dataset
from training.data.outcomes import Outcome
from training.data.shuffling import shuffled
from training.data.survival import ScanOutcomes
from training.errors import DataError


@dataclass(frozen=True, slots=True, kw_only=True)
class Scans:
    """The scans of all parts of a fold; arrays have one entry per scan, or view made from one.

    Attributes:
        table: index rows with the column `part`: train, validation, test or external; augmented for
            views of training scans that may train, view for those of scans to test; their patient,
            scanner and groups are their scan's.
        label: class number of the patient, after the permutation of `shuffle_labels`; of a survival
            task 1 where the event happened, else 0.
        seen: whether a scan may train and validate, if its patient does (`seen.is_seen`).
        patient: number of the patient.
        scanner: number of the scanner.
        num_outputs: columns of the scores: 1 for a binary task and a log-risk, else the number of
            classes or intervals.
        in_dim: width of the embeddings.
        groups: for each column that a loss of the trial compares, the number of the scan's group
            among those of the training scans on seen scanners; -1 for a scan of none of them.
        num_groups: how many groups each of these columns has.
        outcomes: of a survival task, after the permutation of `shuffle_labels`; None for classes.
    """

    table: pd.DataFrame
    label: npt.NDArray[np.int64]
    seen: npt.NDArray[np.bool_]
    patient: npt.NDArray[np.int64]
    scanner: npt.NDArray[np.int64]
    num_outputs: int
    in_dim: int
    groups: dict[str, npt.NDArray[np.int64]]
    num_groups: dict[str, int]
    outcomes: ScanOutcomes | None = None

    @property
    def num_patients(self) -> int:
        """The patients of all parts."""
        return int(self.patient.max()) + 1

    @property
    def base(self) -> list[float]:
        """Where scores start: the logits of the hazards of intervals; empty for other tasks."""
        outcomes = self.outcomes
        return survival.base_logits(outcomes) if outcomes and self.num_outputs > 1 else []

    def of(self, part: str, *, seen_only: bool) -> npt.NDArray[np.int64]:
        """Give the row numbers of a part."""
        rows = (self.table["part"] == part).to_numpy()
        return np.flatnonzero(rows & self.seen if seen_only else rows)


def read(
    dataset: Dataset,
    config: TrialConfig,
    split: folds.Split | None = None,
    *,
    held_out_views: bool = False,
    columns: Collection[str] | None = None,
) -> Scans:
    """Choose the scans of the configuration's encoder, fold and task.

    Args:
        dataset: where they are.
        config: of the trial.
        split: the trial's, where it is known already.
        held_out_views: read the views of the scans to test, too.
        columns: whose groups are told; None: those that the losses of the trial compare.

    Raises:
        DataError: No scans of the encoder, embeddings of several widths, or a wrong split.
    """
    split = split or folds.split(dataset, config)
    part = {patient: name for name, patients in split.parts.items() for patient in patients}
    table = dataset.index
    wanted = (table["encoder"] == config.encoder) & (table["source_scan"] == "")
    table = table[wanted & table["patient"].isin(part.keys())]
    table = table.assign(part=table["patient"].map(part))
    made = augmented.views(dataset, config, split.train)
    if len(made):
        table = pd.concat([table, made.assign(part="augmented")])
    table = table.sort_values("view", kind="stable").reset_index(drop=True)
    table = _of_the_fold(dataset, config, table)
    if held_out_views:
        more = augmented.of(dataset, table[table["part"] == "test"])
        table = pd.concat([table, more.assign(part="view")], ignore_index=True)
    widths = table["dim"].unique()
    if len(widths) != 1:
        raise DataError(
            f"encoder {config.encoder!r}: embeddings have widths {sorted(widths.tolist())}, "
            "expected one width",
            hint="rebuild the index of this encoder",
        )
    labels, outcomes = _told(dataset, config, split)
    patient = np.unique(table["patient"], return_inverse=True)[1].astype(np.int64)
    is_seen = seen.is_seen(dataset, table, config)
    compared = groups.columns(config) if columns is None else sorted(columns)
    names = {column: groups.names(table[is_seen], column) for column in compared}
    return Scans(
        table=table,
        label=np.array([labels[patient] for patient in table["patient"]], np.int64),
        seen=is_seen,
        patient=patient,
        scanner=np.unique(table["scanner"], return_inverse=True)[1].astype(np.int64),
        num_outputs=_num_outputs(dataset, config.task),
        in_dim=int(widths[0]),
        groups={each: groups.numbers(table[each], known) for each, known in names.items()},
        num_groups={each: len(known) for each, known in names.items()},
        outcomes=survival.tabulate(outcomes, table, patient, config.task.survival)
        if outcomes
        else None,
    )


def _of_the_fold(dataset: Dataset, config: TrialConfig, table: pd.DataFrame) -> pd.DataFrame:
    """Where the fold leaves out a value: choose routine scans for training, and scans to test.

    Held-out patients are tested on their scans of the value; where it is a scanner, on all: results
    tell seen and unseen scanners apart.
    """
    value = seen.is_left_out(dataset, table, config)
    if value is None:
        return table
    train, test = (table["part"] == "train").to_numpy(), (table["part"] == "test").to_numpy()
    chosen = np.where(train, seen.routine(dataset, table, config), table["routine"].to_numpy(bool))
    column, _ = left_out(config.folds, config.fold) or ("", "")
    kept = ~test | value if column != "scanner" else np.ones(len(table), bool)
    return table.assign(routine=chosen)[kept].reset_index(drop=True)


def _told(
    dataset: Dataset, config: TrialConfig, split: folds.Split
) -> tuple[dict[str, int], dict[str, Outcome]]:
    """Give the label of each patient, and the outcome where the task is survival."""
    rest = [*split.train, *split.validation]
    if config.task.kind != "survival":
        labels = index.class_numbers(dataset, config.task)
        if config.shuffle_labels:
            labels |= shuffled(labels, rest, config)
        return labels, {}
    outcomes = index.outcomes(dataset, config.task)
    if config.shuffle_labels:
        for patient, other in shuffled(outcomes, rest, config).items():
            outcomes[patient] = other._replace(stratum=outcomes[patient].stratum)
        lines = survival.problems(outcomes, split.train, split.validation, config.task.survival)
        if lines:
            raise DataError("\n".join(f"shuffle_labels: {line}" for line in lines))
    return {patient: int(outcome.event) for patient, outcome in outcomes.items()}, outcomes


def _num_outputs(dataset: Dataset, task: Task) -> int:
    match task.kind:
        case "multiclass":
            return len(index.classes(dataset, task))
        case "survival" if task.survival.loss == "discrete":
            return task.survival.num_intervals
        case _:
            return 1
