from dataclasses import replace

import numpy as np
import pandas as pd
import pytest

from orchestrator import aggregate, differences, evidence, evidence_draws, spec_analysis
from orchestrator.errors import StoreError, SweepError
from orchestrator.evidence import Request
from orchestrator.spec_analysis import Analysis
from orchestrator.spec_select import Select
from tests.orchestrator.made_results import plan, results

FEW = Request(draws=200)
WEIGHTS = {"score": [{"w": 0.1}, {"w": 1}]}


@pytest.fixture(scope="module")
def made():
    return results(plan(encoders=("uni", "virchow2")), good={"score": 3.0})


def row(table, **wanted):
    for key, value in wanted.items():
        table = table[table[key] == value]
    assert len(table) == 1
    return table.iloc[0]


def test_estimates_are_those_of_the_main_table_and_lie_in_their_intervals(made):
    found = evidence.of(made, FEW)
    main = aggregate.table(made.plan, made.trials, made.predictions, axes=[])
    for metric in ("auroc", "balanced_accuracy", "inconsistency", "worst_scanner_auroc"):
        own = found.cells[found.cells["metric"] == metric]
        np.testing.assert_array_equal(own["estimate"], main[metric])
        assert (own["low"] <= own["estimate"]).all() and (own["estimate"] <= own["high"]).all()
    assert set(found.cells["patients"]) == {48} and set(found.cells["folds"]) == {2}
    auroc = found.cells[found.cells["metric"] == "auroc"]
    assert (auroc[["seed_sd", "fold_sd", "sampling_sd"]] > 0).all(axis=None)
    assert found.cells["draw_sd"].isna().all()
    assert found.lower_is_better == {"inconsistency", "flip_rate"}


def test_a_better_arm_is_found_and_p_is_adjusted_by_metric(made):
    found = evidence.of(made, replace(FEW, metrics=("auroc", "accuracy"), draws=1000)).differences
    better = row(found, encoder="uni", metric="auroc")
    assert better["against"] == "erm" and better["low"] > 0 and better["p"] < 0.01
    assert better["p_adjusted"] >= better["p"] and better["effect_size"] > 0
    assert set(found["family"]) == {"exploratory: auroc", "exploratory: accuracy"}
    assert not found["primary"].any() and set(found["adjustment"]) == {"bh"}


def test_a_difference_is_that_of_the_two_estimates_and_its_interval_is_narrower(made):
    found = evidence.of(made, FEW)
    cells = found.cells[found.cells["metric"] == "auroc"]
    erm, score = (row(cells, encoder="uni", arm=arm) for arm in ("erm", "score"))
    told = row(found.differences, encoder="uni", metric="auroc")
    assert told["estimate"] == pytest.approx(score["estimate"] - erm["estimate"], abs=1e-6)
    apart = np.hypot(score["sampling_sd"], erm["sampling_sd"])
    assert (told["high"] - told["low"]) / 3.9 < apart


def test_rows_are_what_by_tells_apart(made):
    found = evidence.of(made, replace(FEW, by=("arm",), metrics=("auroc",)))
    each = evidence.of(made, replace(FEW, metrics=("auroc",)))
    assert list(found.cells["arm"]) == ["erm", "score"]
    assert list(found.cells.columns[:3]) == ["cell", "arm", "metric"]
    mean = each.cells.groupby("arm")["estimate"].mean()
    np.testing.assert_allclose(found.cells["estimate"], mean)
    assert list(found.cells["trials"]) == [8, 8] and list(found.cells["cell"]) == [0, 1]
    assert set(found.trials.loc[found.trials["cell"] == 0, "arm"]) == {"erm"}


def test_where_keeps_cells_and_numbers_are_equal_however_written():
    made = results(plan(axes=WEIGHTS))
    found = evidence.of(made, replace(FEW, where={"w": "1.0"}, against=""))
    assert set(found.cells["w"]) == {"1"} and found.differences.empty
    with pytest.raises(SweepError, match="no cell has w=7"):
        evidence.of(made, replace(FEW, where={"w": "7"}))
    with pytest.raises(SweepError, match="'v' is no column of the plan"):
        evidence.of(made, replace(FEW, where={"v": "7"}))


