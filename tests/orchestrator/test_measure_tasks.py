import json

import numpy as np
import pandas as pd
import pytest

from orchestrator import aggregate, measure, measure_survival, measure_tasks, robustness
from orchestrator.errors import StoreError
from tests.orchestrator.predicted import frame, random_rows
from tests.orchestrator.test_robustness import plan_row


def predictions() -> pd.DataFrame:
    """Trials a and b of classes, c of survival."""
    draw = np.random.default_rng(0)
    made = frame([row for name in "abc" for row in random_rows(draw, name, 1, most=30)])
    patient = made["patient"].factorize()[0]
    time, event = draw.integers(1, 9, 99)[patient], (draw.random(99) < 0.6)[patient]
    told = {"time": time * 1.0, "event": event * 1, "uno_weight": event * 1.0}
    only = made["trial"] == "c"
    return made.assign(**{name: np.where(only, value, np.nan) for name, value in told.items()})


def measured():
    given = {"unseen": [(), ("C",), ("C",)], "survives": [False, False, True]}
    return measure_tasks.trials(pd.Series(0.0, index=list("abc")), predictions(), **given)


def test_trials_of_both_tasks_are_measured_on_their_own_metrics():
    classes, survival = measured()
    assert (classes.survival, survival.survival) == (False, True)
    table = measure_tasks.main([classes, survival], {True, False})
    assert list(table.columns) == list(dict.fromkeys(
        [*measure_tasks.METRICS, *measure_survival.METRICS]
    ))  # fmt: skip
    assert table["inconsistency"].notna().all()
    assert table["auroc"].notna().to_list() == [True, True, False]
    assert table["concordance"].notna().to_list() == [False, False, True]


def test_columns_of_a_task_are_there_before_any_trial_of_it_is_done():
    assert list(measure_tasks.main((), {True}).columns) == list(measure_survival.METRICS)
    assert list(measure_tasks.main((), {False}).columns) == list(measure_tasks.METRICS)
    classes, _ = measured()
    assert "concordance" in measure_tasks.main([classes], {True, False})


def test_a_sweep_of_both_tasks_has_the_columns_of_both_in_its_tables():
    plan = pd.DataFrame([plan_row(n, name) for n, name in enumerate("abc")])
    plan.loc[2, "config"] = json.dumps({"task": {"kind": "survival"}, "unseen_scanners": ["C"]})
    trials = pd.DataFrame({"trial": list("abc"), "state": "done", "threshold": 0.0, "commit": "c",
                           "versions": "{}"})  # fmt: skip
    joined = aggregate.join(plan, trials, predictions(), axes=[])
    cells, on = robustness.cells(joined), robustness.scanners(joined)
    assert cells is not None and on is not None
    assert cells["rmsd"].notna().all()
    assert cells["auroc_gap"].notna().to_list() == [True, True, False]
    assert cells["concordance_gap"].notna().to_list() == [False, False, True]
    each = measured()[1].on_scanner
    mine = on[on["arm"] == "arm 2"]
    assert mine["scanner"].to_list() == list("ABC")
    assert mine["seen"].to_list() == [True, True, False]
    assert mine["patients"].to_list() == each["patients"][0].tolist()
    assert mine["concordance"].to_list() == pytest.approx(each["concordance"][0].tolist())
    assert mine["auroc"].isna().all() and on["auroc"].notna().any()


def test_tasks_with_unlike_numbers_of_classes_are_each_measured_on_their_own():
    draw = np.random.default_rng(1)
    each = {
        name: frame(random_rows(draw, name, width, most=30))
        for name, width in (("a", 3), ("b", 5), ("c", 1), ("d", 3))
    }
    threshold, away = pd.Series(0.0, index=list("abcd")), [(), ("C",), (), ("C",)]
    mixed = pd.concat(each.values())
    told = measure_tasks.trials(threshold, mixed, unseen=away, survives=[False] * 4)
    assert [list(one.cases.ids) for one in told] == [["c"], ["a", "d"], ["b"]]
    found = measure_tasks.main(told, {False}).loc[list("abcd"), list(measure.METRICS)]
    alone = [
        measure.trials(threshold.loc[[name]], rows, unseen=[unseen])
        for (name, rows), unseen in zip(each.items(), away, strict=True)
    ]
    pd.testing.assert_frame_equal(found, pd.concat(alone))
    pd.testing.assert_frame_equal(measure.trials(threshold, mixed, unseen=away), found)


def test_scans_of_one_trial_with_unlike_numbers_of_scores_are_refused():
    rows = frame(random_rows(np.random.default_rng(1), "a", 3, most=9))
    rows.at[1, "score"] = [0.0, 1.0]
    with pytest.raises(StoreError, match="differ in their number of scores"):
        measure.trials(pd.Series({"a": 0.0}), rows.assign(held_out=True), unseen=[()])
