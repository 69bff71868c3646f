import pandas as pd
import pytest

from orchestrator import measure, validation
from tests.orchestrator.test_selection import finished_trials, made, predicted, scores


def known(*ids):
    plan = pd.DataFrame({"trial": ids})
    return finished_trials(plan).set_index("trial")


def test_values_are_those_of_measure_on_the_validation_rows_alone():
    rows = pd.DataFrame(
        predicted("a", scores(0.75, 3))
        + predicted("a", scores(0.25, 1), part="test", prefix="t")
        + predicted("b", scores(1.0, 2))
        + predicted("b", scores(1.0, 2), part="external", prefix="e")
    )
    found = validation.judged(known("a", "b"), rows, {})
    as_if_held_out = rows[rows["part"] == "validation"].assign(held_out=True)
    expected = measure.trials(known("a", "b")["threshold"], as_if_held_out, unseen=[(), ()])
    names = ["auroc", "inconsistency"]
    pd.testing.assert_frame_equal(found[names], expected[names], check_exact=True)
    assert found["paired"].to_list() == [4, 4]


def test_a_scan_of_an_unknown_scanner_counts_only_where_none_is_known():
    some, none = predicted("a", scores(0.75, 3)), predicted("b", scores(0.75, 3))
    for row in some + none:
        if row["trial"] == "b" or row["scanner"] == "B":
            row["scanner"] = ""
    found = validation.judged(known("a", "b"), pd.DataFrame(some + none), {})
    assert found["auroc"].to_list() == pytest.approx([0.75, 0.75])
    assert found["paired"].to_list() == [0, 0] and found["inconsistency"].isna().all()


def test_trials_without_validation_are_not_there():
    rows = pd.DataFrame(
        predicted("a", scores(0.75, 3)) + predicted("b", scores(0.75, 3), part="test")
    )
    assert list(validation.judged(known("a", "b"), rows, {}).index) == ["a"]
    assert validation.judged(known("a"), rows.drop(columns="part"), {}).empty
    nothing = pd.DataFrame({"trial": pd.Series(dtype="str")})
    assert validation.judged(known(), nothing, {}).empty


def test_a_failed_trial_is_not_judged():
    plan = made([0, 1])
    trials = finished_trials(plan, states={"c0f0s0": "failed"}).set_index("trial")
    rows = pd.DataFrame(predicted("c1f0s0", scores(0.75, 3)))
    assert list(validation.judged(trials, rows, {}).index) == ["c1f0s0"]
