from collections import Counter
from dataclasses import replace
from pathlib import Path

import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.training.data import examples
from training.config import CohortFolds, GivenFolds, StratifiedFolds, Task
from training.data import folds, tables
from training.data.index import Dataset
from training.errors import DataError


def made(labels: str, *, cohorts: str = "", held: pd.DataFrame | None = None) -> Dataset:
    """Tables of patients with these labels, one slide each; no bags on disk."""
    patients = [f"p{number:03d}" for number in range(len(labels))]
    columns: dict[str, object] = {
        name: "" if kind == "str" else 0 for name, kind in tables.INDEX_TYPES.items()
    }
    index = pd.DataFrame({**columns, "patient": patients}).assign(
        **dict.fromkeys(("slide", "scan", "view"), patients),
        encoder="one",
        routine=True,
        checksum=[f"{number:x}" for number in range(len(labels))],
        cohort=list(cohorts) or "",
    )
    cases = pd.DataFrame({"patient": patients, "label": list(labels)})
    return Dataset(root=Path("data"), index=index, cases=cases, folds=held)


def changed(dataset: Dataset, column: str, values: dict[int, object]) -> Dataset:
    index = dataset.index.copy()
    for row, value in values.items():
        index.loc[row, column] = value
    return replace(dataset, index=index)


def held_out(*patients: tuple[int, int, str]) -> pd.DataFrame:
    return pd.DataFrame(list(patients), columns=["repetition", "fold", "patient"])


@settings(max_examples=40, deadline=None)
@given(
    counts=st.tuples(st.integers(9, 40), st.integers(9, 40)),
    num_folds=st.integers(2, 5),
    seed=st.integers(-5, 5),
    share=st.sampled_from([0.0, 0.1, 0.25, 0.5]),
)
def test_stratified_folds_cover_every_patient_once(
    counts: tuple[int, int], num_folds: int, seed: int, share: float
) -> None:
    dataset = made("a" * counts[0] + "b" * counts[1])
    kind = StratifiedFolds(kind="stratified", num_folds=num_folds, seed=seed)
    tested: list[str] = []
    for fold in range(num_folds):
        config = examples.config(kind, fold=fold, validation_share=share)
        found = folds.split(dataset, config)
        everyone = [*found.train, *found.validation, *found.test]
        assert sorted(everyone) == dataset.cases["patient"].tolist()
        assert list(found.train) == sorted(found.train)
        assert bool(found.validation) == (share > 0)
        classes = [Counter(int(p[1:]) >= counts[0] for p in part) for part in (found.test,)]
        for number, count in enumerate(counts):
            assert abs(classes[0][bool(number)] - count / num_folds) < 1
        tested += found.test
    assert sorted(tested) == dataset.cases["patient"].tolist()


def test_splits_follow_their_seed_and_not_the_order_of_rows() -> None:
    dataset = made("ab" * 10)
    shuffled = replace(
        dataset,
        index=dataset.index.sample(frac=1, random_state=0),
        cases=dataset.cases.sample(frac=1, random_state=1),
    )
    config = examples.config()
    assert folds.split(dataset, config) == folds.split(shuffled, config)
    other = examples.config(StratifiedFolds(kind="stratified", num_folds=2, seed=1))
    assert folds.split(dataset, config).test != folds.split(dataset, other).test
    again = examples.config(draw_seed=9)
    assert folds.split(dataset, config) == folds.split(dataset, again)


def test_validation_differs_between_folds_and_keeps_the_class_shares() -> None:
    dataset = made("a" * 30 + "b" * 10)
    config = examples.config(StratifiedFolds(kind="stratified", num_folds=2))
    found = folds.split(dataset, config)
    rare = sum(int(patient[1:]) >= 30 for patient in found.validation)
    assert (len(found.validation), rare) == (5, 1)


