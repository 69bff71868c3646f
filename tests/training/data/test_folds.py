import hashlib
import re
from collections import Counter
from dataclasses import replace

import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.training.data import examples
from training.config import CohortFolds, Folds, GivenFolds, StratifiedFolds, num_folds
from training.data import folds
from training.data.index import Dataset
from training.errors import DataError


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
    dataset = examples.made("a" * counts[0] + "b" * counts[1])
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
    dataset = examples.made("ab" * 10)
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
    dataset = examples.made("a" * 30 + "b" * 10)
    config = examples.config(StratifiedFolds(kind="stratified", num_folds=2))
    found = folds.split(dataset, config)
    rare = sum(int(patient[1:]) >= 30 for patient in found.validation)
    assert (len(found.validation), rare) == (5, 1)


def test_only_patients_with_views_of_the_encoder_take_part() -> None:
    dataset = examples.changed(examples.made("ab" * 6), "encoder", {0: "two", 1: "two"})
    found = folds.split(dataset, examples.config())
    assert {"p000", "p001"}.isdisjoint((*found.train, *found.validation, *found.test))


def test_encoders_are_compared_on_the_same_folds() -> None:
    dataset = examples.made("ab" * 20)
    other = dataset.index[~dataset.index["patient"].isin(("p003", "p010", "p011"))]
    both = replace(dataset, index=pd.concat([dataset.index, other.assign(encoder="two")]))
    kind = StratifiedFolds(kind="stratified", num_folds=4)
    lacking = {"p003", "p010", "p011"}
    for fold in range(4):
        one, two = (
            folds.split(both, examples.config(kind, fold=fold, encoder=name))
            for name in ("one", "two")
        )
        assert set(two.test) == set(one.test) - lacking
        assert one.test == folds.split(dataset, examples.config(kind, fold=fold)).test


def test_augmented_views_decide_nothing() -> None:
    dataset, config = examples.made("ab" * 6), examples.config()
    copies = dataset.index.assign(view="copy of " + dataset.index["view"], checksum="copy")
    copies["source_scan"] = copies["scan"]
    stranger = copies.iloc[[0]].assign(patient="stranger", slide="s", scan="s", source_scan="s")
    more = replace(dataset, index=pd.concat([dataset.index, copies, stranger]))
    assert folds.split(more, config) == folds.split(dataset, config)
    assert folds.fingerprint(more, config) == folds.fingerprint(dataset, config)
    with pytest.raises(DataError, match="encoder 'one' has augmented views only"):
        folds.split(replace(dataset, index=copies), config)


@pytest.mark.parametrize(
    ("names", "expected"),
    [
        (("GT450", "AT"), "encoder 'one' has no scan on 'AT'; did you mean 'AT2'?"),
        (("Nano",), "encoder 'one' has no scan on 'Nano'; it has 'AT2', 'GT450'"),
        (("",), "encoder 'one' has no scan on ''; it has 'AT2', 'GT450'"),
    ],
)
def test_an_unseen_scanner_must_exist(names: tuple[str, ...], expected: str) -> None:
    dataset = examples.changed(
        examples.made("ab" * 6), "scanner", {n: ["AT2", "GT450", ""][n % 3] for n in range(12)}
    )
    config = examples.config()
    assert folds.split(dataset, config.model_copy(update={"unseen_scanners": ("AT2",)}))
    with pytest.raises(DataError, match=re.escape(expected)):
        folds.split(dataset, config.model_copy(update={"unseen_scanners": names}))


def test_patients_in_no_given_fold_take_no_part() -> None:
    held = examples.held_out(
        *((rep, n % 2, f"p{n:03d}") for rep in (0, 1) for n in range(8 + 2 * rep))
    )
    dataset = examples.made("aabb" * 3, held=held)
    kind = GivenFolds(kind="given", num_folds=2, repetitions=2)
    for fold, count in enumerate((8, 8, 10, 10)):
        found = folds.split(dataset, examples.config(kind, fold=fold))
        taking = sorted([*found.train, *found.validation, *found.test])
        assert taking == [f"p{number:03d}" for number in range(count)]


