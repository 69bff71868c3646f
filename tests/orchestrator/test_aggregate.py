import csv
import json
import math

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from orchestrator import aggregate, guards
from orchestrator.errors import StoreError

NAN = float("nan")


def plan_row(cell, trial, *, arm="erm", fold=0, seed=0, unseen=(), **more):
    config = json.dumps({"unseen_scanners": list(unseen)})
    return {"cell": cell, "trial": trial, "encoder": "uni", "arm": arm, "fold": fold, "seed": seed,
            "config": config, "fingerprint": "f", "pack_family": "k", **more}  # fmt: skip


def results(values, *, scanner="A", commit="c"):
    """Make trials whose accuracy at threshold 0 is as given, in tenths; None: failed."""
    trials, rows = [], []
    for trial, share in values.items():
        state = "failed" if share is None else "done"
        trials.append({"trial": trial, "state": state, "threshold": 0.0, "commit": commit,
                       "versions": "{}"})  # fmt: skip
        for i in range(0 if share is None else 10):
            score = 1.0 if (i < round(share * 10)) == bool(i % 2) else -1.0
            rows.append({"trial": trial, "patient": f"p{i}", "slide": f"s{i}", "view": f"v{i}",
                         "scanner": scanner, "held_out": True, "label": i % 2,
                         "score": score})  # fmt: skip
    columns = ["trial", "patient", "slide", "view", "scanner", "held_out", "label", "score"]
    return pd.DataFrame(trials), pd.DataFrame(rows, columns=columns)


def make(rows, values, *, axes=(), **more):
    return aggregate.table(pd.DataFrame(rows), *results(values), axes=axes, **more)


def test_a_cell_is_the_mean_over_folds_of_the_mean_over_seeds():
    # Fold 0 has two seeds, fold 1 one: (mean(0.2, 0.4) + 0.9) / 2, not the mean of three.
    rows = [
        plan_row(0, "a", fold=0, seed=0),
        plan_row(0, "b", fold=0, seed=1),
        plan_row(0, "c", fold=1, seed=0),
    ]
    table = make(rows, {"a": 0.2, "b": 0.4, "c": 0.9})
    assert table.loc[0, "accuracy"] == pytest.approx(0.6)
    assert table.loc[0, "accuracy_sd"] == pytest.approx(0.6 / math.sqrt(2))
    assert table.loc[0, ["trials", "missing", "failed", "versions", "folds"]].to_list() == [
        3, 0, 0, 1, 2
    ]  # fmt: skip


def test_columns_are_the_promised_ones_in_order():
    table = make([plan_row(0, "a", lr="0.1")], {"a": 0.5}, axes=["lr"])
    assert list(table.columns) == [
        "encoder", "arm", "lr", "trials", "missing", "failed", "versions", "accuracy", "auroc",
        "balanced_accuracy", "inconsistency", "flip_rate", "worst_scanner_auroc",
        "unseen_scanner_auroc", "auprc", "brier", "calibration_intercept", "calibration_slope",
        "calibration_error", "accuracy_sd", "auroc_sd", "folds", "auroc_folds",
    ]  # fmt: skip
    empty = ["inconsistency", "flip_rate", "worst_scanner_auroc", "unseen_scanner_auroc"]
    assert table.loc[0, [*empty, "accuracy_sd", "auroc_sd"]].isna().all()


@pytest.mark.parametrize("values", [{"a": 0.5}, {"a": 0.5, "b": None}])
def test_a_cell_with_a_hole_has_no_value_unless_allowed(values):
    rows = [plan_row(0, "a"), plan_row(0, "b", fold=1), plan_row(1, "a", arm="other")]
    failed = int("b" in values)
    table = make(rows, values)
    assert table["missing"].to_list() == [1 - failed, 0]
    assert table["failed"].to_list() == [failed, 0]
    assert table["accuracy"].isna().to_list() == [True, False]
    assert table["auroc_folds"].to_list() == [0, 1]
    allowed = make(rows, values, allow_missing=True)
    assert allowed["accuracy"].to_list() == [0.5, 0.5]
    assert allowed["missing"].to_list() == table["missing"].to_list()
    assert allowed["folds"].to_list() == [2, 1]


