"""Which patients train, validate and test in a fold, and the identity of the data of a trial.

A split is by patient. One that leaks is refused: a patient in two parts, a slide of two patients,
or the same bag under two patients in different parts. Augmented views do not decide who trains;
training reads those of its scans with `pairs: augmented` alone.
"""

import hashlib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from difflib import get_close_matches

import numpy as np
import pandas as pd
from sklearn.model_selection import StratifiedKFold

from training.config import CohortFolds, GivenFolds, StratifiedFolds, TrialConfig
from training.data import augmented, groups, tables
from training.data.index import Dataset, class_numbers, classes
from training.errors import DataError

READ = (*tables.VIEW_STRINGS, "checksum", "dtype", "routine", "num_tiles", "dim")
"""Columns of the index that are part of the identity of a trial's data."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Split:
    """Patients of the three parts: sorted, disjoint."""

    train: tuple[str, ...]
    validation: tuple[str, ...]
    test: tuple[str, ...]


def split(dataset: Dataset, config: TrialConfig) -> Split:
    """Divide the patients that have scans of the trial's encoder and take part in its folds.

    Raises:
        DataError: The split leaks, has an empty part or a training part of one class; a patient has
            no label; or an unseen scanner is none of the encoder's scanners.
    """
    numbers = class_numbers(dataset, config.task)
    return _split(dataset, config, _views(dataset, config), numbers)


def fingerprint(dataset: Dataset, config: TrialConfig) -> str:
    """Hash what a trial reads: bags, descriptions of scans, classes, labels, and the split.

    Where bags lie (shard, row, folder) and scans of patients outside the split do not count.
    """
    numbers = class_numbers(dataset, config.task)
    views = _views(dataset, config)
    parts = _split(dataset, config, views, numbers)
    everyone = {*parts.train, *parts.validation, *parts.test}
    outside = set(views["patient"].unique().tolist()) - everyone
    if outside:
        views = views[[patient in everyone for patient in views["patient"].tolist()]]
    views = views.sort_values("view")
    digest = hashlib.sha256()
    for values in (
        *(views[name].astype("str").tolist() for name in READ),
        classes(dataset, config.task),
        parts.train,
        parts.validation,
        parts.test,
        (f"{patient} {numbers[patient]}" for patient in sorted(everyone)),
        *augmented.texts(dataset, config, parts.train),
    ):
        digest.update(("\x00".join(values) + "\x01").encode())
    return digest.hexdigest()[:16]


def _split(
    dataset: Dataset, config: TrialConfig, views: pd.DataFrame, numbers: Mapping[str, int]
) -> Split:
    _require_scanners(config, views)
    unlabelled = set(views["patient"].unique().tolist()) - numbers.keys()
    strangers = sorted(unlabelled - set(dataset.cases["patient"])) if unlabelled else []
    if strangers:
        raise DataError(f"patients without a row in cases.parquet: {tables.joined(strangers)}")
    rest, test = _held_out(dataset, config, views, numbers)
    everyone = sorted([*rest, *test])
    lacking = [patient for patient in everyone if patient in unlabelled]
    if lacking:
        name = config.task.label
        raise DataError("\n".join(f"patient {patient!r}: {name} is empty" for patient in lacking))
    label = {patient: numbers[patient] for patient in everyone}
    validation = _validation(config, rest, label)
    train = sorted(set(rest) - validation)
    found = Split(train=tuple(train), validation=tuple(sorted(validation)), test=tuple(test))
    made = augmented.views(dataset, config, train)[list(READ)]
    _refuse(found, config, pd.concat([views, made]), label)
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


def _require_scanners(config: TrialConfig, views: pd.DataFrame) -> None:
    """Refuse the name of an unseen scanner that no scan has."""
    known = sorted(set(views["scanner"].unique()) - {""})
    lines = []
    for name in config.unseen_scanners:
        if name not in known:
            near = get_close_matches(name, known, n=1, cutoff=0.5)
            lines.append(
                f"unseen_scanners: encoder {config.encoder!r} has no scan on {name!r}; "
                + (f"did you mean {near[0]!r}?" if near else f"it has {tables.joined(known)}")
            )
    if lines:
        raise DataError("\n".join(lines))


def _held_out(
    dataset: Dataset, config: TrialConfig, views: pd.DataFrame, numbers: Mapping[str, int]
) -> tuple[list[str], list[str]]:
    """Divide the patients that take part into the rest and the test part; both are sorted."""
    present = sorted(views["patient"].unique().tolist())
    match config.folds:
        case StratifiedFolds(num_folds=num_folds, seed=seed):
            # Over the patients of all encoders, so that encoders are compared on the same folds.
            parts = _stratified(list(numbers), numbers, num_folds, _seed(seed, "folds"))
            taking, held = set(present), set(parts[config.fold])
        case GivenFolds():
            taking, held = _given(dataset, config.folds, config.fold)
        case CohortFolds(train=train, test=test):
            cohort = _cohorts(dataset, views)
            wrong = [name for name in (*train, *test) if name not in cohort.values()]
            if wrong:
                raise DataError(
                    f"no patient belongs to cohort {tables.joined(wrong)}; there are "
                    f"{tables.joined(sorted(set(cohort.values())))}"
                )
            return (
                [patient for patient in present if cohort[patient] in train],
                [patient for patient in present if cohort[patient] in test],
            )
    rest = taking - held
    return (
        [patient for patient in present if patient in rest],
        [patient for patient in present if patient in held],
    )


def _validation(config: TrialConfig, rest: list[str], label: Mapping[str, int]) -> set[str]:
    """Choose the validation patients among the rest."""
    folds, share = config.folds, config.stopping.validation_share
    if isinstance(folds, CohortFolds) and folds.num_folds > 1:
        return set(
            _stratified(rest, label, folds.num_folds, _seed(folds.seed, "validation"))[config.fold]
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


def _stratified(
    patients: list[str], label: Mapping[str, int], num_folds: int, seed: int
) -> list[list[str]]:
    """Divide patients into folds of equal class shares."""
    numbers = np.array([label[patient] for patient in patients])
    counts = np.bincount(numbers)
    few = [
        f"class {number} has {count}" for number, count in enumerate(counts) if count < num_folds
    ]
    if few:
        raise DataError(
            f"too few patients for {num_folds} stratified folds: {', '.join(few)}",
            hint="use fewer folds",
        )
    parts = StratifiedKFold(num_folds, shuffle=True, random_state=seed)
    return [
        [patients[position] for position in held]
        for _, held in parts.split(np.zeros(len(patients)), numbers)
    ]


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


def _cohorts(dataset: Dataset, views: pd.DataFrame) -> dict[str, str]:
    """Give each patient's cohort: from the views, or from the cases where no view says one."""
    source = views
    if (views["cohort"] == "").all() and "cohort" in dataset.cases.columns:
        source = dataset.cases[dataset.cases["patient"].isin(views["patient"])]
    several = tables.ambiguous(source, "patient", "cohort")
    if several:
        raise DataError(
            "\n".join(
                f"patient {patient!r}: in several cohorts: {tables.joined(cohorts)}"
                for patient, cohorts in several.items()
            )
        )
    return dict(zip(source["patient"], source["cohort"], strict=True))


