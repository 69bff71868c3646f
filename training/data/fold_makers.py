"""Who is held out, by kind of folds, and who validates.

The folds are made over the labelled patients of all encoders, so that encoders are compared on the
same test patients; a patient without scans of an encoder is missing there. All draws follow from a
seed and names, never from the order of rows.
"""

import hashlib
from collections.abc import Mapping, Sequence

import numpy as np
import pandas as pd

from training.config import (
    CohortFolds,
    GivenFolds,
    LeaveOneOutFolds,
    SitePreservedFolds,
    StratifiedFolds,
    TrialConfig,
)
from training.data import seen, site_folds, tables
from training.data.index import Dataset
from training.errors import DataError


def held_out(
    dataset: Dataset, config: TrialConfig, views: pd.DataFrame, numbers: Mapping[str, int]
) -> tuple[list[str], list[str]]:
    """Divide the patients that take part into the rest and the test part; both are sorted.

    Args:
        dataset: all of it.
        config: of the trial.
        views: scans of the trial's encoder, without those of external cohorts.
        numbers: what the folds are stratified by (the class), of the labelled patients of all
            encoders, without those of external cohorts, in order of patients.

    Raises:
        DataError: There are no such folds.
    """
    present = sorted(views["patient"].unique().tolist())
    match config.folds:
        case StratifiedFolds(num_folds=num_folds, seed=seed):
            parts = stratified(list(numbers), numbers, num_folds, _seed(seed, "folds"))
            taking, held = set(present), set(parts[config.fold])
        case GivenFolds():
            taking, held = _given(dataset, config.folds, config.fold)
        case SitePreservedFolds(num_folds=num_folds, column=column):
            scans = dataset.index[dataset.index["source_scan"] == ""]
            parts = site_folds.make(scans, numbers, column=column, num_folds=num_folds)
            taking, held = set(present), set(parts[config.fold])
        case LeaveOneOutFolds():
            taking, held = _left_out(dataset, config, views, numbers)
        case CohortFolds():
            taking, held = _cohorts(dataset, config.folds, views)
    rest = taking - held
    return (
        [patient for patient in present if patient in rest],
        [patient for patient in present if patient in held],
    )


def validation(config: TrialConfig, rest: list[str], label: Mapping[str, int]) -> set[str]:
    """Choose the validation patients among the rest."""
    folds, share = config.folds, config.stopping.validation_share
    if isinstance(folds, CohortFolds) and folds.num_folds > 1:
        return set(
            stratified(rest, label, folds.num_folds, _seed(folds.seed, "validation"))[config.fold]
        )
    seed = config.draw_seed if isinstance(folds, GivenFolds) else folds.seed
    generator = np.random.default_rng(_seed(seed, f"validation {config.fold}"))
    chosen: set[str] = set()
    for number in sorted(set(label.values())):
        members = [patient for patient in rest if label[patient] == number]
        # Half is rounded up; every class keeps a patient to train on, and gives one if it can.
        count = int(share * len(members) + 0.5) if share else 0
        count = min(max(count, 1 if share else 0), max(len(members) - 1, 0))
        order = generator.permutation(len(members))
        chosen.update(members[position] for position in order[:count])
    return chosen


def external(dataset: Dataset, config: TrialConfig) -> frozenset[str]:
    """Collect the patients of the external cohorts, over all encoders.

    Raises:
        DataError: There is no such cohort, or a patient is in another cohort too.
    """
    names = config.external_cohorts
    if not names:
        return frozenset()
    scans = dataset.index.loc[dataset.index["source_scan"] == "", ["patient", "cohort"]]
    scans = scans.assign(cohort=seen.column(dataset, scans, "cohort")).drop_duplicates()
    lines = list(seen.unknown("external_cohorts", "no patient belongs to", names, scans["cohort"]))
    inside = set(scans.loc[scans["cohort"].isin(names), "patient"])
    lines += _in_several_cohorts(scans[scans["patient"].isin(inside)])
    if lines:
        raise DataError("\n".join(lines))
    return frozenset(inside)


def stratified(
    patients: list[str], label: Mapping[str, int], num_folds: int, seed: int
) -> list[list[str]]:
    """Divide patients into folds of equal class shares.

    Raises:
        DataError: A class has fewer patients than there are folds.
    """
    numbers = np.array([label[patient] for patient in patients])
    there, counts = np.unique(numbers, return_counts=True)
    few = [
        f"class {number} has {count}"
        for number, count in zip(there, counts, strict=True)
        if count < num_folds
    ]
    if few:
        raise DataError(
            f"too few patients for {num_folds} stratified folds: {', '.join(few)}",
            hint="use fewer folds",
        )
    return _divided(patients, numbers, num_folds, seed)


def _divided(
    patients: Sequence[str], numbers: np.ndarray, num_folds: int, seed: int
) -> list[list[str]]:
    held = _folds(numbers, num_folds, seed)
    return [
        [patients[position] for position in np.flatnonzero(held == number).tolist()]
        for number in range(num_folds)
    ]