@pytest.mark.parametrize(
    ("asked", "message"),
    [
        ({"metrics": ("aurco",)}, "'aurco' is no metric of this sweep; did you mean 'auroc'"),
        ({"by": ("arms",)}, "'arms' is no column to tell rows apart by; did you mean 'arm'"),
        ({"against": "emr"}, "'emr' is no arm of this sweep; did you mean 'erm'"),
    ],
)
def test_a_wrong_name_is_refused_with_a_near_one(made, asked, message):
    with pytest.raises(SweepError, match=message):
        evidence.of(made, replace(FEW, **asked))


def spoilt(made, column, value, *, trial="uni-score-1-0-0"):
    trials = made.trials.copy()
    trials.loc[trials["trial"] == trial, column] = value
    return replace(made, trials=trials)


@pytest.mark.parametrize(
    ("column", "value", "mark"),
    [
        ("commit", "d", "2 commits"),
        ("device", "NVIDIA H100", "2 kinds of device"),
        ("versions", '{"torch": "3"}', "2 sets of packages"),
        ("state", "failed", "1 failed"),
    ],
)
def test_mixed_cells_have_no_value_unless_allowed(made, column, value, mark):
    bad = spoilt(made, column, value)
    found = evidence.of(bad, FEW)
    own = row(found.cells, encoder="uni", arm="score", metric="auroc")
    assert own["marks"] == mark and np.isnan(own["estimate"]) and np.isnan(own["low"])
    assert list(found.differences["encoder"].unique()) == ["virchow2"]
    main = aggregate.table(bad.plan, bad.trials, bad.predictions, axes=[])
    assert main["auroc"].isna().to_list() == [False, True, False, False]
    allowed = evidence.of(bad, replace(FEW, allow_missing=True))
    own = row(allowed.cells, encoder="uni", arm="score", metric="auroc")
    assert own["marks"] == mark and own["low"] < own["estimate"] < own["high"]
    told = row(allowed.differences, encoder="uni", metric="auroc")["marks"]
    assert told.startswith(f"score: {mark}")


def test_a_row_of_several_cells_has_no_value_where_one_of_them_has_none(made):
    bad = spoilt(made, "state", "failed")
    found = evidence.of(bad, replace(FEW, by=("arm",), metrics=("auroc",)))
    own = row(found.cells, arm="score")
    assert own["marks"] == "1 of 2 cells: 1 failed" and own["method"] == ""
    values = ["estimate", "low", "high", "sampling_sd", "seed_sd", "fold_sd"]
    assert np.isnan(own[values].astype(float)).all()
    assert found.differences.empty
    allowed = evidence.of(bad, replace(FEW, by=("arm",), metrics=("auroc",), allow_missing=True))
    own = row(allowed.cells, arm="score")
    assert own["low"] < own["estimate"] < own["high"] and len(allowed.differences) == 1


def test_a_comparison_counts_the_patients_of_the_folds_that_both_have(made):
    trials = made.trials[~made.trials["trial"].str.contains("uni-score-1-1-")]
    request = replace(FEW, metrics=("auroc",), allow_missing=True)
    found = evidence.of(replace(made, trials=trials), request)
    assert row(found.differences, encoder="uni")["patients"] == 24
    assert row(found.differences, encoder="virchow2")["patients"] == 48


def test_a_comparison_of_two_cells_of_different_code_or_devices_is_marked(made):
    trials = made.trials.copy()
    newer = trials["trial"].str.startswith("uni-score")
    trials.loc[newer, ["commit", "device"]] = ["d", "NVIDIA H100"]
    found = evidence.of(replace(made, trials=trials), replace(FEW, metrics=("auroc",)))
    assert (found.cells["marks"] == "").all()
    marks = found.differences.set_index("encoder")["marks"]
    assert marks.to_dict() == {"uni": "different commits; different devices", "virchow2": ""}