def test_nothing_trained_gives_a_table_of_counts():
    nothing = pd.DataFrame({"trial": pd.Series(dtype="str")})
    plan = pd.DataFrame([plan_row(0, "a"), plan_row(1, "b", arm="other")])
    for allow_missing in (False, True):
        table = aggregate.table(plan, nothing, nothing, axes=[], allow_missing=allow_missing)
        assert table["missing"].to_list() == [1, 1]
        assert table["versions"].to_list() == [0, 0]
        assert table[["accuracy", "auroc"]].isna().all(axis=None)


def test_a_fold_of_one_class_is_left_out_of_auroc_and_counted():
    plan = pd.DataFrame([plan_row(0, "a"), plan_row(0, "b", fold=1)])
    trials, predictions = results({"a": 0.5, "b": 0.9})
    predictions.loc[predictions["trial"] == "b", "label"] = 1
    table = aggregate.table(plan, trials, predictions, axes=[])
    alone = make([plan_row(0, "a")], {"a": 0.5})
    assert table.loc[0, "auroc"] == alone.loc[0, "auroc"]
    assert table.loc[0, "balanced_accuracy"] == alone.loc[0, "balanced_accuracy"]
    assert table.loc[0, ["folds", "auroc_folds"]].to_list() == [2, 1]


def test_a_trial_in_two_cells_counts_in_both():
    rows = [plan_row(0, "a"), plan_row(1, "a", arm="zero weight"), plan_row(1, "b", fold=1)]
    table = make(rows, {"a": 0.4, "b": 0.8})
    assert table["accuracy"].to_list() == pytest.approx([0.4, 0.6])


def test_results_outside_the_plan_are_ignored():
    table = make([plan_row(0, "a")], {"a": 0.4, "old": 0.9, "older": None})
    assert table.loc[0, "accuracy"] == pytest.approx(0.4)
    assert table.loc[0, ["trials", "missing", "failed"]].to_list() == [1, 0, 0]


def test_unseen_scanners_come_from_each_trial():
    trials, seen = results({"a": 0.2, "b": 0.2})
    unseen = results({"a": 0.9, "b": 0.9}, scanner="B")[1]
    unseen["view"] += "-B"
    plan = pd.DataFrame([plan_row(0, "a"), plan_row(1, "b", arm="out", unseen=["B"])])
    table = aggregate.table(plan, trials, pd.concat([seen, unseen]), axes=[])
    assert table["accuracy"].to_list() == pytest.approx([0.55, 0.2])
    assert table["unseen_scanner_auroc"].isna().to_list() == [True, False]
    assert table["worst_scanner_auroc"].isna().to_list() == [False, True]
    assert table["flip_rate"].notna().all()


def test_mixed_versions_of_the_code_are_shown():
    old, new = results({"a": 0.5}, commit="old"), results({"b": 0.5}, commit="new")
    plan = pd.DataFrame([plan_row(0, "a"), plan_row(0, "b", seed=1)])
    frames = (pd.concat(pair) for pair in zip(old, new, strict=True))
    assert aggregate.table(plan, *frames, axes=[]).loc[0, "versions"] == 2


def test_a_trial_with_two_results_is_refused():
    trials, predictions = results({"a": 0.5})
    with pytest.raises(StoreError, match="trial a has more than one result"):
        aggregate.table(
            pd.DataFrame([plan_row(0, "a")]), pd.concat([trials, trials]), predictions, axes=[]
        )


def test_cells_stand_in_the_order_of_the_plan_and_axes_read_like_the_spec():
    rows = [
        plan_row(2, "a", kind='"attention"', lr="0.1", clip=None),
        plan_row(0, "a", kind='"max"', lr="1e-05", clip="null"),
        plan_row(1, "a", kind='"a, \\"b\\""', lr="true", clip="2"),
    ]
    table = make(rows, {"a": 0.5}, axes=["kind", "lr", "clip"])
    assert table["kind"].to_list() == ["max", 'a, "b"', "attention"]
    assert table["lr"].to_list() == ["1e-05", "true", "0.1"]
    assert table["clip"].to_list() == ["", "2", ""]