def _folds(numbers: np.ndarray, num_folds: int, seed: int) -> np.ndarray:
    """Give each patient a fold, so that each has its share of every class.

    The very folds of scikit-learn's `StratifiedKFold` with `shuffle=True`, which takes longer to
    import than a launch takes otherwise.
    """
    draw = np.random.RandomState(seed)
    first, inverse = np.unique(numbers, return_index=True, return_inverse=True)[1:]
    kinds = np.argsort(np.argsort(first))[inverse]  # classes in the order in which they come
    ordered = np.sort(kinds)
    shares = [np.bincount(ordered[n::num_folds], minlength=len(first)) for n in range(num_folds)]
    found = np.empty(len(kinds), np.int64)
    for kind, share in enumerate(np.stack(shares, axis=1)):
        mine = np.arange(num_folds).repeat(share)
        draw.shuffle(mine)
        found[kinds == kind] = mine
    return found


def _given(dataset: Dataset, folds: GivenFolds, fold: int) -> tuple[set[str], set[str]]:
    """Read a repetition's patients and a fold's test patients from folds.parquet."""
    path = dataset.root / "folds.parquet"
    if dataset.folds is None:
        raise DataError(f"{path}: missing", hint="import the data with `sweep index … --folds`")
    repetition, number = divmod(fold, folds.num_folds)
    held = dataset.folds[dataset.folds["repetition"] == repetition]
    found = sorted(held["fold"].unique())
    if found != list(range(folds.num_folds)):
        raise DataError(
            f"{path}: repetition {repetition} has folds {list(map(int, found))}, expected 0 to "
            f"{folds.num_folds - 1}"
        )
    twice = sorted(set(held["patient"][held["patient"].duplicated()]))
    if twice:
        raise DataError(
            f"{path}: held out more than once in repetition {repetition}: {tables.joined(twice)}"
        )
    return set(held["patient"]), set(held["patient"][held["fold"] == number])


def _cohorts(
    dataset: Dataset, folds: CohortFolds, views: pd.DataFrame
) -> tuple[set[str], set[str]]:
    """Give the patients of the cohorts that take part, and of those that are held out."""
    source = views[["patient"]].assign(cohort=seen.column(dataset, views, "cohort"))
    source = source.drop_duplicates()
    if lines := _in_several_cohorts(source):
        raise DataError("\n".join(lines))
    cohort = dict(zip(source["patient"], source["cohort"], strict=True))
    wrong = [name for name in (*folds.train, *folds.test) if name not in cohort.values()]
    if wrong:
        raise DataError(
            f"no patient belongs to cohort {tables.joined(wrong)}; there are "
            f"{tables.joined(sorted(set(cohort.values())))}"
        )
    held = {patient for patient, name in cohort.items() if name in folds.test}
    return held | {patient for patient, name in cohort.items() if name in folds.train}, held


def _in_several_cohorts(patients: pd.DataFrame) -> list[str]:
    return [
        f"patient {patient!r}: in several cohorts: {tables.joined(cohorts)}"
        for patient, cohorts in tables.ambiguous(patients, "patient", "cohort").items()
    ]


def _left_out(
    dataset: Dataset, config: TrialConfig, views: pd.DataFrame, numbers: Mapping[str, int]
) -> tuple[set[str], set[str]]:
    """Give who takes part and who is held out where the fold leaves out a value of a column.

    The parts of a value's patients are those of stratified folds with the same seed over these
    patients: where every patient has every value, the same parts for each value. A patient who is
    not held out takes part with scans that do not have the value, and only with such.
    """
    folds = config.folds
    assert isinstance(folds, LeaveOneOutFolds)
    name = folds.values[config.fold // folds.num_folds]
    scans = dataset.index[dataset.index["source_scan"] == ""]
    owners = set(scans.loc[seen.column(dataset, scans, folds.column) == name, "patient"])
    held = owners
    if folds.num_folds > 1:
        held = _part(folds, config.fold, sorted(owners & numbers.keys()), numbers)
    value = seen.column(dataset, views, folds.column) == name
    elsewhere, here = set(views.loc[~value, "patient"]), set(views.loc[value, "patient"])
    if not elsewhere - held:
        raise DataError(
            f"fold {config.fold}: no patient is left to train on: all {len(held)} have a scan of "
            f"{folds.column} {name!r}",
            hint="hold out one part of the patients after the other: folds.num_folds above 1",
        )
    return (elsewhere - held) | (here & held), here & held


def _part(
    folds: LeaveOneOutFolds, fold: int, patients: list[str], numbers: Mapping[str, int]
) -> set[str]:
    """Choose the part of a value's patients that a fold holds out."""
    labels, places = np.unique([numbers[each] for each in patients], return_inverse=True)
    few = [
        f"class {number} has {count}"
        for number, count in zip(labels, np.bincount(places), strict=True)
        if count < folds.num_folds
    ]
    if few or not patients:
        raise DataError(
            f"fold {fold}: too few patients of {folds.column} "
            f"{folds.values[fold // folds.num_folds]!r} for {folds.num_folds} stratified parts: "
            f"{', '.join(few) or 'none has a label'}",
            hint="use fewer folds",
        )
    parts = _divided(patients, places, folds.num_folds, _seed(folds.seed, "folds"))
    return set(parts[fold % folds.num_folds])


def _seed(seed: int, name: str) -> int:
    """Derive a generator's seed from (seed, name)."""
    return int.from_bytes(hashlib.sha256(f"{seed} {name}".encode()).digest()[:4], "big")
