import json

import numpy as np
import pandas as pd
import pytest

from orchestrator import aggregate, measure_agreement, measure_scanners, robustness
from tests.orchestrator.predicted import frame, random_rows


def plan_row(cell, trial, *, fold=0, seed=0, unseen=()):
    config = json.dumps({"unseen_scanners": list(unseen)})
    return {"cell": cell, "trial": trial, "encoder": "uni", "arm": f"arm {cell}", "fold": fold,
            "seed": seed, "config": config, "fingerprint": "f", "pack_family": "k"}  # fmt: skip


def results(names, *, scanners="ABC", **more):
    draw = np.random.default_rng(3)
    rows = [r for name in names for r in random_rows(draw, name, 1, scanners=scanners, most=30)]
    trials = pd.DataFrame({"trial": names, "state": "done", "threshold": 0.0, "commit": "c",
                           "versions": "{}", **more})  # fmt: skip
    return trials, frame(rows)


PLAN = pd.DataFrame(
    [
        plan_row(0, "a", fold=0, seed=0),
        plan_row(0, "b", fold=0, seed=1),
        plan_row(0, "c", fold=1, seed=0),
        plan_row(1, "d", unseen=["C"]),
        plan_row(1, "e", fold=1),
    ]
)


def join(plan, trials, predictions, **more):
    return aggregate.join(plan, trials, predictions, axes=[], **more)


def of_trial(name, trials, predictions):
    """Values of a trial, from a plan where it is a cell of its own."""
    plan = PLAN[PLAN["trial"] == name].assign(cell=0)
    joined = join(plan, trials, predictions)
    return robustness.cells(joined).loc[0], robustness.scanners(joined).set_index("scanner")


def test_columns_are_the_promised_ones_in_order():
    joined = join(PLAN, *results(list("abcde")))
    assert list(robustness.cells(joined).columns) == [
        "encoder", "arm", "trials", "missing", "failed", "versions", *robustness.SHARED,
        *measure_agreement.METRICS, *measure_scanners.GAPS, *robustness.ARTEFACTS,
    ]  # fmt: skip
    assert list(robustness.scanners(joined).columns) == [
        "encoder", "arm", "scanner", "seen", *measure_scanners.COLUMNS
    ]  # fmt: skip


def test_a_cell_is_the_mean_over_folds_of_the_mean_over_seeds():
    trials, predictions = results(list("abcde"))
    made = join(PLAN, trials, predictions)
    table, on = robustness.cells(made), robustness.scanners(made)
    (a, on_a), (b, on_b), (c, on_c) = (of_trial(x, trials, predictions) for x in "abc")
    for name in (*robustness.SHARED, "icc_agreement", "rmsd", "worst_scanner_auroc"):
        assert table.loc[0, name] == pytest.approx(((a[name] + b[name]) / 2 + c[name]) / 2)
    first = on[on["arm"] == "arm 0"].set_index("scanner")
    for name in ("auroc", "brier", "calibration_intercept"):
        both = ((on_a[name] + on_b[name]) / 2 + on_c[name]) / 2
        np.testing.assert_allclose(first[name], both)
    # Patients of both folds; the two seeds of fold 0 stand for the same ones.
    assert first["patients"].to_list() == (on_a["patients"] + on_c["patients"]).to_list()


def test_a_scanner_that_some_trials_of_a_cell_did_not_train_on_stands_twice():
    table = robustness.scanners(join(PLAN, *results(list("abcde"))))
    rows = table.loc[table["arm"] == "arm 1", ["scanner", "seen"]].to_numpy().tolist()
    assert rows == [["A", True], ["B", True], ["C", False], ["C", True]]


def test_a_cell_with_a_hole_has_no_value_unless_allowed():
    given = results(list("abce"))
    strict, allowed = join(PLAN, *given), join(PLAN, *given, allow_missing=True)
    assert robustness.cells(strict)["rmsd"].isna().to_list() == [False, True]
    assert robustness.cells(allowed)["rmsd"].notna().all()
    on = robustness.scanners(strict).set_index("arm")
    assert on.loc["arm 1", "brier"].isna().all() and on.loc["arm 0", "brier"].notna().all()
    assert robustness.scanners(allowed)["brier"].notna().all()


def test_one_scanner_and_nothing_trained_make_no_tables():
    alone = join(PLAN, *results(list("abcde"), scanners="A"))
    nothing = pd.DataFrame({"trial": pd.Series(dtype="str")})
    for joined in (alone, join(PLAN, nothing, nothing)):
        assert robustness.cells(joined) is None and robustness.scanners(joined) is None


def test_what_trials_say_of_attention_and_gradients_is_averaged():
    given = results(list("abcde"), gradient_energy=[0.1, 0.3, 0.6, 0.5, np.nan])
    table = robustness.cells(join(PLAN, *given))
    assert table["gradient_energy"].to_list() == pytest.approx([0.4, 0.5])
    assert table["attention_spearman"].isna().all()


def test_how_far_scores_move_to_views_needs_no_second_scanner():
    given = results(list("abcde"), scanners="A", view_shift=[0.1, 0.3, 0.6, 0.5, np.nan])
    table = robustness.cells(join(PLAN, *given))
    assert table["view_shift"].to_list() == pytest.approx([0.4, 0.5])
    assert robustness.scanners(join(PLAN, *given)) is None


def test_no_order_of_rows_matters():
    trials, predictions = results(list("abcde"))
    draw = np.random.default_rng(0)
    made = join(PLAN, trials, predictions)
    shuffled = (f.iloc[draw.permutation(len(f))] for f in (PLAN, trials, predictions))
    again = join(*shuffled)
    for table in (robustness.cells, robustness.scanners):
        pd.testing.assert_frame_equal(table(again), table(made), check_exact=True)


def test_columns_of_a_search_stand_in_both_tables_and_retired_trials_leave_no_value():
    plan = PLAN.assign(search=["", "", "", "asha", "asha"])
    trials, predictions = results(list("abcde"))
    trials.loc[trials["trial"] == "e", "state"] = "retired"
    joined = join(plan, trials, predictions[predictions["trial"] != "e"])
    cells, on = robustness.cells(joined), robustness.scanners(joined)
    assert cells["retired"].to_list() == [0, 1] and cells["rmsd"].isna().to_list() == [False, True]
    assert set(on["search"]) == {"", "asha"} and "retired" not in on
    assert on.loc[on["search"] == "asha", "brier"].isna().all()