def test_given_folds_are_followed() -> None:
    held = examples.held_out(
        *((rep, n % 2 if rep else n // 4, f"p{n:03d}") for rep in (0, 1) for n in range(8))
    )
    dataset = examples.made("aabbaabb", held=held)
    kind = GivenFolds(kind="given", num_folds=2, repetitions=2)
    tests = [
        folds.split(dataset, examples.config(kind, fold=fold, validation_share=0)).test
        for fold in range(4)
    ]
    assert tests[0] == ("p000", "p001", "p002", "p003")
    assert tests[3] == ("p001", "p003", "p005", "p007")


def test_validation_of_given_folds_follows_the_draw_seed() -> None:
    held = examples.held_out(*((0, n % 2, f"p{n:03d}") for n in range(40)))
    dataset = examples.made("aabb" * 10, held=held)
    kind = GivenFolds(kind="given", num_folds=2)
    one, two = (folds.split(dataset, examples.config(kind, draw_seed=seed)) for seed in (0, 1))
    assert one.test == two.test
    assert one.validation != two.validation


def test_cohort_folds_hold_out_whole_cohorts() -> None:
    dataset = examples.made("ab" * 12, cohorts="TTTTTTTTTTTTTTTTXXXXYYYY")
    kind = CohortFolds(kind="cohort", train=("T",), test=("X",), num_folds=4)
    found = [folds.split(dataset, examples.config(kind, fold=fold)) for fold in range(4)]
    assert {part.test for part in found} == {("p016", "p017", "p018", "p019")}
    validated = [patient for part in found for patient in part.validation]
    assert sorted(validated) == [f"p{number:03d}" for number in range(16)]
    assert all(len(part.train) == 12 for part in found)


def test_the_cohort_may_be_a_column_of_the_cases() -> None:
    dataset = examples.made("ab" * 6)
    dataset = replace(dataset, cases=dataset.cases.assign(cohort=list("TTTTTTTTXXXX")))
    kind = CohortFolds(kind="cohort", train=("T",), test=("X",))
    assert folds.split(dataset, examples.config(kind)).test == ("p008", "p009", "p010", "p011")


@pytest.mark.parametrize(
    ("dataset", "kind", "expected"),
    [
        (examples.made("ab" * 6), GivenFolds(kind="given", num_folds=2), "folds.parquet: missing"),
        (
            examples.made("ab" * 6, held=examples.held_out((0, 0, "p000"), (0, 1, "p000"))),
            GivenFolds(kind="given", num_folds=2),
            "held out more than once in repetition 0: 'p000'",
        ),
        (
            examples.made(
                "ab" * 6, held=examples.held_out((0, 0, "p000"), (0, 1, "p001"), (0, 2, "p002"))
            ),
            GivenFolds(kind="given", num_folds=2),
            "repetition 0 has folds [0, 1, 2], expected 0 to 1",
        ),
        (
            examples.made("ab" * 6, held=examples.held_out((0, 0, "elsewhere"), (0, 1, "p001"))),
            GivenFolds(kind="given", num_folds=2),
            "the test part has no patients",
        ),
        (
            examples.made(
                "aabb", held=examples.held_out((0, 0, "p000"), (0, 0, "p001"), (0, 1, "p002"))
            ),
            GivenFolds(kind="given", num_folds=2),
            "the training part has one class only",
        ),
        (
            examples.changed(examples.made("ab" * 6), "slide", {0: "p001"}),
            StratifiedFolds(kind="stratified", num_folds=2),
            "slide 'p001': belongs to several patients: 'p000', 'p001'",
        ),
        (
            examples.made("aaabbbbb"),
            StratifiedFolds(kind="stratified", num_folds=5),
            "too few patients for 5 stratified folds: class 0 has 3",
        ),
        (
            examples.made("abab", cohorts="TTTT"),
            CohortFolds(kind="cohort", train=("T",), test=("X",)),
            "no patient belongs to cohort 'X'; there are 'T'",
        ),
        (
            replace(examples.made("ab" * 6), cases=examples.made("ab" * 5).cases),
            StratifiedFolds(kind="stratified", num_folds=2),
            "patients without a row in cases.parquet: 'p010', 'p011'",
        ),
    ],
)
def test_splits_that_leak_or_cannot_train_are_refused(
    dataset: Dataset, kind: Folds, expected: str
) -> None:
    with pytest.raises(DataError) as error:
        folds.split(dataset, examples.config(kind))
    assert expected in error.value.message


def test_a_patient_who_takes_part_needs_a_label() -> None:
    dataset = examples.made(
        "ab" * 8, cohorts="TTTTTTTTTTXXXXYY", held=examples.held_out((0, 0, "p000"))
    )
    cases = dataset.cases.copy()
    cases.loc[[14, 15], "label"] = ""
    dataset = replace(dataset, cases=cases)
    kind = CohortFolds(kind="cohort", train=("T",), test=("X",))
    found = folds.split(dataset, examples.config(kind))
    assert {"p014", "p015"}.isdisjoint((*found.train, *found.validation, *found.test))
    assert folds.fingerprint(dataset, examples.config(kind))
    held = examples.held_out(*((0, n // 2 % 2, f"p{n:03d}") for n in range(14)))
    given_folds = examples.config(GivenFolds(kind="given", num_folds=2))
    assert folds.split(replace(dataset, folds=held), given_folds)
    other = CohortFolds(kind="cohort", train=("T",), test=("X", "Y"))
    for config in (examples.config(), examples.config(other)):
        with pytest.raises(DataError) as error:
            folds.split(dataset, config)
        assert error.value.message.splitlines() == [
            "patient 'p014': label is empty",
            "patient 'p015': label is empty",
        ]


def test_the_same_bag_under_two_patients_is_refused_across_parts_only() -> None:
    held = examples.held_out(*((0, n % 2, f"p{n:03d}") for n in range(8)))
    kind = GivenFolds(kind="given", num_folds=2)
    config = examples.config(kind, validation_share=0)
    together = examples.changed(
        examples.made("aabbaabb", held=held), "checksum", {0: "same", 2: "same"}
    )
    assert folds.split(together, config).test == ("p000", "p002", "p004", "p006")
    apart = examples.changed(
        examples.made("aabbaabb", held=held), "checksum", {0: "same", 1: "same"}
    )
    with pytest.raises(DataError, match=r"'p000', 'p001': share an identical bag, in parts"):
        folds.split(apart, config)


def test_a_patient_of_two_cohorts_is_refused() -> None:
    dataset = examples.made("abab", cohorts="TTTX")
    dataset = examples.changed(dataset, "patient", {3: "p002"})
    kind = CohortFolds(kind="cohort", train=("T",), test=("X",))
    with pytest.raises(DataError, match="patient 'p002': in several cohorts: 'T', 'X'"):
        folds.split(dataset, examples.config(kind))


def test_an_unknown_encoder_is_refused() -> None:
    with pytest.raises(DataError, match="no views of encoder 'two', only of 'one'"):
        folds.split(examples.made("abab"), examples.config(encoder="two"))


def several() -> Dataset:
    """Two encoders, one without some patients; scanners, cohorts and given folds."""
    held = (
        (repetition, number * (repetition + 1) % 3, f"p{number:03d}")
        for repetition in (0, 1)
        for number in range(102 - 7 * repetition)
    )
    made = examples.made(
        "aab" * 20 + "bba" * 14, cohorts="T" * 70 + "X" * 32, held=examples.held_out(*held)
    )
    views = made.index.assign(
        scanner=[["AT2", "GT450", ""][number % 3] for number in range(102)],
        site=[f"s{number % 7}" for number in range(102)],
    )
    other = views[~views["patient"].isin(["p003", "p010", "p070"])]
    other = other.assign(encoder="two", checksum=[f"z{number}" for number in range(99)])
    return replace(made, index=pd.concat([views, other], ignore_index=True))


FROZEN: dict[str, tuple[Folds, str]] = {
    "stratified": (StratifiedFolds(kind="stratified", num_folds=5, seed=3), "fb33b01ac2da802f"),
    "given": (GivenFolds(kind="given", num_folds=3, repetitions=2), "15290aa4a953dc55"),
    "cohort": (CohortFolds(kind="cohort", train=("T",), test=("X",)), "56938da381043502"),
    "cohort in parts": (
        CohortFolds(kind="cohort", train=("T",), test=("X",), num_folds=4),
        "e781983671ce7f0d",
    ),
}


@pytest.mark.parametrize("name", FROZEN)
def test_splits_and_fingerprints_are_frozen(name: str) -> None:
    # Of the first release: another value retrains the work of every user.
    (kind, expected), dataset = FROZEN[name], several()
    digest = hashlib.sha256()
    for fold in range(num_folds(kind)):
        for encoder in ("one", "two"):
            for share in (0.25,) if name == "cohort in parts" else (0.0, 0.25):
                config = examples.config(
                    kind, fold=fold, encoder=encoder, validation_share=share, draw_seed=5
                )
                for unseen in ((), ("AT2",)):
                    config = config.model_copy(update={"unseen_scanners": unseen})
                    fingerprint, found = folds.identify(dataset, config)
                    digest.update(fingerprint.encode())
                    digest.update(repr((found.train, found.validation, found.test)).encode())
    assert digest.hexdigest()[:16] == expected