def test_arms_are_compared_on_the_folds_and_seeds_that_both_have(made):
    bad = spoilt(made, "state", "failed")
    found = evidence.of(bad, replace(FEW, allow_missing=True, metrics=("auroc",)))
    told = row(found.differences, encoder="uni")
    assert "3 folds and seeds in common" in told["marks"]
    keep = ~made.plan["trial"].isin(["uni-score-1-0-0", "uni-erm-0-0-0"])
    alone = evidence.of(replace(made, plan=made.plan[keep]), replace(FEW, metrics=("auroc",)))
    assert told["estimate"] == pytest.approx(row(alone.differences, encoder="uni")["estimate"])


def test_the_primary_analysis_comes_first_by_holm_with_its_margin(made):
    analysis = Analysis(
        arm="score", against="erm", metric="auroc", margin=0.02, margin_metric="balanced_accuracy"
    )
    found = evidence.of(replace(made, analysis=analysis), replace(FEW, metrics=("flip_rate",)))
    first = found.differences[found.differences["primary"]]
    assert list(first["metric"]) == ["auroc"] * 2 + ["balanced_accuracy"] * 2
    assert list(first.index) == [0, 1, 2, 3]
    assert set(first["adjustment"]) == {"holm"} and set(first["encoder"]) == {"uni", "virchow2"}
    low, high = sorted(first.loc[first["metric"] == "auroc", "p"])
    adjusted = sorted(first.loc[first["metric"] == "auroc", "p_adjusted"])
    assert adjusted == pytest.approx([2 * low, max(2 * low, high)])
    assert list(first["noninferior"][2:]) == [True, True]
    assert list(first["noninferior"][:2]) == [None, None]
    assert "score against erm in auroc, not inferior where" in found.notes.primary
    one = analysis.model_copy(update={"family": ["uni"]})
    found = evidence.of(replace(made, analysis=one), FEW)
    assert found.differences["primary"].sum() == 2


def test_an_encoder_of_the_family_without_a_result_is_named_and_counts_in_holms_method(made):
    analysis = Analysis(arm="score", against="erm", metric="auroc")
    bad = replace(spoilt(made, "state", "failed"), analysis=analysis)
    found = evidence.of(bad, replace(FEW, metrics=("auroc",)))
    first = row(found.differences, primary=True)
    assert first["encoder"] == "virchow2" and first["p_adjusted"] == pytest.approx(2 * first["p"])
    assert "lacks a result on uni" in found.notes.untested
    assert found.notes.untested in found.notes.lines()
    whole = evidence.of(replace(made, analysis=analysis), replace(FEW, metrics=("auroc",)))
    assert whole.notes.untested == ""


def test_a_family_may_have_several_rows_of_an_encoder_and_tests_that_have_no_p():
    rows = pd.DataFrame({"encoder": ["a", "a", "b"], "metric": "auroc", "p": [0.01, 0.04, np.nan]})
    found = differences.declare(rows, metric="auroc", margin=None, margin_metric="auroc", family=3)[
        "p_adjusted"
    ].to_numpy()
    np.testing.assert_allclose(found, [0.04, 0.12, np.nan])


def test_without_draws_a_declared_analysis_is_still_named_as_not_tested(made):
    analysis = Analysis(arm="score", against="erm", metric="auroc")
    found = evidence.of(replace(made, analysis=analysis), replace(FEW, draws=0))
    assert found.notes.primary.startswith("primary analysis, declared in the spec")
    assert "not tested: no intervals" in found.notes.untested
    assert not found.differences["primary"].any()


