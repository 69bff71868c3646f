"""What holds for folds of every kind, on data sets at random."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from tests.training.data import examples
from training.config import (
    CohortFolds,
    Folds,
    GivenFolds,
    LeaveOneOutFolds,
    SitePreservedFolds,
    StratifiedFolds,
    TrialConfig,
    num_folds,
    unseen_scanners,
)
from training.data import folds, scans, tables
from training.data.folds import Split
from training.data.index import Dataset
from training.errors import DataError

KINDS: dict[str, Folds] = {
    "stratified": StratifiedFolds(kind="stratified", num_folds=3),
    "given": GivenFolds(kind="given", num_folds=2, repetitions=2),
    "cohort": CohortFolds(kind="cohort", train=("T", "U"), test=("X",), num_folds=3),
    "one cohort": CohortFolds(kind="cohort", train=("T",), test=("X",)),
    "a scanner": LeaveOneOutFolds(kind="leave_one_out", column="scanner", values=("A", "C")),
    "a scanner in parts": LeaveOneOutFolds(
        kind="leave_one_out", column="scanner", values=("B", "A"), num_folds=2, seed=3
    ),
    "a site": LeaveOneOutFolds(kind="leave_one_out", column="site", values=("s0", "s2")),
    "a site in parts": LeaveOneOutFolds(
        kind="leave_one_out", column="site", values=("s1",), num_folds=2
    ),
    "a cohort": LeaveOneOutFolds(kind="leave_one_out", column="cohort", values=("X", "T")),
    "sites": SitePreservedFolds(kind="site_preserved", num_folds=2),
    "scanners": SitePreservedFolds(kind="site_preserved", num_folds=2, column="lab"),
}


def random_data(seed: int) -> Dataset:
    """Patients of two or three classes with some slides, sites, labs, cohorts and scanners.

    Some slides are not paired, some patients have two sites, encoder `two` lacks some scans.
    """
    draw = np.random.default_rng(seed)
    rows = []
    for number in range(draw.integers(16, 60)):
        patient, cohort = f"p{number:03d}", "TTUXE"[draw.integers(5)]
        sites = [f"s{draw.integers(5)}"] * 2
        if draw.random() < 0.1:
            sites[1] = f"s{draw.integers(5)}"
        for slide in range(draw.integers(1, 3)):
            lab = f"l{'012345'.index(sites[slide][1]) % 4}"
            scanners = draw.permutation(list("ABC"))[: draw.integers(1, 4)]
            for place, scanner in enumerate(scanners.tolist()):
                name = f"{patient}-{slide}/{scanner}"
                rows.append((patient, f"{patient}-{slide}", name, name, scanner, sites[slide], lab,
                             cohort, place == 0))  # fmt: skip
    columns = ["patient", "slide", "scan", "view", "scanner", "site", "lab", "cohort", "routine"]
    views = pd.DataFrame(rows, columns=columns)
    for name, kind in tables.INDEX_TYPES.items():
        views[name] = views.get(name, "" if kind == "str" else 1)
    views["checksum"] = [f"{number:x}" for number in range(len(views))]
    fewer = views[draw.random(len(views)) < 0.8].assign(encoder="two")
    fewer["checksum"] = "two " + fewer["checksum"]
    patients = sorted(set(views["patient"]))
    held = [
        (repetition, int(draw.integers(2)), patient)
        for repetition in (0, 1)
        for patient in patients
        if draw.random() < 0.9
    ]
    classes = "ab" if draw.random() < 0.7 else "abc"
    labels = [classes[draw.integers(len(classes))] for _ in patients]
    return Dataset(
        root=Path("data"),
        index=pd.concat([views.assign(encoder="one"), fewer], ignore_index=True).astype(
            tables.INDEX_TYPES
        ),
        cases=pd.DataFrame({"patient": patients, "label": labels}),
        folds=examples.held_out(*held),
    )


def config(
    dataset: Dataset, kind: Folds, fold: int, *, locked: bool, encoder: str = "one"
) -> TrialConfig:
    task = examples.Task(kind="multiclass")
    made = examples.config(kind, fold=fold, task=task, encoder=encoder, draw_seed=fold)
    external = ("E",) if locked and "E" in set(dataset.index["cohort"]) else ()
    return made.model_copy(update={"external_cohorts": external})


def every_split(dataset: Dataset, kind: Folds, *, locked: bool, encoder: str) -> list[Split]:
    """Split every fold; a data set that cannot be divided so is none to test with."""
    try:
        return [
            folds.split(dataset, config(dataset, kind, fold, locked=locked, encoder=encoder))
            for fold in range(num_folds(kind))
        ]
    except DataError as error:
        expected = ("too few", "no patients", "one class", "is left to train", "has no scan")
        more = ("share no patient", "no patient belongs", "have class", "has folds")
        assert any(part in error.message for part in (*expected, *more)), error.message
        assume(False)
        raise


def who_takes_part(dataset: Dataset, kind: Folds, fold: int, views: pd.DataFrame) -> set[str]:
    """Whoever should be in some part of a fold; but for the held-out part of left-out values."""
    match kind:
        case GivenFolds():
            assert dataset.folds is not None
            repetition = dataset.folds["repetition"] == fold // kind.num_folds
            return set(dataset.folds.loc[repetition, "patient"]) & set(views["patient"])
        case CohortFolds():
            return set(views.loc[views["cohort"].isin((*kind.train, *kind.test)), "patient"])
        case LeaveOneOutFolds():
            value = views[kind.column] == kind.values[fold // kind.num_folds]
            return set(views.loc[~value, "patient"])
        case _:
            return set(views["patient"])


def check(name: str, seed: int, *, locked: bool) -> None:
    """Check all that holds for the splits of a data set."""
    dataset, kind = random_data(seed), KINDS[name]
    views = dataset.index[dataset.index["encoder"] == "two"]
    found = every_split(dataset, kind, locked=locked, encoder="two")
    whole = every_split(dataset, kind, locked=locked, encoder="one")
    outside = set(views.loc[views["cohort"] == "E", "patient"]) if locked else set()
    for fold, (split, first) in enumerate(zip(found, whole, strict=True)):
        everyone = [patient for part in split.parts.values() for patient in part]
        assert len(everyone) == len(set(everyone))
        assert all(list(part) == sorted(part) for part in split.parts.values())
        assert set(split.external) == outside
        taking = who_takes_part(dataset, kind, fold, views)
        here = set(views["patient"])
        if isinstance(kind, LeaveOneOutFolds):
            here = set(
                views.loc[views[kind.column] == kind.values[fold // kind.num_folds], "patient"]
            )
            check_left_out(dataset, config(dataset, kind, fold, locked=locked), kind)
            # Who is held out, and has no scan of the value for this encoder, takes no part.
            taking = (taking - set(first.test)) | set(split.test)
        assert set(everyone) - outside == taking - outside
        assert set(split.test) == set(first.test) & here, "encoders differ in the held-out patients"
    if isinstance(kind, SitePreservedFolds):
        check_sites(dataset, whole, kind)
    again = replace(
        dataset,
        index=dataset.index.sample(frac=1, random_state=seed),
        cases=dataset.cases.sample(frac=1, random_state=seed),
        folds=None if dataset.folds is None else dataset.folds.sample(frac=1, random_state=seed),
    )
    last = config(dataset, kind, num_folds(kind) - 1, locked=locked, encoder="two")
    assert folds.identify(again, last) == (folds.fingerprint(dataset, last), found[-1])


def check_sites(dataset: Dataset, found: list[Split], kind: SitePreservedFolds) -> None:
    """No site is in two folds, every patient is held out once."""
    tested = [patient for split in found for patient in split.test]
    assert len(tested) == len(set(tested))
    assert set(tested) == {*found[0].train, *found[0].validation, *found[0].test}
    for split in found:
        held = dataset.index["patient"].isin(split.test)
        fitted = dataset.index["patient"].isin((*split.train, *split.validation))
        sites = (set(dataset.index.loc[rows, kind.column]) for rows in (held, fitted))
        assert not set.intersection(*sites)


def check_left_out(dataset: Dataset, given_config: TrialConfig, kind: LeaveOneOutFolds) -> None:
    """No scan of the value trains or validates; each slide that may train has a routine scan."""
    found, value = (
        scans.read(dataset, given_config),
        kind.values[given_config.fold // kind.num_folds],
    )
    table = found.table
    train = table.iloc[found.of("train", seen_only=True)]
    validation = table.iloc[found.of("validation", seen_only=True)]
    assert value not in {*train[kind.column], *validation[kind.column]}
    routine = train.loc[train["routine"], "slide"].tolist()
    assert sorted(routine) == sorted(set(train["slide"]))
    test = table[table["part"] == "test"]
    if kind.column == "scanner":
        assert unseen_scanners(given_config) == (value,)
        mine = (dataset.index["encoder"] == "one") & dataset.index["patient"].isin(test["patient"])
        assert set(test["view"]) == set(dataset.index.loc[mine, "view"])
    else:
        assert unseen_scanners(given_config) == ()
        assert set(test[kind.column]) == {value}


@settings(max_examples=2, deadline=None)
@given(seed=st.integers(0, 2**32 - 1), locked=st.booleans())
@pytest.mark.parametrize("name", KINDS)
def test_splits_hold_what_folds_promise(name: str, seed: int, locked: bool) -> None:
    check(name, seed, locked=locked)


@pytest.mark.slow
@settings(max_examples=40, deadline=None)
@given(seed=st.integers(0, 2**32 - 1), locked=st.booleans())
@pytest.mark.parametrize("name", KINDS)
def test_many_splits_hold_what_folds_promise(name: str, seed: int, locked: bool) -> None:
    check(name, seed, locked=locked)
