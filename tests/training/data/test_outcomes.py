"""Outcomes of patients: what is read, what is refused, and what follows for splits."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from tests.training.data import examples
from training.config import Stopping, StratifiedFolds, Task, TrialConfig
from training.data import folds, index
from training.data.index import Dataset
from training.data.outcomes import Outcome
from training.errors import DataError


def task(**settings: object) -> Task:
    return Task.model_validate({"kind": "survival", "survival": settings})


def told(time: list[object], event: list[object], **more: list[object]) -> Dataset:
    """Tables of patients with these outcomes."""
    made = examples.made("a" * len(time))
    return replace(made, cases=made.cases.assign(time=time, event=event, **more))


def config(of: Task, **changed: object) -> TrialConfig:
    given = {
        **examples.config(task=None).model_dump(),
        "task": of,
        "stopping": Stopping(validation_share=0.25, metric="concordance"),
        **changed,
    }
    return TrialConfig.model_validate(given)


def many(events: int = 12, censored: int = 8) -> Dataset:
    time = list(np.random.default_rng(0).permutation(events + censored) + 1.0)
    return told(time, [1] * events + [0] * censored)


@pytest.mark.parametrize(
    ("time", "event"),
    [
        ([1.5, 2.0, 3.0], [1, 0, 1]),
        (["1.5", " 2 ", "3e0"], ["1", "0", "1"]),
        ([1.5, 2.0, 3.0], [True, False, True]),
        (["1.5", "2.0", "3.0"], ["True", "false", "TRUE"]),
        ([1.5, 2, 3], [1.0, 0.0, 1.0]),
        (["1.5", "2.0", "3.0"], ["1.0", "0.0", "1"]),
    ],
)
def test_times_and_events_are_read_as_numbers_truths_or_text(time, event) -> None:
    found = index.outcomes(told(time, event), task())
    assert found == {
        "p000": Outcome(1.5, True, ()),
        "p001": Outcome(2.0, False, ()),
        "p002": Outcome(3.0, True, ()),
    }


def test_every_wrong_outcome_is_told_at_once() -> None:
    dataset = told(
        ["0", "-3", "inf", "nan", "1_0", "soon", "", "5", "5", "5", "", True],
        ["1", "1", "0", "1", "0", "1", "1", "", "2", "yes", "", "1"],
        arm=["x"] * 9 + ["", "", "x"],
    )
    with pytest.raises(DataError) as error:
        index.outcomes(dataset, task(strata=["arm"]))
    lines = error.value.message.splitlines()
    assert lines == [
        "patient 'p000': time is '0', expected a finite number above 0",
        "patient 'p001': time is '-3', expected a finite number above 0",
        "patient 'p002': time is 'inf', expected a finite number above 0",
        "patient 'p003': time is 'nan', expected a finite number above 0",
        "patient 'p004': time is '1_0', expected a finite number above 0",
        "patient 'p005': time is 'soon', expected a finite number above 0",
        "patient 'p006': time is empty, expected a finite number above 0",
        "patient 'p007': event is empty, expected 1 (event) or 0 (censored)",
        "patient 'p008': event is '2', expected 1 (event) or 0 (censored)",
        "patient 'p009': event is 'yes', expected 1 (event) or 0 (censored)",
        "patient 'p009': arm is empty, expected the patient's stratum",
        "patient 'p011': time is True, expected a finite number above 0",
    ]


def test_a_data_set_is_checked_for_outcomes(tmp_path: Path) -> None:
    scans = examples.scans()
    cases = examples.cases(scans).assign(time=[1, 2, 3, 4, 5, 0], event=[1, 0, 1, 0, 1, 7])
    dataset = examples.write(tmp_path, cases=cases)
    found = index.check(dataset, encoders=["one"], task=task())
    assert found == [
        "patient 'patient 5': time is '0', expected a finite number above 0",
        "patient 'patient 5': event is '7', expected 1 (event) or 0 (censored)",
    ]
    path = tmp_path / "cases.parquet"
    wrong = task(time="tiem", event="evnt", strata=["grade"])
    assert index.check(dataset, encoders=["one"], task=wrong) == [
        f"{path}: no column 'tiem'; did you mean 'time'?\n"
        f"{path}: no column 'evnt'; did you mean 'event'?\n"
        f"{path}: no column 'grade'"
    ]
    alive = replace(dataset, cases=dataset.cases.assign(time="1", event="0"))
    found = index.check(alive, encoders=["one"], task=task())
    assert found == [f"{path}: no patient with views has an event"]


def test_patients_without_views_or_outcome_have_none() -> None:
    dataset = told([1.0, 2.0, None, 4.0], [1, 0, None, 1])
    dataset = replace(dataset, index=dataset.index[dataset.index["patient"] != "p003"])
    assert list(index.outcomes(dataset, task())) == ["p000", "p001"]


def test_a_patient_who_takes_part_without_an_outcome_is_refused() -> None:
    dataset = many()
    dataset.cases.loc[3, ["time", "event"]] = np.nan
    cohort = {"kind": "cohort", "train": ["A"], "test": ["B"]}
    views = dataset.index.assign(cohort=["A"] * 14 + ["B"] * 6)
    with pytest.raises(DataError, match="patient 'p003': time and event is empty"):
        folds.split(replace(dataset, index=views), config(task(), folds=cohort))


def test_folds_and_validation_keep_the_share_of_events() -> None:
    dataset = many(30, 15)
    events = {name for name, outcome in index.outcomes(dataset, task()).items() if outcome.event}
    kind = StratifiedFolds(kind="stratified", num_folds=5)
    for fold in range(5):
        parts = folds.split(dataset, config(task(), folds=kind, fold=fold))
        assert len(events & set(parts.test)) == 6 and len(parts.test) == 9
        assert len(events & set(parts.validation)) == 6 and len(parts.validation) == 9


def test_a_cohort_in_which_everyone_has_the_event_is_no_class_of_one() -> None:
    dataset = many(20, 0)
    assert set(index.class_numbers(dataset, task()).values()) == {0}
    assert len(folds.split(dataset, config(task())).test) == 10


def test_parts_without_events_are_refused() -> None:
    cohort = {"kind": "cohort", "train": ["A"], "test": ["B"]}
    dataset = many(12, 28)
    views = dataset.index.assign(cohort=["B"] * 11 + ["A"] * 29)
    with pytest.raises(DataError) as error:
        folds.split(replace(dataset, index=views), config(task(), folds=cohort))
    assert error.value.message.splitlines() == [
        "fold 0: the training part has 1 of 22 patients with an event; expected 2 or more",
        "fold 0: the validation part has no event among 7 patients",
    ]


def test_more_intervals_than_the_events_allow_are_refused() -> None:
    dataset = many(12, 8)
    dataset.cases["time"] = dataset.cases["time"] % 4 + 1
    with pytest.raises(DataError) as error:
        folds.split(dataset, config(task(loss="discrete", num_intervals=5)))
    assert error.value.message == (
        "fold 0: task.survival.num_intervals is 5; the training part's 4 events, at 3 times, allow "
        "for 3"
    )
    folds.split(dataset, config(task(loss="discrete", num_intervals=2)))


def test_the_fingerprint_follows_time_event_and_strata() -> None:
    dataset = many()
    dataset = replace(dataset, cases=dataset.cases.assign(arm="x"))
    told_all = config(task(strata=["arm"]))
    before = folds.fingerprint(dataset, told_all)
    assert folds.fingerprint(dataset, config(task())) != before
    text = dataset.cases.assign(time=dataset.cases["time"].map(str))
    assert folds.fingerprint(replace(dataset, cases=text), told_all) == before
    for column, value in (("time", 99.5), ("event", 0), ("arm", "y")):
        cases = dataset.cases.copy()
        cases.loc[0, column] = value
        other = replace(dataset, cases=cases)
        kind = {"kind": "given", "num_folds": 2}
        held = examples.held_out(*((0, n % 2, f"p{n:03d}") for n in range(20)))
        configs = [config(task(strata=["arm"]), folds=kind) for _ in range(2)]
        found = [
            folds.fingerprint(replace(each, folds=held), of)
            for each, of in zip((dataset, other), configs, strict=True)
        ]
        assert found[0] != found[1], column
    unread = dataset.cases.assign(label="other", grade=range(20))
    assert folds.fingerprint(replace(dataset, cases=unread), told_all) == before


def test_the_order_of_cases_changes_nothing() -> None:
    dataset = many()
    shuffled = replace(dataset, cases=dataset.cases.sample(frac=1, random_state=0))
    assert isinstance(shuffled.cases, pd.DataFrame)
    assert folds.fingerprint(shuffled, config(task())) == folds.fingerprint(dataset, config(task()))