def test_what_is_better_when_lower_is_known_of_the_primary_metric_too(made):
    analysis = Analysis(arm="score", against="erm", metric="auroc_gap")
    found = evidence.of(replace(made, analysis=analysis), replace(FEW, metrics=("auroc",)))
    assert found.lower_is_better == {"auroc_gap"}


def test_rows_that_do_not_tell_arms_apart_are_compared_with_none_and_it_is_said(made):
    found = evidence.of(made, replace(FEW, by=("encoder",), against="erm", metrics=("auroc",)))
    assert found.differences.empty
    assert "nothing is compared with erm: rows do not tell arms apart" in found.notes.remarks


def test_a_primary_arm_of_several_settings_is_chosen_inside_the_folds():
    made = results(plan(axes=WEIGHTS), good={"score": 3.0})
    validation = made.predictions.assign(
        part="validation", held_out=False,
        patient="v" + made.predictions["patient"], slide="v" + made.predictions["slide"],
        view="v" + made.predictions["view"],
    )  # fmt: skip
    rows = pd.concat([made.predictions, validation], ignore_index=True)
    analysis = Analysis(arm="score", against="erm", metric="auroc")
    ready = replace(made, predictions=rows, analysis=analysis, select=Select(rule="accuracy"))
    found = evidence.of(ready, replace(FEW, metrics=("auroc",)))
    assert found.differences["primary"].sum() == 1
    assert set(found.cells["w"]) == {"", "0.1", "1"}
    assert set(found.differences["w"]) == {"", "0.1", "1"}
    assert "best of many" in found.notes.selection

    # Validation patients are copies of the held-out ones: what was chosen is not too good.
    chosen = evidence.of(ready, replace(FEW, metrics=("auroc",), select=ready.select))
    assert list(chosen.cells["arm"]) == ["erm", "score"]
    np.testing.assert_allclose(chosen.cells["optimism"], 0, atol=1e-12)
    assert "nested" in chosen.notes.selection
    one = analysis.model_copy(update={"where": {"w": 1}})
    named = evidence.of(replace(ready, analysis=one), FEW).differences
    assert named[named["primary"]]["w"].to_list() == ["1"]


def test_optimism_is_positive_where_the_choice_flatters():
    made = results(plan(axes=WEIGHTS), good={"score": 0.5})
    flattered = results(made.plan, good={"score": 6.0}).predictions
    validation = flattered.assign(
        part="validation", held_out=False, patient="v" + flattered["patient"],
        slide="v" + flattered["slide"], view="v" + flattered["view"],
    )  # fmt: skip
    rows = pd.concat([made.predictions, validation], ignore_index=True)
    found = evidence.of(
        replace(made, predictions=rows),
        replace(FEW, metrics=("auroc", "flip_rate"), select=Select(rule="accuracy")),
    )
    assert row(found.cells, arm="score", metric="auroc")["optimism"] > 0.05
    assert np.isnan(row(found.cells, arm="score", metric="flip_rate")["optimism"])


def test_draw_seeds_that_rows_do_not_tell_apart_have_an_sd_of_their_own():
    axes = {"erm": [{"draw_seed": 0}, {"draw_seed": 1}]}
    made = results(plan(("erm",), axes=axes))
    each = evidence.of(made, replace(FEW, metrics=("auroc",)))
    merged = evidence.of(made, replace(FEW, metrics=("auroc",), by=("arm",)))
    assert each.cells["draw_sd"].isna().all()
    expected = each.cells["estimate"].std(ddof=1)
    assert merged.cells["draw_sd"].iloc[0] == pytest.approx(expected)


def test_one_trial_has_an_interval_and_no_spread_over_seeds_and_folds():
    made = results(plan(("erm",), folds=1))
    one = replace(made, plan=made.plan.head(1))
    found = evidence.of(one, replace(FEW, metrics=("auroc",)))
    own = found.cells.iloc[0]
    assert own["low"] <= own["estimate"] <= own["high"]
    assert np.isnan([own["seed_sd"], own["fold_sd"]]).all()
    assert found.differences.empty


