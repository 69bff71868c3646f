"""The scans that a trial reads: one row each, with part, label and what sampling needs to know.

Augmented views come with `pairs: augmented` alone, and are of a part of their own. Rows are ordered
by view id, so that the order of shards and of the index does not change a result.
"""

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import pandas as pd

from training import seeds
from training.config import TrialConfig
from training.data import augmented, folds, groups, index
from training.data.index import Dataset
from training.errors import DataError


@dataclass(frozen=True, slots=True, kw_only=True)
class Scans:
    """The scans of all parts of a fold; arrays have one entry per scan, or view made from one.

    Attributes:
        table: index rows with the column `part`: train, validation or test; augmented for views of
            training scans on seen scanners, whose patient, scanner and groups are their scan's.
        label: class number of the patient, after the permutation of `shuffle_labels`.
        seen: False on an unseen scanner.
        patient: number of the patient.
        scanner: number of the scanner.
        num_outputs: columns of the scores: 1 for a binary task, else the number of classes.
        in_dim: width of the embeddings.
        groups: for each column that a loss of the trial compares, the number of the scan's group
            among those of the training scans on seen scanners; -1 for a scan of none of them.
        num_groups: how many groups each of these columns has.
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

    def of(self, part: str, *, seen_only: bool) -> npt.NDArray[np.int64]:
        """Give the row numbers of a part."""
        rows = (self.table["part"] == part).to_numpy()
        return np.flatnonzero(rows & self.seen if seen_only else rows)


def read(dataset: Dataset, config: TrialConfig) -> Scans:
    """Choose the scans of the configuration's encoder, fold and task.

    Raises:
        DataError: No scans of the encoder, embeddings of several widths, or a wrong split.
    """
    split = folds.split(dataset, config)
    parts = {"train": split.train, "validation": split.validation, "test": split.test}
    part = {patient: name for name, patients in parts.items() for patient in patients}
    table = dataset.index
    wanted = (table["encoder"] == config.encoder) & (table["source_scan"] == "")
    table = table[wanted & table["patient"].isin(part.keys())]
    table = table.assign(part=table["patient"].map(part))
    made = augmented.views(dataset, config, split.train)
    if len(made):
        table = pd.concat([table, made.assign(part="augmented")])
    table = table.sort_values("view", kind="stable").reset_index(drop=True)
    widths = table["dim"].unique()
    if len(widths) != 1:
        raise DataError(
            f"encoder {config.encoder!r}: embeddings have widths {sorted(widths.tolist())}, "
            "expected one width",
            hint="rebuild the index of this encoder",
        )
    labels = index.class_numbers(dataset, config.task)
    if config.shuffle_labels:
        labels |= _shuffled(labels, [*split.train, *split.validation], config)
    num_classes = len(index.classes(dataset, config.task))
    seen = ~table["scanner"].isin(config.unseen_scanners).to_numpy()
    names = {column: groups.names(table[seen], column) for column in groups.columns(config)}
    return Scans(
        table=table,
        label=np.array([labels[patient] for patient in table["patient"]], np.int64),
        seen=seen,
        patient=np.unique(table["patient"], return_inverse=True)[1].astype(np.int64),
        scanner=np.unique(table["scanner"], return_inverse=True)[1].astype(np.int64),
        num_outputs=1 if config.task.kind == "binary" else num_classes,
        in_dim=int(widths[0]),
        groups={each: groups.numbers(table[each], known) for each, known in names.items()},
        num_groups={each: len(known) for each, known in names.items()},
    )


def _shuffled(labels: dict[str, int], patients: list[str], config: TrialConfig) -> dict[str, int]:
    """Permute the labels of these patients."""
    patients = sorted(patients)
    order = seeds.generator(config.draw_seed, config.fold, "shuffle labels").permutation(
        len(patients)
    )
    return {patients[i]: labels[patients[j]] for i, j in enumerate(order)}
