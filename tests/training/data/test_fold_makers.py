"""Values left out and external cohorts; `test_folds` has the older kinds."""

import subprocess
import sys
from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st
from sklearn.model_selection import StratifiedKFold

from tests.training.data import examples
from training.config import (
    CohortFolds,
    Folds,
    GivenFolds,
    LeaveOneOutFolds,
    SitePreservedFolds,
    StratifiedFolds,
    TrialConfig,
)
from training.data import fold_makers, folds
from training.data.index import Dataset
from training.errors import DataError


def paired(num_patients: int = 24, scanners: str = "ABC") -> Dataset:
    """A slide per patient on every scanner; the first one is routine."""
    made = examples.made("ab" * (num_patients // 2))
    views = pd.concat(
        [
            made.index.assign(
                scanner=name,
                routine=name == scanners[0],
                **dict.fromkeys(("scan", "view"), made.index["slide"] + f"/{name}"),
                checksum=made.index["checksum"] + name,
            )
            for name in scanners
        ],
        ignore_index=True,
    )
    return replace(made, index=views)


def out(column: str, *values: str, num_folds: int = 1, seed: int = 0) -> LeaveOneOutFolds:
    given = {"column": column, "values": values, "num_folds": num_folds, "seed": seed}
    return LeaveOneOutFolds.model_validate({"kind": "leave_one_out", **given})


def with_external(config: TrialConfig, *names: str) -> TrialConfig:
    return config.model_copy(update={"external_cohorts": names})


def refusal(dataset: Dataset, config: TrialConfig) -> DataError:
    with pytest.raises(DataError) as error:
        folds.split(dataset, config)
    return error.value


def test_the_patients_of_a_site_are_held_out() -> None:
    dataset = examples.made("ab" * 8)
    dataset = replace(dataset, index=dataset.index.assign(site=list("SSSSRRRRRRTTTTTT")))
    for fold, (start, stop) in enumerate(((10, 16), (0, 4))):
        found = folds.split(dataset, examples.config(out("site", "T", "S"), fold=fold))
        assert found.test == tuple(f"p{number:03d}" for number in range(start, stop))
        assert len(found.train) + len(found.validation) == 16 - (stop - start)


def test_a_patient_of_two_sites_is_held_out_with_each() -> None:
    dataset = examples.made("ab" * 6)
    views = dataset.index.assign(site=list("SSSSRRRRTTTT"))
    more = views.iloc[[4]].assign(site="S", checksum="x", slide="s", scan="s", view="s")
    dataset = replace(dataset, index=pd.concat([views, more], ignore_index=True))
    for fold, others in enumerate(("p000 p001 p002 p003", "p005 p006 p007")):
        found = folds.split(dataset, examples.config(out("site", "S", "R"), fold=fold))
        assert found.test == tuple(sorted([*others.split(), "p004"]))


def test_paired_patients_have_the_same_parts_for_every_scanner() -> None:
    dataset = paired()
    kind = out("scanner", "A", "B", num_folds=3, seed=7)
    tests = [folds.split(dataset, examples.config(kind, fold=fold)).test for fold in range(6)]
    assert tests[:3] == tests[3:]
    assert sorted(tests[0] + tests[1] + tests[2]) == [f"p{number:03d}" for number in range(24)]
    stratified = StratifiedFolds(kind="stratified", num_folds=3, seed=7)
    assert tests[1] == folds.split(dataset, examples.config(stratified, fold=1)).test


def test_who_has_nothing_elsewhere_takes_no_part() -> None:
    dataset = paired()
    only = dataset.index["patient"].isin(["p000", "p001"]) & (dataset.index["scanner"] != "A")
    dataset = replace(dataset, index=dataset.index[~only].reset_index(drop=True))
    kind = out("scanner", "A", num_folds=2)
    for fold in (0, 1):
        found = folds.split(dataset, examples.config(kind, fold=fold))
        others = {"p000", "p001"} - set(found.test)
        assert others.isdisjoint((*found.train, *found.validation))
        assert len(found.test) + len(found.train) + len(found.validation) == 24 - len(others)


def test_a_value_of_one_class_can_be_left_out_in_parts() -> None:
    dataset = paired()
    dataset = replace(
        dataset,
        index=dataset.index[
            (dataset.index["scanner"] != "C")
            | dataset.index["patient"].isin([f"p{number:03d}" for number in range(1, 24, 2)])
        ],
    )
    kind = out("scanner", "C", num_folds=3)
    assert [len(folds.split(dataset, examples.config(kind, fold=f)).test) for f in range(3)] == [
        4, 4, 4
    ]  # fmt: skip


def test_cohorts_of_the_cases_can_be_left_out_and_locked() -> None:
    dataset = examples.made("ab" * 8)
    dataset = replace(dataset, cases=dataset.cases.assign(cohort=list("TTTTTTXXXXYYYYYY")))
    config = examples.config(out("cohort", "X"))
    assert folds.split(dataset, config).test == ("p006", "p007", "p008", "p009")
    found = folds.split(dataset, with_external(config, "Y"))
    assert found.external == tuple(f"p{number:03d}" for number in range(10, 16))
    assert {*found.train, *found.validation} == {f"p{number:03d}" for number in range(6)}


@pytest.mark.parametrize(
    ("kind", "message", "hint"),
    [
        (
            out("scanner", "A"),
            "no patient is left to train on: all 24 have a scan of scanner 'A'",
            "folds.num_folds above 1",
        ),
        (out("scanner", "A", "BC"), "folds.values: encoder 'one' has no scan of scanner 'BC'; did",
         ""),
        (out("scanner", "Nano"), "no scan of scanner 'Nano'; it has 'A', 'B', 'C'", ""),
        (out("site", "S"), "no scan of encoder 'one' has a site: the column is empty", ""),
        (
            out("scanner", "B", num_folds=13),
            "too few patients of scanner 'B' for 13 stratified parts: class 0 has 12, class 1 has",
            "fewer folds",
        ),
    ],
)  # fmt: skip
def test_what_cannot_be_left_out_is_refused(kind: Folds, message: str, hint: str) -> None:
    error = refusal(paired(), examples.config(kind))
    assert message in error.message
    assert hint in error.hint


def test_a_loss_between_scanners_needs_two_that_are_left() -> None:
    config = examples.config(out("scanner", "B", num_folds=2))
    dataset = paired(scanners="AB")
    assert folds.split(dataset, config)
    error = refusal(dataset, config.model_copy(update={"views": "all"}))
    assert "no training slide has scans on two seen scanners" in error.message


def test_folds_are_made_as_if_external_patients_were_not_there() -> None:
    dataset = examples.made("ab" * 20, cohorts="T" * 24 + "X" * 8 + "Y" * 8)
    dataset = replace(
        dataset,
        index=dataset.index.assign(site=[f"s{number % 5}" for number in range(40)]),
        folds=examples.held_out(*((0, number // 2 % 2, f"p{number:03d}") for number in range(40))),
    )
    fewer = replace(dataset, index=dataset.index.iloc[:32])
    kinds: list[Folds] = [
        StratifiedFolds(kind="stratified", num_folds=3),
        GivenFolds(kind="given", num_folds=2),
        CohortFolds(kind="cohort", train=("T",), test=("X",)),
        SitePreservedFolds(kind="site_preserved", num_folds=2),
        out("site", "s1"),
        out("cohort", "X"),
    ]
    for kind in kinds:
        config = with_external(examples.config(kind), "Y")
        found, without = folds.split(dataset, config), folds.split(fewer, examples.config(kind))
        assert found.external == tuple(f"p{number:03d}" for number in range(32, 40))
        assert replace(found, external=()) == without, kind.kind


def test_the_fingerprint_covers_external_patients() -> None:
    dataset = examples.made("ab" * 12, cohorts="T" * 16 + "X" * 8)
    config = examples.config(CohortFolds(kind="cohort", train=("T",), test=("X",)))
    plain = examples.config()
    prints = {folds.fingerprint(dataset, each) for each in (config, plain)}
    locked = with_external(plain, "X")
    first = folds.fingerprint(dataset, locked)
    assert first not in prints
    changed = examples.changed(dataset, "checksum", {23: "new"})
    assert folds.fingerprint(changed, locked) != first
    relabelled = dataset.cases.assign(label=[*dataset.cases["label"][:23], "a"])
    assert folds.fingerprint(replace(dataset, cases=relabelled), locked) != first


@pytest.mark.parametrize(
    ("changes", "names", "expected"),
    [
        ({}, ("XX",), "external_cohorts: no patient belongs to 'XX'; did you mean 'X'?"),
        ({"cohort": {23: "T"}, "patient": {23: "p022"}}, ("X",),
         "patient 'p022': in several cohorts: 'T', 'X'"),
        ({"slide": {23: "p000"}}, ("X",),
         "slide 'p000': belongs to several patients: 'p000', 'p023'"),
        ({"checksum": {23: "same", 0: "same"}}, ("X",),
         "'p000', 'p023': share an identical bag, in parts 'external', 't"),
    ],
)  # fmt: skip
def test_external_cohorts_that_leak_are_refused(
    changes: dict[str, dict[int, object]], names: tuple[str, ...], expected: str
) -> None:
    dataset = examples.made("ab" * 12, cohorts="T" * 16 + "X" * 8)
    for column, values in changes.items():
        dataset = examples.changed(dataset, column, values)
    assert expected in refusal(dataset, with_external(examples.config(), *names)).message


def test_an_external_class_that_nobody_trains_on_is_refused() -> None:
    dataset = examples.made("ab" * 8 + "cc", cohorts="T" * 16 + "XX")
    task = examples.Task(kind="multiclass")
    config = with_external(examples.config(task=task), "X")
    assert "only patients of external cohorts have class 2" in refusal(dataset, config).message


def test_an_external_patient_needs_a_label() -> None:
    dataset = examples.made("ab" * 8, cohorts="T" * 12 + "X" * 4)
    cases = dataset.cases.copy()
    cases.loc[15, "label"] = ""
    error = refusal(replace(dataset, cases=cases), with_external(examples.config(), "X"))
    assert error.message == "patient 'p015': label is empty"


@given(
    numbers=st.lists(st.integers(0, 3), min_size=8, max_size=60),
    num_folds=st.integers(2, 6),
    seed=st.integers(0, 2**32 - 1),
)
def test_stratified_folds_are_those_of_scikit_learn(numbers: list[int], num_folds: int, seed: int):
    patients = [str(number) for number in range(len(numbers))]
    label = dict(zip(patients, numbers, strict=True))
    assume(min(np.bincount(numbers)[np.unique(numbers)]) >= num_folds)
    second = StratifiedKFold(num_folds, shuffle=True, random_state=seed)
    expected = [held.tolist() for _, held in second.split(numbers, numbers)]
    found = fold_makers.stratified(patients, label, num_folds, seed)
    assert [[int(name) for name in held] for held in found] == expected


def test_folds_are_made_without_torch_and_scikit_learn():
    program = (
        "import sys, training.data.folds\n"
        "assert not {'torch', 'sklearn', 'scipy'} & set(sys.modules), sorted(sys.modules)\n"
    )
    subprocess.run([sys.executable, "-c", program], check=True)