def test_a_fold_of_one_class_is_left_out_of_auroc(made):
    rows = made.predictions.copy()
    rows.loc[rows["patient"].str.startswith("p0"), "label"] = 1
    found = evidence.of(replace(made, predictions=rows), FEW)
    own = row(found.cells, encoder="uni", arm="erm", metric="auroc")
    assert own["folds"] == 1 and own["low"] < own["estimate"] < own["high"]


def test_a_scanner_with_three_slides_counts_where_it_is_defined(made):
    rows = made.predictions
    few = rows["scanner"].eq("B") & ~rows["patient"].str.endswith(("000", "001", "002"))
    found = evidence.of(replace(made, predictions=rows[~few]), FEW)
    main = aggregate.table(made.plan, made.trials, rows[~few], axes=[])
    own = found.cells[found.cells["metric"] == "auroc"]
    np.testing.assert_array_equal(own["estimate"], main["auroc"])
    assert own["low"].notna().all()


def test_predictions_that_are_no_numbers_are_refused(made):
    rows = made.predictions.copy()
    rows.loc[3, "score"] = np.nan
    with pytest.raises(StoreError, match="has a score that is not finite"):
        evidence.of(replace(made, predictions=rows), FEW)


def test_without_results_everything_is_missing():
    made = results(plan())
    nothing = pd.DataFrame({"trial": pd.Series(dtype="str")})
    found = evidence.of(replace(made, trials=nothing, predictions=nothing), FEW)
    assert set(found.cells["marks"]) == {"4 missing"} and found.cells["estimate"].isna().all()


def test_equal_results_in_another_order_give_equal_evidence(made):
    shuffled = replace(made, predictions=made.predictions.sample(frac=1, random_state=1))
    first, second = (evidence.of(each, FEW) for each in (made, shuffled))
    pd.testing.assert_frame_equal(first.cells, second.cells)
    pd.testing.assert_frame_equal(first.differences, second.differences)


def test_bca_of_very_many_patients_is_refused(made, monkeypatch):
    monkeypatch.setattr(evidence_draws, "_BCA_MAX", 47)
    with pytest.raises(SweepError, match="bca of 48 patients: expected 47 at most"):
        evidence.of(made, replace(FEW, method="bca"))


def test_without_draws_there_are_estimates_and_no_intervals(made):
    found = evidence.of(made, replace(FEW, draws=0))
    assert found.cells["estimate"].notna().all() and found.cells["low"].isna().all()
    assert found.differences["p"].isna().all()
    assert found.notes.interval == ""


def test_what_has_no_draws_says_so(made):
    found = evidence.of(made, replace(FEW, metrics=("auprc", "auroc")))
    assert "no interval is made of auprc" in found.notes.remarks
    assert found.cells.loc[found.cells["metric"] == "auprc", "patients"].eq(48).all()


def test_licences_that_are_not_free_stand_under_the_table(made):
    tied = replace(made, licences={"uni": ("CC-BY-NC-ND 4.0",), "virchow2": ("Apache-2.0",)})
    remarks = evidence.of(tied, replace(FEW, draws=0)).notes.remarks
    assert [text for text in remarks if "CC-BY-NC-ND" in text]
    assert not [text for text in remarks if "Apache" in text]


def test_the_metrics_of_a_declared_analysis_are_those_with_intervals():
    declared = {*spec_analysis.OF_CLASSES, *spec_analysis.OF_SURVIVAL}
    assert declared == set(evidence_draws.METRICS)


