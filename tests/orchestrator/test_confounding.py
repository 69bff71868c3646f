from dataclasses import replace

import numpy as np
import pandas as pd
import pytest

from orchestrator import confounding, plan, spec
from tests.orchestrator.finished import write_spec
from tests.training.data import examples

SPEC = """\
data: elsewhere
task: {kind: binary}
encoders: [one]
folds: {kind: cohort, train: [T], test: [X]}
seeds: 1
head: {kind: mean}
arms: {erm: {views: routine}}
"""


@pytest.fixture
def dataset():
    made = examples.made("aabb" * 20, cohorts="T" * 60 + "X" * 20)
    number = np.arange(80)
    scanner = np.where(number % 4 < 2, "A", "B")  # fixed by the class, but for the test cohort
    views = made.index.assign(
        scanner=np.where(number < 60, scanner, "C"),
        site=np.where(number % 2 == 0, "s", "t"),  # independent of the class
        lab="one",
        stain=np.where((number % 4 == 0) & (number < 40), "", np.where(number < 60, scanner, "")),
    )
    return replace(made, index=views)


def warnings(tmp_path, dataset, text=SPEC):
    rows = spec.expand(spec.read(write_spec(tmp_path, text=text)))
    return confounding.warnings(dataset, plan.make(rows, dataset=dataset, lanes_max=4))


def test_what_goes_with_the_class_among_training_patients_is_named(tmp_path, dataset):
    lines = warnings(tmp_path, dataset)
    assert lines == [
        "class and scanner are confounded: Cramér's V 1.000 (1.000 corrected for chance) over 60 "
        "routine scans of training patients",
        "class and stain are confounded: Cramér's V 1.000 (1.000 corrected for chance) over 50 "
        "routine scans of training patients",
    ]


def test_scans_that_are_not_routine_and_other_encoders_do_not_count(tmp_path, dataset):
    views = dataset.index.copy()
    views.loc[views["scanner"] != "C", "scanner"] = "A"
    copies = dataset.index.assign(routine=False, view="x" + views["view"], scan="x" + views["scan"])
    other = dataset.index.assign(encoder="two")
    joined = replace(dataset, index=pd.concat([views, copies, other], ignore_index=True))
    assert [line[:20] for line in warnings(tmp_path, joined)] == ["class and stain are "]


def test_several_tasks_are_told_apart(tmp_path, dataset):
    cases = dataset.cases.assign(grade=["xy"[n % 2] for n in range(80)])
    text = SPEC.replace("{erm", "{other: {views: routine, task: {label: grade}}, erm")
    lines = warnings(tmp_path, replace(dataset, cases=cases), text)
    assert [line.partition(" are")[0] for line in lines] == [
        "class (grade) and site", "class (label) and scanner", "class (label) and stain",
    ]  # fmt: skip


def test_chance_is_no_confounding(tmp_path):
    draw = np.random.default_rng(0)
    made = examples.made("ab" * 30, cohorts="T" * 40 + "X" * 20)
    sites = [f"s{number}" for number in draw.integers(0, 25, 60)]
    assert warnings(tmp_path, replace(made, index=made.index.assign(site=sites))) == []


def test_without_data_nothing_is_said(tmp_path):
    assert warnings(tmp_path, None) == []
