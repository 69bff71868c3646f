"""Which patients train, validate and test in a fold, and the identity of the data of a trial.

A split is by patient. Who is held out, by kind of folds, stands in `fold_makers`; what leaks is
refused by `leaks`. Augmented views do not decide who trains; training reads those of its scans with
`pairs: augmented` alone. Patients of external cohorts are in no fold: the folds are made as if they
were not there.
"""

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass

import pandas as pd

from training.config import Task, TrialConfig
from training.data import augmented, fold_makers, index, leaks, seen, survival_folds, tables
from training.data.index import Dataset, class_numbers, classes
from training.errors import DataError

READ = (*tables.VIEW_STRINGS, "checksum", "dtype", "routine", "num_tiles", "dim")
"""Columns of the index that are part of the identity of a trial's data."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Split:
    """Patients of the parts: sorted, disjoint. Those of external cohorts are scored, no more."""

    train: tuple[str, ...]
    validation: tuple[str, ...]
    test: tuple[str, ...]
    external: tuple[str, ...] = ()

    @property
    def parts(self) -> dict[str, tuple[str, ...]]:
        """The patients by the name of their part."""
        return {
            "train": self.train,
            "validation": self.validation,
            "test": self.test,
            "external": self.external,
        }


def split(dataset: Dataset, config: TrialConfig) -> Split:
    """Divide the patients that have scans of the trial's encoder and take part in its folds.

    Raises:
        DataError: The split leaks, has an empty part or a training part of one class; a patient has
            no label; or a scanner, a value to leave out or a cohort is not there.
    """
    numbers = strata(dataset, config.task)
    return _split(dataset, config, _views(dataset, config), numbers)


def fingerprint(dataset: Dataset, config: TrialConfig) -> str:
    """Hash what a trial reads: bags, descriptions of scans, classes, labels, and the split.

    Where bags lie (shard, row, folder) and scans of patients outside the split do not count.
    """
    return identify(dataset, config)[0]


def identify(dataset: Dataset, config: TrialConfig) -> tuple[str, Split]:
    """Give the fingerprint and the split that is part of it."""
    numbers = strata(dataset, config.task)
    views = _views(dataset, config)
    found = _split(dataset, config, views, numbers)
    everyone = {*found.train, *found.validation, *found.test, *found.external}
    outside = set(views["patient"].unique().tolist()) - everyone
    if outside:
        views = views[[patient in everyone for patient in views["patient"].tolist()]]
    views = views.sort_values("view")
    digest, told = hashlib.sha256(), index.facts(dataset, config.task, numbers)
    for values in (
        *(views[name].astype("str").tolist() for name in READ),
        classes(dataset, config.task),
        found.train,
        found.validation,
        found.test,
        (f"{patient} {told[patient]}" for patient in sorted(everyone)),
        *([found.external] if config.external_cohorts else []),
        *augmented.texts(dataset, config, found.train),
    ):
        digest.update(("\x00".join(values) + "\x01").encode())
    return digest.hexdigest()[:16], found


def strata(dataset: Dataset, task: Task) -> dict[str, int]:
    """Number what folds are stratified by, and what is hashed as the label: the class."""
    return class_numbers(dataset, task)


def _split(
    dataset: Dataset, config: TrialConfig, views: pd.DataFrame, numbers: Mapping[str, int]
) -> Split:
    seen.require_known(dataset, views, config)
    present = sorted(views["patient"].unique().tolist())
    unlabelled = set(present) - numbers.keys()
    strangers = sorted(unlabelled - set(dataset.cases["patient"])) if unlabelled else []
    if strangers:
        raise DataError(f"patients without a row in cases.parquet: {tables.joined(strangers)}")
    locked = fold_makers.external(dataset, config)
    within, eligible = views, numbers
    if locked:
        within = views[~views["patient"].isin(locked)]
        eligible = {each: number for each, number in numbers.items() if each not in locked}
    rest, test = fold_makers.held_out(dataset, config, within, eligible)
    external = [patient for patient in present if patient in locked]
    everyone = sorted([*rest, *test, *external])
    lacking = [patient for patient in everyone if patient in unlabelled]
    if lacking:
        name = index.columns(config.task)
        raise DataError("\n".join(f"patient {patient!r}: {name} is empty" for patient in lacking))
    label = {patient: numbers[patient] for patient in everyone}
    inside = {patient: label[patient] for patient in [*rest, *test]}
    validation = fold_makers.validation(config, rest, inside)
    found = Split(
        train=tuple(sorted(set(rest) - validation)),
        validation=tuple(sorted(validation)),
        test=tuple(test),
        external=tuple(external),
    )
    made = augmented.views(dataset, config, found.train)[list(READ)]
    views = pd.concat([views, made]) if len(made) else views
    leaks.refuse(found.parts, dataset, config, views=views, label=label)
    survival_folds.require(dataset, config, train=found.train, validation=found.validation)
    return found


def _views(dataset: Dataset, config: TrialConfig) -> pd.DataFrame:
    """Give the encoder's scans, with the columns that a split or a fingerprint reads."""
    mine = dataset.index["encoder"] == config.encoder
    scans = dataset.index.loc[mine & (dataset.index["source_scan"] == ""), list(READ)]
    if not scans.empty:
        return scans
    path = dataset.root / "index.parquet"
    if mine.any():
        raise DataError(
            f"{path}: encoder {config.encoder!r} has augmented views only; training reads scans",
            hint="import the scans themselves: sweep index",
        )
    present = sorted(dataset.index["encoder"].unique())
    raise DataError(
        f"{path}: no views of encoder {config.encoder!r}, only of {tables.joined(present)}"
    )