def test_survival_arms_are_compared_in_concordance():
    task = {"task": {"kind": "survival"}}
    made = results(plan(config=task), good={"score": 4.0})
    number = made.predictions["patient"].str[-3:].astype(int)
    # Whoever is of class 1 has the event early.
    rows = made.predictions.assign(
        time=np.where(number % 2, 1.0 + number, 50.0 + number), event=(number % 3 > 0) * 1.0,
        uno_weight=1.0, label=0,
    )  # fmt: skip
    found = evidence.of(replace(made, predictions=rows), FEW)
    main = aggregate.table(made.plan, made.trials, rows, axes=[])
    own = found.cells[found.cells["metric"] == "concordance"]
    np.testing.assert_array_equal(own["estimate"], main["concordance"])
    assert (own["low"] < own["estimate"]).all() and (own["patients"] == 48).all()
    told = row(found.differences, metric="concordance")
    assert told["low"] > 0 and told["p"] < 0.05
    assert "inconsistency" in set(found.cells["metric"]) and "auroc" not in set(
        found.cells["metric"]
    )


def test_several_classes_have_intervals():
    made = results(plan(), good={"score": 4.0})
    rows = made.predictions.copy()
    rows["label"] = rows["patient"].str[-3:].astype(int) % 3
    random = np.random.default_rng(0)
    rows["score"] = [
        list(random.normal(size=3) + np.eye(3)[label] * (3 if "score" in trial else 1))
        for label, trial in zip(rows["label"], rows["trial"], strict=True)
    ]
    found = evidence.of(replace(made, predictions=rows), FEW)
    main = aggregate.table(made.plan, made.trials, rows, axes=[])
    for metric in ("auroc", "balanced_accuracy", "inconsistency"):
        own = found.cells[found.cells["metric"] == metric]
        np.testing.assert_array_equal(own["estimate"], main[metric])
        assert (own["low"] < own["high"]).all()
    assert row(found.differences, metric="auroc")["low"] > 0


def test_an_external_cohort_has_draws_of_its_own_patients():
    made = results(plan(config={"external_cohorts": ["x"]}), good={"score": 4.0})
    rows = made.predictions
    away = results(made.plan, good={"score": 4.0}, patients=10, seed=5).predictions
    away = away[away["patient"].str.startswith("p0")].assign(part="external", held_out=False)
    away["patient"] = "x" + away["patient"]
    every = []
    for trial in made.plan["trial"].unique():
        source = trial[:-3] + "0" + trial[-2:]
        every.append(away[away["trial"] == source].assign(trial=trial))
    both = pd.concat([rows, *every], ignore_index=True)
    found = evidence.of(replace(made, predictions=both), FEW)
    own = row(found.cells, arm="score", metric="external_auroc")
    assert own["patients"] == 10 and own["low"] <= own["estimate"] <= own["high"]
    main = aggregate.table(made.plan, made.trials, both, axes=[])
    assert own["estimate"] == main.loc[1, "external_auroc"]


@pytest.mark.slow
def test_a_hundred_thousand_trials_have_estimates():
    number = np.arange(100_000)
    planned = pd.DataFrame(
        {"cell": number // 25, "fold": number % 25 // 5, "seed": number % 5}
    ).assign(
        trial=[f"t{n:06d}" for n in number], encoder="uni", config="{}", fingerprint="f",
        arm=[f"arm {n // 25}" for n in number],
    )  # fmt: skip
    assert len(planned) == 100_000
    trials = pd.DataFrame({"trial": planned["trial"], "state": "done", "threshold": 0.0,
                           "commit": "c", "versions": "{}", "device": "cpu"})  # fmt: skip
    rows = pd.DataFrame(
        {"trial": np.repeat(planned["trial"], 4), "patient": np.tile(list("abcd"), 100_000),
         "scanner": "A", "held_out": True, "label": np.tile([0, 1, 0, 1], 100_000),
         "score": np.tile([0.0, 1.0, 2.0, 3.0], 100_000), "part": "test"}
    )  # fmt: skip
    rows = rows.assign(slide=rows["patient"], view=rows["patient"])
    made = evidence.Results(plan=planned, trials=trials, predictions=rows, licences={})
    found = evidence.of(made, Request(draws=0, metrics=("auroc",), against=""))
    assert len(found.cells) == 4_000 and set(found.cells["estimate"]) == {0.75}
