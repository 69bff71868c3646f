"""The identity of a trial's data, `training.data.folds.fingerprint`."""

from dataclasses import replace
from pathlib import Path

import pandas as pd

from tests.training.data import examples
from training.config import CohortFolds, Task
from training.data import folds


def test_the_fingerprint_follows_content_and_not_place() -> None:
    dataset, config = examples.made("ab" * 10), examples.config()
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
        folds.fingerprint(examples.changed(dataset, "checksum", {3: "new"}), config),
        folds.fingerprint(examples.changed(dataset, "scanner", {3: "new"}), config),
        folds.fingerprint(relabelled, config),
        folds.fingerprint(dataset, examples.config(fold=1)),
        folds.fingerprint(dataset, examples.config(task=Task(classes=("b", "a")))),
    ]
    assert len({first, *others}) == 6


def test_views_outside_the_split_do_not_change_the_fingerprint() -> None:
    dataset = examples.made("ab" * 6, cohorts="TTTTTTTTXXYY")
    kind = CohortFolds(kind="cohort", train=("T",), test=("X",))
    first = folds.fingerprint(dataset, examples.config(kind))
    other = examples.changed(dataset, "checksum", {11: "new"})
    assert folds.fingerprint(other, examples.config(kind)) == first


def test_the_fingerprint_follows_the_classes_as_they_come_out() -> None:
    dataset = examples.made("ab" * 10)
    first = folds.fingerprint(dataset, examples.config())
    assert folds.fingerprint(dataset, examples.config(task=Task(classes=("a", "b")))) == first
    renamed = replace(dataset, cases=dataset.cases.assign(label=list("ac" * 10)))
    assert folds.split(renamed, examples.config()) == folds.split(dataset, examples.config())
    assert folds.fingerprint(renamed, examples.config()) != first


def test_a_fingerprint_is_frozen() -> None:
    assert folds.fingerprint(examples.made("ab" * 10), examples.config()) == "df793b0114188b98"