def test_axes_of_a_plan_are_the_columns_that_vary():
    plan = pd.DataFrame(
        [
            plan_row(0, "a", lr="0.1", kind='"max"', weight=None),
            plan_row(1, "b", lr="0.2", kind='"max"', weight="1"),
        ]
    )
    assert aggregate.axes(plan) == ["lr", "weight"]


@settings(deadline=None, max_examples=25)
@given(st.integers(0, 2**32 - 1))
def test_table_equals_a_loop_and_no_order_of_rows_matters(seed):
    draw = np.random.default_rng(seed)
    rows, values = [], {}
    for cell in range(draw.integers(1, 4)):
        for fold in range(draw.integers(1, 4)):
            for number in range(draw.integers(1, 4)):
                trial = f"t{cell}{fold}{number}"
                rows.append(plan_row(cell, trial, arm=f"arm {cell}", fold=fold, seed=number))
                kind = draw.random()
                if kind > 0.2:
                    values[trial] = None if kind < 0.3 else draw.integers(0, 11) / 10
    plan, (trials, predictions) = pd.DataFrame(rows), results(values or {"other": 0.5})
    table = aggregate.table(plan, trials, predictions, axes=[], allow_missing=True)
    strict = aggregate.table(plan, trials, predictions, axes=[])
    for cell in range(len(table)):
        own = [row for row in rows if row["cell"] == cell]
        got = [values.get(row["trial"], "missing") for row in own]
        assert table.loc[cell, "missing"] == got.count("missing")
        assert table.loc[cell, "failed"] == got.count(None)
        folds = {}
        for row, value in zip(own, got, strict=True):
            if value not in (None, "missing"):
                folds.setdefault(row["fold"], []).append(value)
        means = [sum(v) / len(v) for v in folds.values()]
        expected = sum(means) / len(means) if means else NAN
        assert table.loc[cell, "accuracy"] == pytest.approx(expected, nan_ok=True)
        assert table.loc[cell, "auroc_folds"] == len(means)
        whole = "missing" not in got and None not in got
        assert strict.loc[cell, "accuracy"] == pytest.approx(
            expected if whole else NAN, nan_ok=True
        )
    shuffled = (f.iloc[draw.permutation(len(f))] for f in (plan, trials, predictions))
    again = aggregate.table(*shuffled, axes=[], allow_missing=True)
    pd.testing.assert_frame_equal(again, table, check_exact=True)


HOSTILE = ["plain", "a,b", 'say "hi"', "Läßt\u200b 片", "two\nlines", "\r", " spaces ", "=1+1"]


def test_csv_keeps_hostile_names_and_six_digits(tmp_path):
    rows = [
        plan_row(i, "a", arm=name, text=json.dumps(name), **{"x,y": "1"})
        for i, name in enumerate(HOSTILE)
    ]
    table = make(rows, {"a": 0.5}, axes=["text", "x,y"])
    table["auroc"] = 2 / 3
    paths = aggregate.write(table, tmp_path / "new" / "tables")
    assert [path.name for path in paths] == ["main.csv", "main.parquet"]
    with paths[0].open(encoding="utf-8", newline="") as file:
        header, *lines = csv.reader(file, strict=True)
    assert header == list(table.columns)
    assert [line[1] for line in lines] == HOSTILE
    assert [line[2] for line in lines] == HOSTILE
    assert {line[header.index("auroc")] for line in lines} == {"0.666667"}
    assert {line[header.index("accuracy")] for line in lines} == {"0.5"}
    assert {line[header.index("flip_rate")] for line in lines} == {""}
    assert paths[0].read_bytes().endswith(b"\r\n")
    pd.testing.assert_frame_equal(pd.read_parquet(paths[1]), table, check_exact=True)


def test_equal_tables_give_equal_bytes_and_nothing_else_is_left(tmp_path):
    table = make([plan_row(0, "a")], {"a": 0.3})
    first = [path.read_bytes() for path in aggregate.write(table, tmp_path)]
    again = [path.read_bytes() for path in aggregate.write(table.copy(), tmp_path)]
    assert first == again
    assert sorted(path.name for path in tmp_path.iterdir()) == ["main.csv", "main.parquet"]