def test_only_patients_with_views_of_the_encoder_take_part() -> None:
    dataset = changed(made("ab" * 6), "encoder", {0: "two", 1: "two"})
    found = folds.split(dataset, examples.config())
    assert {"p000", "p001"}.isdisjoint((*found.train, *found.validation, *found.test))


def test_given_folds_are_followed() -> None:
    held = held_out(
        *((rep, n % 2 if rep else n // 4, f"p{n:03d}") for rep in (0, 1) for n in range(8))
    )
    dataset = made("aabbaabb", held=held)
    kind = GivenFolds(kind="given", num_folds=2, repetitions=2)
    tests = [
        folds.split(dataset, examples.config(kind, fold=fold, validation_share=0)).test
        for fold in range(4)
    ]
    assert tests[0] == ("p000", "p001", "p002", "p003")
    assert tests[3] == ("p001", "p003", "p005", "p007")


def test_validation_of_given_folds_follows_the_draw_seed() -> None:
    held = held_out(*((0, n % 2, f"p{n:03d}") for n in range(40)))
    dataset = made("aabb" * 10, held=held)
    kind = GivenFolds(kind="given", num_folds=2)
    one, two = (folds.split(dataset, examples.config(kind, draw_seed=seed)) for seed in (0, 1))
    assert one.test == two.test
    assert one.validation != two.validation


def test_cohort_folds_hold_out_whole_cohorts() -> None:
    dataset = made("ab" * 12, cohorts="TTTTTTTTTTTTTTTTXXXXYYYY")
    kind = CohortFolds(kind="cohort", train=("T",), test=("X",), num_folds=4)
    found = [folds.split(dataset, examples.config(kind, fold=fold)) for fold in range(4)]
    assert {part.test for part in found} == {("p016", "p017", "p018", "p019")}
    validated = [patient for part in found for patient in part.validation]
    assert sorted(validated) == [f"p{number:03d}" for number in range(16)]
    assert all(len(part.train) == 12 for part in found)


def test_the_cohort_may_be_a_column_of_the_cases() -> None:
    dataset = made("ab" * 6)
    dataset = replace(dataset, cases=dataset.cases.assign(cohort=list("TTTTTTTTXXXX")))
    kind = CohortFolds(kind="cohort", train=("T",), test=("X",))
    assert folds.split(dataset, examples.config(kind)).test == ("p008", "p009", "p010", "p011")


@pytest.mark.parametrize(
    ("dataset", "kind", "expected"),
    [
        (made("ab" * 6), GivenFolds(kind="given", num_folds=2), "folds.parquet: missing"),
        (
            made("ab" * 6, held=held_out((0, 0, "p000"), (0, 1, "p000"))),
            GivenFolds(kind="given", num_folds=2),
            "held out more than once in repetition 0: 'p000'",
        ),
        (
            made("ab" * 6, held=held_out((0, 0, "p000"), (0, 1, "p001"), (0, 2, "p002"))),
            GivenFolds(kind="given", num_folds=2),
            "repetition 0 has folds [0, 1, 2], expected 0 to 1",
        ),
        (
            made("ab" * 6, held=held_out((0, 0, "elsewhere"), (0, 1, "p001"))),
            GivenFolds(kind="given", num_folds=2),
            "the test part has no patients",
        ),
        (
            made("aabb", held=held_out((0, 0, "p000"), (0, 0, "p001"), (0, 1, "p002"))),
            GivenFolds(kind="given", num_folds=2),
            "the training part has one class only",
        ),
        (
            changed(made("ab" * 6), "slide", {0: "p001"}),
            StratifiedFolds(kind="stratified", num_folds=2),
            "slide 'p001': belongs to several patients: 'p000', 'p001'",
        ),
        (
            made("aaabbbbb"),
            StratifiedFolds(kind="stratified", num_folds=5),
            "too few patients for 5 stratified folds: class 0 has 3",
        ),
        (
            made("abab", cohorts="TTTT"),
            CohortFolds(kind="cohort", train=("T",), test=("X",)),
            "no patient belongs to cohort 'X'; there are 'T'",
        ),
        (
            made("ab" * 6, cohorts="TTTTTTTTTTXX"),
            CohortFolds(kind="cohort", train=("T", "X"), test=("X",)),
            "patient 'p011': in the train and the test part",
        ),
        (
            replace(made("ab" * 6), cases=made("ab" * 5).cases),
            StratifiedFolds(kind="stratified", num_folds=2),
            "patients without a row in cases.parquet: 'p010', 'p011'",
        ),
    ],
)
def test_splits_that_leak_or_cannot_train_are_refused(
    dataset: Dataset, kind: StratifiedFolds | GivenFolds | CohortFolds, expected: str
) -> None:
    with pytest.raises(DataError) as error:
        folds.split(dataset, examples.config(kind))
    assert expected in error.value.message


def test_the_same_bag_under_two_patients_is_refused_across_parts_only() -> None:
    held = held_out(*((0, n % 2, f"p{n:03d}") for n in range(8)))
    kind = GivenFolds(kind="given", num_folds=2)
    config = examples.config(kind, validation_share=0)
    together = changed(made("aabbaabb", held=held), "checksum", {0: "same", 2: "same"})
    assert folds.split(together, config).test == ("p000", "p002", "p004", "p006")
    apart = changed(made("aabbaabb", held=held), "checksum", {0: "same", 1: "same"})
    with pytest.raises(DataError, match=r"'p000', 'p001': share an identical bag, in parts"):
        folds.split(apart, config)


def test_a_patient_of_two_cohorts_is_refused() -> None:
    dataset = made("abab", cohorts="TTTX")
    dataset = changed(dataset, "patient", {3: "p002"})
    kind = CohortFolds(kind="cohort", train=("T",), test=("X",))
    with pytest.raises(DataError, match="patient 'p002': in several cohorts: 'T', 'X'"):
        folds.split(dataset, examples.config(kind))


def test_an_unknown_encoder_is_refused() -> None:
    with pytest.raises(DataError, match="no views of encoder 'two', only of 'one'"):
        folds.split(made("abab"), examples.config(encoder="two"))


def test_the_fingerprint_follows_content_and_not_place() -> None:
    dataset, config = made("ab" * 10), examples.config()
    first = folds.fingerprint(dataset, config)
    assert len(first) == 16
    moved = replace(
        dataset,
        root=Path("elsewhere"),
        index=dataset.index.assign(shard="other", row_start=7, licence="x").sample(
            frac=1, random_state=0
        ),
    )
    assert folds.fingerprint(moved, config) == first
    extra = pd.concat([dataset.index, dataset.index.assign(encoder="two", checksum="y")])
    assert folds.fingerprint(replace(dataset, index=extra), config) == first
    relabelled = replace(dataset, cases=dataset.cases.assign(label=list("ba" * 10)))
    others = [
        folds.fingerprint(changed(dataset, "checksum", {3: "new"}), config),
        folds.fingerprint(changed(dataset, "scanner", {3: "new"}), config),
        folds.fingerprint(relabelled, config),
        folds.fingerprint(dataset, examples.config(fold=1)),
        folds.fingerprint(dataset, examples.config(task=Task(classes=("b", "a")))),
    ]
    assert len({first, *others}) == 6


def test_views_outside_the_split_do_not_change_the_fingerprint() -> None:
    dataset = made("ab" * 6, cohorts="TTTTTTTTXXYY")
    kind = CohortFolds(kind="cohort", train=("T",), test=("X",))
    first = folds.fingerprint(dataset, examples.config(kind))
    other = changed(dataset, "checksum", {11: "new"})
    assert folds.fingerprint(other, examples.config(kind)) == first


def test_a_fingerprint_is_frozen() -> None:
    assert folds.fingerprint(made("ab" * 10), examples.config()) == "7343de37b2f63046"
