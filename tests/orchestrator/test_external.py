import json

import pandas as pd
import pytest

from orchestrator import aggregate, cohort, evidence, external, store
from orchestrator.errors import StoreError
from tests.orchestrator.finished import SPEC, planned, train, write_spec
from tests.orchestrator.test_aggregate import NAN, plan_row, results

LEFT_OUT = """\
folds: {kind: leave_one_out, column: scanner, values: [A, B], num_folds: 2}
external_cohorts: [test]
"""


def rows(trial, part, scanner, *scores):
    """Predictions of patients 0, 1, 2 …, whose classes alternate."""
    return [
        {"trial": trial, "patient": f"{part}{i}", "slide": f"{part}{i}",
         "view": f"{part}{i}{scanner}", "scanner": scanner, "part": part,
         "held_out": part == "test", "label": i % 2,
         "score": score}
        for i, score in enumerate(scores)
    ]  # fmt: skip


def test_external_auroc_is_the_mean_over_all_scanners_of_external_rows():
    predictions = pd.DataFrame(
        rows("a", "test", "A", 1.0, 0.0) + rows("a", "external", "A", 0.0, 1.0, 2.0, 3.0)
        + rows("a", "external", "B", 0.0, 1.0) + rows("b", "test", "A", 0.0, 1.0)
    )  # fmt: skip
    found = external.trials(pd.Series({"a": 0.0}), predictions)
    # On A: of four pairs (0, 1), (0, 3), (2, 1), (2, 3) three are in order.
    assert found.loc["a", "external_auroc"] == pytest.approx((3 / 4 + 1) / 2)
    with pytest.raises(StoreError, match="trial b is done but has no predictions of external"):
        external.trials(pd.Series({"a": 0.0, "b": 0.0}), predictions)
    with pytest.raises(StoreError, match="has no predictions of external"):
        external.trials(pd.Series({"a": 0.0}), predictions.drop(columns="part"))


def test_external_rows_touch_no_other_column_of_the_table():
    plan = pd.DataFrame([plan_row(0, "a"), plan_row(1, "b")])
    trials, predictions = results({"a": 0.8, "b": 0.6})
    plain = aggregate.table(plan, trials, predictions, axes=())
    assert not set(external.METRICS) & set(plain.columns)
    locked = {"unseen_scanners": [], "external_cohorts": ["X"]}
    plan.loc[0, "config"] = json.dumps(locked)
    more = pd.DataFrame(rows("a", "external", "A", 0.0, 1.0))
    both = pd.concat([predictions.assign(part="test"), more])
    found = aggregate.table(plan, trials, both, axes=())
    pd.testing.assert_frame_equal(found[plain.columns], plain)
    assert found["external_auroc"].to_list() == pytest.approx([1, NAN], nan_ok=True)
    failed, _ = results({"a": None, "b": 0.6})
    holed = aggregate.table(plan, failed, predictions, axes=())
    assert holed["external_auroc"].isna().all()


def test_the_scanner_that_a_fold_leaves_out_is_measured_as_unseen():
    folds = {"kind": "leave_one_out", "column": "scanner", "values": ["A", "B"], "num_folds": 2}
    config = {"encoder": "uni", "task": {}, "head": {"kind": "mean"}, "folds": folds, "seed": 0}
    plan = pd.DataFrame([plan_row(0, "a", fold=1), plan_row(0, "b", fold=2)])
    for place, fold in enumerate((1, 2)):
        plan.loc[place, "config"] = json.dumps(config | {"fold": fold})
    trials, _ = results({"a": 0.5, "b": 0.5})
    predictions = pd.DataFrame(
        rows("a", "test", "A", 0.0, 1.0) + rows("a", "test", "B", 1.0, 0.0)
        + rows("b", "test", "A", 1.0, 0.0) + rows("b", "test", "B", 0.0, 1.0)
    )  # fmt: skip
    found = aggregate.table(plan, trials, predictions, axes=()).iloc[0]
    assert (found["auroc"], found["unseen_scanner_auroc"]) == (0, 1)


def test_a_sweep_with_values_left_out_and_a_locked_cohort_trains_and_is_measured(tmp_path):
    lines = [line for line in SPEC.splitlines(keepends=True) if not line.startswith("folds:")]
    text = (
        "".join(lines).replace("unseen_scanners: [E]\n", LEFT_OUT).replace("seeds: 2", "seeds: 1")
    )
    prepared = planned(write_spec(tmp_path, text=text), tmp_path / "results")
    folder = train(prepared)
    tables = store.read_results(folder)
    made = aggregate.table(
        store.read_plan(folder),
        tables["trials"],
        tables["predictions"],
        axes=["losses.score.weight"],
    )
    assert made["external_auroc"].between(0, 1).all()
    predictions = tables["predictions"]
    locked = predictions["part"] == "external"
    assert set(predictions.loc[locked, "cohort"]) == {"test"}
    assert set(predictions.loc[~locked, "cohort"]) == {"dev"}
    assert not predictions.loc[locked, "held_out"].any()
    views = predictions.loc[locked].groupby("trial")["view"].agg(frozenset)
    assert views.nunique() == 1 and views.index.nunique() == predictions["trial"].nunique()
    validated = predictions[predictions["part"] == "validation"].merge(
        store.read_plan(folder)[["trial", "fold"]].drop_duplicates(), on="trial"
    )
    assert (validated["scanner"] != validated["fold"].floordiv(2).map({0: "A", 1: "B"})).all()
    judged = cohort.read(evidence.read(folder), "test").results
    given = (judged.plan, judged.trials, judged.predictions)
    alone = aggregate.table(*given, axes=["losses.score.weight"])
    pd.testing.assert_series_equal(alone["auroc"], made["external_auroc"], check_names=False)
    assert "external_auroc" not in alone and alone["unseen_scanner_auroc"].isna().all()