def test_a_cell_with_a_retired_trial_never_has_a_value_and_the_table_says_why():
    rows = [
        plan_row(0, "a", search="asha"), plan_row(0, "b", fold=1, search="asha"),
        plan_row(1, "c", search="asha"), plan_row(1, "d", fold=1, search="asha"),
        plan_row(2, "c", arm="plain", search=""), plan_row(2, "d", arm="plain", fold=1, search=""),
    ]  # fmt: skip
    trials, predictions = results({"a": 0.5, "b": 0.6, "c": 0.7, "d": 0.8})
    trials.loc[trials["trial"] == "b", "state"] = "retired"
    for allow_missing in (False, True):
        table = aggregate.table(
            pd.DataFrame(rows), trials, predictions, axes=[], allow_missing=allow_missing
        )
        assert table["search"].to_list() == ["asha", "asha", ""]
        assert table["retired"].to_list() == [1, 0, 0]
        assert table[["missing", "failed"]].to_numpy().sum() == 0
        assert math.isnan(table.loc[0, "accuracy"])
        assert table.loc[1, "accuracy"] == pytest.approx(0.75)
    (line,) = guards.remarks(table)
    assert line.startswith("arm erm: its settings come from a search (asha), not from a grid")
    assert "retired 1 trials and left 1 cells without a value" in line and "biased" in line


def test_a_table_without_searches_has_no_remarks():
    table = make([plan_row(0, "a")], {"a": 0.5})
    assert guards.remarks(table) == []
    assert not {"search", "retired"} & set(table.columns)


def survival_results(trials):
    """Make trials of a survival task whose scores follow the times of ten patients."""
    done, rows = [], []
    for trial in trials:
        done.append({"trial": trial, "state": "done", "threshold": 0.0, "commit": "c",
                     "versions": "{}"})  # fmt: skip
        for i in range(10):
            rows.append({"trial": trial, "patient": f"p{i}", "slide": f"s{i}", "view": f"v{i}",
                         "scanner": "A", "held_out": True, "label": i % 2, "time": 1.0 + i,
                         "event": i % 2, "uno_weight": float(i % 2),
                         "score": -float(i ^ 1)})  # fmt: skip
    return pd.DataFrame(done), pd.DataFrame(rows)


SURVIVAL = json.dumps({"task": {"kind": "survival"}})


def test_a_survival_sweep_has_columns_of_its_own():
    plan = pd.DataFrame([plan_row(0, "a") | {"config": SURVIVAL}])
    table = aggregate.table(plan, *survival_results("a"), axes=[])
    assert list(table.columns) == [
        "encoder", "arm", "trials", "missing", "failed", "versions", "concordance",
        "uno_concordance", "hazard_ratio", "inconsistency", "flip_rate",
        "worst_scanner_concordance", "unseen_scanner_concordance", "concordance_sd", "folds",
        "concordance_folds",
    ]  # fmt: skip
    # Odd patients have events, and the scores of their left neighbours: no pair is turned round.
    assert table.loc[0, "concordance"] == 1.0 and math.isnan(table.loc[0, "hazard_ratio"])


def test_a_survival_sweep_without_results_has_its_columns_too():
    nothing = pd.DataFrame({"trial": pd.Series(dtype="str")})
    plan = pd.DataFrame([plan_row(0, "a") | {"config": SURVIVAL}])
    table = aggregate.table(plan, nothing, nothing, axes=[])
    assert "concordance" in table and "auroc" not in table and table.loc[0, "missing"] == 1


def test_a_sweep_of_both_kinds_of_task_has_both_kinds_of_columns():
    plan = pd.DataFrame(
        [plan_row(0, "a"), plan_row(1, "b", arm="cox") | {"config": SURVIVAL}, plan_row(2, "c")]
    )
    parts = zip(results({"a": 0.5, "c": 0.7}), survival_results("b"), strict=True)
    table = aggregate.table(plan, *(pd.concat(part) for part in parts), axes=[])
    alone = make([plan_row(0, "a"), plan_row(2, "c")], {"a": 0.5, "c": 0.7})
    shared = [name for name in alone if name in table]
    assert shared == list(alone)
    pd.testing.assert_frame_equal(
        table.loc[[0, 2], shared].reset_index(drop=True), alone, check_exact=True
    )
    assert table["concordance"].isna().to_list() == [True, False, True]
    assert table["auroc"].isna().to_list() == [False, True, False]