def _refuse(
    parts: Split, config: TrialConfig, views: pd.DataFrame, label: Mapping[str, int]
) -> None:
    """Refuse a split that leaks or cannot train."""
    lines = [
        f"slide {slide!r}: belongs to several patients: {tables.joined(patients)}"
        for slide, patients in tables.ambiguous(views, "slide", "patient").items()
    ]
    members = {"train": parts.train, "validation": parts.validation, "test": parts.test}
    part: dict[str, str] = {}
    for name, patients in members.items():
        needed = name != "validation" or config.stopping.validation_share > 0
        if needed and not patients:
            lines.append(f"the {name} part has no patients")
        lines += [
            f"patient {patient!r}: in the {part[patient]} and the {name} part"
            for patient in patients
            if patient in part
        ]
        part.update(dict.fromkeys(patients, name))
    lines += _unseen(parts, config, views, label)
    if parts.train and len({label[patient] for patient in parts.train}) < 2:
        lines.append("the training part has one class only")
    for owners in _same_bags(views):
        where = {part[patient] for patient in owners if patient in part}
        if len(where) > 1:
            lines.append(
                f"patients {tables.joined(owners)}: share an identical bag, in parts "
                f"{tables.joined(sorted(where))}"
            )
    if lines:
        raise DataError(f"fold {config.fold}: " + f"\nfold {config.fold}: ".join(lines))


def _unseen(
    parts: Split, config: TrialConfig, views: pd.DataFrame, label: Mapping[str, int]
) -> Iterable[str]:
    """Find what the seen scanners lack: scans to train or select on, groups, pairs."""
    seen = views[~views["scanner"].isin(config.unseen_scanners)]
    if config.unseen_scanners and parts.train:
        if not seen.loc[seen["patient"].isin(parts.train), "routine"].any():
            yield "unseen_scanners: no routine scan of a training patient is on a seen scanner"
        if parts.validation and not seen["patient"].isin(parts.validation).any():
            yield "unseen_scanners: no scan of a validation patient is on a seen scanner"
    if parts.train:
        yield from groups.problems(seen[seen["patient"].isin(parts.train)], config)
        yield from groups.input_problems(seen[seen["patient"].isin(parts.train)], config, label)
    if config.pairs == "augmented" and parts.train and (views["source_scan"] == "").all():
        yield "pairs is 'augmented', but no training scan on a seen scanner has an augmented view"
    elif config.views == "all" and config.pairs != "augmented":
        trained = seen[seen["patient"].isin(parts.train) & (seen["scanner"] != "")]
        if parts.train and not tables.ambiguous(trained, "slide", "scanner"):
            yield "views is 'all', but no training slide has scans on two seen scanners"


def _same_bags(views: pd.DataFrame) -> Iterable[list[str]]:
    """Group patients under whom the same bag is stored."""
    known = views[views["checksum"] != ""]
    return tables.ambiguous(known, "checksum", "patient").values()


def _seed(seed: int, name: str) -> int:
    """Derive a generator's seed from (seed, name)."""
    return int.from_bytes(hashlib.sha256(f"{seed} {name}".encode()).digest()[:4], "big")
