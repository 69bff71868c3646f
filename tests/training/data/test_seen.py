from dataclasses import replace

import numpy as np
import pandas as pd
import pytest

from tests.training.data import examples
from tests.training.data.test_fold_makers import out, paired
from training.config import StratifiedFolds, TrialConfig, unseen_scanners
from training.data import scans, seen


def config(**changed: object) -> TrialConfig:
    return examples.config(out("scanner", "B", "A", num_folds=2)).model_copy(update=changed)


def test_the_scanner_that_a_fold_leaves_out_is_an_unseen_one() -> None:
    assert [unseen_scanners(config(fold=fold)) for fold in range(4)] == [
        ("B",), ("B",), ("A",), ("A",)
    ]  # fmt: skip
    assert unseen_scanners(config(unseen_scanners=("C", "B"))) == ("C", "B")
    assert unseen_scanners(config(unseen_scanners=("C",), fold=2)) == ("C", "A")
    plain = config(folds=StratifiedFolds(kind="stratified"), unseen_scanners=("C",))
    assert unseen_scanners(plain) == ("C",)
    assert unseen_scanners(config(folds=out("site", "B"), fold=0)) == ()


def test_scans_of_the_value_or_an_unseen_scanner_are_not_seen() -> None:
    dataset = paired()
    views = dataset.index.assign(lab=np.where(dataset.index["patient"] < "p012", "L", "M"))
    away = config(folds=out("lab", "L", num_folds=2), unseen_scanners=("C",))
    found = seen.is_seen(dataset, views, away)
    expected = (views["scanner"] != "C") & (views["lab"] != "L")
    assert found.tolist() == expected.tolist()


def test_another_scan_stands_in_for_a_routine_scan_that_is_left_out() -> None:
    dataset = paired(scanners="BAC")  # B is routine
    views = dataset.index.sample(frac=1, random_state=0)
    single = (views["patient"] == "p003") & (views["scanner"] != "B")
    views = views[~single]
    marked = views[seen.routine(dataset, views, config())]
    assert set(marked["scanner"]) == {"A"}
    assert sorted(marked["patient"]) == sorted(set(views["patient"]) - {"p003"})
    without_a = views[seen.routine(dataset, views, config(unseen_scanners=("A",)))]
    assert set(without_a["scanner"]) == {"C"}
    kept = seen.routine(dataset, views, config(fold=2))
    assert kept.tolist() == views["routine"].tolist()


def test_a_left_out_routine_scanner_can_be_trained_without() -> None:
    dataset = paired(scanners="BAC")
    found = scans.read(dataset, config())
    train = found.table.iloc[found.of("train", seen_only=True)]
    assert set(train["scanner"]) == {"A", "C"}
    assert set(train.loc[train["routine"], "scanner"]) == {"A"}
    test = found.table[found.table["part"] == "test"]
    assert set(test["scanner"]) == {"A", "B", "C"}
    assert set(test.loc[test["routine"], "scanner"]) == {"B"}


def test_patients_are_tested_on_their_scans_of_the_site() -> None:
    dataset = paired()
    views = dataset.index.copy()
    views["lab"] = np.where(views["scanner"] == "A", "L", "M")
    dataset = replace(dataset, index=views)
    found = scans.read(dataset, config(folds=out("lab", "M", num_folds=2)))
    assert set(found.table.loc[found.table["part"] == "test", "lab"]) == {"M"}
    assert set(found.table["lab"].iloc[found.of("train", seen_only=True)]) == {"L"}
    assert set(found.table["lab"].iloc[found.of("validation", seen_only=True)]) == {"L"}


def test_groups_know_only_what_trains() -> None:
    dataset = paired(scanners="ABCD")
    dataset = replace(
        dataset,
        index=dataset.index.assign(
            cohort=np.where(dataset.index["patient"] < "p020", "T", "X"),
            site=np.where(dataset.index["patient"] < "p020", dataset.index["scanner"], "far"),
        ),
    )
    given = examples.config(out("scanner", "B", num_folds=2)).model_dump()
    given |= {"external_cohorts": ["X"], "losses": [{"kind": "coral"}, {"kind": "mmd"}]}
    given["losses"][1]["group"] = "site"
    found = scans.read(dataset, TrialConfig.model_validate(given | {"views": "all"}))
    assert found.num_groups == {"scanner": 3, "site": 3}
    external = found.of("external", seen_only=False)
    assert len(external) == 4 * 4
    assert (found.groups["site"][external] == -1).all()


@pytest.mark.parametrize(
    ("changed", "expected"),
    [
        ({"external_cohorts": ["X", "X"]}, "external_cohorts holds 'X' twice"),
        (
            {"external_cohorts": ["X"],
             "folds": {"kind": "cohort", "train": ["T"], "test": ["X"]}},
            "cohort 'X' is in external_cohorts and in folds.test; expected one of them",
        ),
        (
            {"external_cohorts": ["T"],
             "folds": {"kind": "leave_one_out", "column": "cohort", "values": ["X", "T"]}},
            "cohort 'T' is in external_cohorts and in folds.values",
        ),
    ],
)  # fmt: skip
def test_a_cohort_cannot_be_locked_and_in_a_fold(changed: dict[str, object], expected: str) -> None:
    with pytest.raises(ValueError, match=expected):
        TrialConfig.model_validate(examples.config().model_dump() | changed)


def test_an_augmented_view_never_stands_in_for_a_routine_scan() -> None:
    dataset = paired(scanners="BAC")
    scans_of_a = dataset.index[dataset.index["scanner"] == "A"]
    copies = scans_of_a.assign(
        view="a copy of " + scans_of_a["view"], source_scan=scans_of_a["scan"], routine=False
    )
    views = pd.concat([dataset.index, copies], ignore_index=True)
    marked = views[seen.routine(dataset, views, config())]
    assert set(marked["source_scan"]) == {""} and set(marked["scanner"]) == {"A"}
    assert sorted(marked["patient"]) == sorted(set(views["patient"]))
