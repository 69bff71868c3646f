import json
import math

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from orchestrator import aggregate, selection, store
from orchestrator.errors import StoreError
from orchestrator.spec_select import Select
from tests.orchestrator import finished
from tests.training import small
from training.metrics import accuracy, robustness

NAN = float("nan")
ACCURACY, ROBUST = Select(rule="accuracy"), Select(rule="robustness")
WITHIN = Select(rule="robust_within_margin", margin=0.1)
RULES = [ACCURACY, ROBUST, WITHIN]


def made(cells, *, folds=1, seeds=1, arm="score", **columns):
    """Make a plan of cells in one arm; a cell is a weight or a dict of axes."""
    rows = []
    for cell, setting in enumerate(cells):
        axes = setting if isinstance(setting, dict) else {"losses.s.weight": setting}
        for fold in range(folds):
            for seed in range(seeds):
                rows.append(
                    {"cell": cell, "trial": f"c{cell}f{fold}s{seed}", "encoder": "uni",
                     "arm": arm, **{k: json.dumps(v) for k, v in axes.items()}, "fold": fold,
                     "seed": seed, "config": "{}", **columns}
                )  # fmt: skip
    return pd.DataFrame(rows)


def predicted(trial, scores, *, part="validation", prefix="v"):
    """Make rows of one trial: for each slide its scores on the scanners A, B, …; labels alternate.

    None where a slide has no scan on a scanner.
    """
    return [
        {"trial": trial, "patient": f"{prefix}{slide}", "slide": f"{prefix}s{slide}",
         "view": f"{prefix}{slide}{scanner}", "scanner": scanner, "part": part,
         "held_out": part == "test", "label": slide % 2, "score": score}
        for slide, on in enumerate(scores)
        for scanner, score in zip("ABCD", on, strict=False)
        if score is not None
    ]  # fmt: skip


def scores(value, spread):
    """Four slides on two scanners: AUROC `value` in quarters on each, and so much disagreement."""
    base = {1.0: [0, 2, 1, 3], 0.75: [0, 1, 2, 3], 0.5: [1, 0, 2, 3], 0.25: [1, 0, 3, 2]}[value]
    return [(10 * score, 10 * score + spread) for score in base]


def finished_trials(plan, *, states=()):
    states = dict(states)
    ids = [trial for trial in plan["trial"].unique() if states.get(trial) != "missing"]
    return pd.DataFrame(
        {"trial": ids, "state": [states.get(trial, "done") for trial in ids], "threshold": 0.0,
         "commit": "c", "versions": "{}"}
    )  # fmt: skip


def results(plan, values, *, states=()):
    """Make results in which each trial has (AUROC, disagreement) as given by cell and fold."""
    trials = finished_trials(plan, states=states)
    rows = []
    for _, row in plan.drop_duplicates("trial").iterrows():
        if dict(states).get(row["trial"], "done") == "done":
            rows += predicted(row["trial"], scores(*values[row["cell"], row["fold"]]))
            rows += predicted(row["trial"], scores(0.5, 9), part="test", prefix="t")
    return trials, pd.DataFrame(rows)


def chosen(plan, values, rule, *, axes=("losses.s.weight",), states=(), **more):
    found = selection.choose(
        plan, *results(plan, values, states=states), axes=axes, rule=rule, **more
    )
    return [choice.chosen.cell if choice.chosen else None for choice in found]


VALUES = {(0, 0): (0.75, 1), (1, 0): (1.0, 5), (2, 0): (1.0, 4), (3, 0): (0.5, 0.1)}


@pytest.mark.parametrize(
    ("rule", "expected"),
    [
        (ACCURACY, 1),
        (ROBUST, 3),
        (WITHIN, 2),
        (Select(rule="robust_within_margin", margin=0.25), 0),
        (Select(rule="robust_within_margin", margin=0.249), 2),
        (Select(rule="robust_within_margin", margin=1), 3),
    ],
)
def test_a_rule_chooses_by_hand(rule, expected):
    assert chosen(made([0, 0.1, 1, 10]), VALUES, rule) == [expected]


def test_values_are_those_of_the_metrics_themselves():
    plan = made([0, 1])
    (choice,) = selection.choose(
        plan, *results(plan, VALUES), axes=["losses.s.weight"], rule=ACCURACY
    )
    table = np.array(scores(0.75, 1), float)
    labels = np.array([0, 1, 0, 1])
    each = [accuracy.auroc(labels, table[:, scanner]) for scanner in (0, 1)]
    assert choice.settings[0].value == pytest.approx(np.mean(each))
    assert choice.settings[0].inconsistency == pytest.approx(robustness.inconsistency(table))
    assert (choice.metric, choice.settings[0].paired, choice.settings[0].seeds) == ("auroc", 4, 1)


def test_of_equally_good_settings_the_first_of_the_spec_is_chosen():
    values = {(cell, 0): (0.75, 2) for cell in range(3)}
    for rule in RULES:
        assert chosen(made([10, 1, 0]), values, rule) == [0]


def test_each_fold_chooses_for_itself():
    plan = made([0.1, 1], folds=3)
    values = {(0, 0): (1.0, 1), (1, 0): (0.5, 1), (0, 1): (0.5, 1), (1, 1): (0.75, 1),
              (0, 2): (0.75, 3), (1, 2): (0.75, 2)}  # fmt: skip
    assert chosen(plan, values, ACCURACY) == [0, 1, 0]
    assert chosen(plan, values, ROBUST) == [0, 0, 1]


def test_the_mean_over_seeds_decides():
    plan = made([0, 1], seeds=2)
    trials = finished_trials(plan)
    rows = []
    for trial, value in {"c0f0s0": 1.0, "c0f0s1": 0.25, "c1f0s0": 0.75, "c1f0s1": 0.75}.items():
        rows += predicted(trial, scores(value, 1))
    found = selection.choose(
        plan, trials, pd.DataFrame(rows), axes=["losses.s.weight"], rule=ACCURACY
    )
    assert found[0].chosen.cell == 1
    assert [each.value for each in found[0].settings] == [0.625, 0.75]


def test_arms_and_questions_are_not_chosen_among():
    axes = ["losses.s.weight", "task.label"]
    plan = made([{"losses.s.weight": w, "task.label": q} for w in (0, 1) for q in ("a", "b")])
    other = made([5], arm="erm").assign(cell=4, trial="erm", **{"task.label": json.dumps("a")})
    values = {(0, 0): (0.5, 1), (1, 0): (1.0, 1), (2, 0): (0.75, 1), (3, 0): (0.75, 1),
              (4, 0): (0.5, 1)}  # fmt: skip
    plan = pd.concat([plan, other], ignore_index=True)
    assert chosen(plan, values, ACCURACY, axes=axes) == [2, 1, 4]
    assert selection.rows(plan, axes).tolist() == [0, 1, 0, 1, 2]


def test_one_setting_needs_no_validation():
    plan = made([1])
    trials = finished_trials(plan)
    tested = pd.DataFrame(predicted("c0f0s0", scores(1.0, 1), part="test"))
    for rule in RULES:
        (choice,) = selection.choose(plan, trials, tested, axes=[], rule=rule)
        assert choice.chosen.cell == 0 and math.isnan(choice.chosen.value)


def test_without_validation_patients_nothing_can_be_chosen():
    plan = made([0, 1])
    rows = [row for t in plan["trial"] for row in predicted(t, scores(1.0, 1), part="test")]
    with pytest.raises(StoreError, match="arm score, fold 0: no predictions of validation pat"):
        selection.choose(
            plan, finished_trials(plan), pd.DataFrame(rows), axes=["losses.s.weight"], rule=ACCURACY
        )


def single_scans(plan):
    """Results in which slides have one scanner each, but one."""
    rows = []
    for trial in plan["trial"]:
        on = [(float(s), None) if s % 2 else (None, float(s)) for s in range(4)]
        rows += predicted(trial, [*on, *((float(s), None) for s in (4, 5)), (6.0, 6.5)])
    return finished_trials(plan), pd.DataFrame(rows)


@pytest.mark.parametrize("rule", [ROBUST, WITHIN])
def test_robustness_without_paired_slides_is_refused_with_the_cells(rule):
    plan = made([0, 1], folds=7)
    with pytest.raises(StoreError) as caught:
        selection.choose(plan, *single_scans(plan), axes=["losses.s.weight"], rule=rule)
    lines = caught.value.message.splitlines()
    assert lines[0] == (
        f"selection by {rule}: encoder uni, arm score, fold 0: needs two validation slides with "
        "scans on several seen scanners, found 1"
    )
    assert len(lines) == 6 and lines[-1].endswith("and 2 more like this")


def test_an_undefined_accuracy_is_refused_but_robustness_goes_without():
    plan = made([0, 1])
    trials, rows = results(plan, VALUES)
    rows["label"] = 0
    for rule in (ACCURACY, WITHIN):
        with pytest.raises(StoreError, match="auroc of the validation patients is not defined"):
            selection.choose(plan, trials, rows, axes=["losses.s.weight"], rule=rule)
    (found,) = selection.choose(plan, trials, rows, axes=["losses.s.weight"], rule=ROBUST)
    assert found.chosen.cell == 0


def test_scores_without_spread_are_the_least_robust():
    plan = made([0, 1])
    rows = predicted("c0f0s0", [(1.0, 1.0)] * 4) + predicted("c1f0s0", scores(0.25, 9))
    frames = finished_trials(plan), pd.DataFrame(rows)
    (found,) = selection.choose(plan, *frames, axes=["losses.s.weight"], rule=ROBUST)
    assert found.chosen.cell == 1 and math.isnan(found.settings[0].inconsistency)


@pytest.mark.parametrize("state", ["missing", "failed"])
def test_a_hole_leaves_a_row_without_a_choice_unless_allowed(state):
    plan = made([0, 1], folds=2, seeds=2)
    values = {(cell, fold): (0.5 + cell / 4, 1) for cell in (0, 1) for fold in (0, 1)}
    states = {"c1f0s0": state}
    assert chosen(plan, values, ACCURACY, states=states) == [None, 1]
    assert chosen(plan, values, ACCURACY, states=states, allow_missing=True) == [1, 1]
    states["c1f0s1"] = state
    assert chosen(plan, values, ACCURACY, states=states, allow_missing=True) == [0, 1]
    everything = dict.fromkeys(plan.loc[plan["fold"] == 0, "trial"], state)
    found = chosen(plan, values, ACCURACY, states=everything, allow_missing=True)
    assert found == [None, 1]


def test_a_setting_that_a_search_retired_is_not_chosen_and_no_hole():
    plan = made([0, 1], seeds=2)
    values = {(0, 0): (0.5, 1), (1, 0): (1.0, 1)}
    assert chosen(plan, values, ACCURACY, states={"c1f0s1": "retired"}) == [0]


def test_a_trial_with_two_results_is_refused():
    plan = made([0, 1])
    trials, rows = results(plan, VALUES)
    with pytest.raises(StoreError, match="c0f0s0 has more than one result"):
        selection.choose(plan, pd.concat([trials, trials]), rows, axes=[], rule=ACCURACY)


LEAKS = {
    "a patient in both parts": lambda rows: rows.assign(
        patient=rows["patient"].where(rows["part"] != "test", "v1")
    ),
    "a held-out row": lambda rows: rows.assign(held_out=True),
    "an external patient": lambda rows: pd.concat(
        [rows, rows[rows["part"] == "validation"].assign(part="external", view="x")]
    ),
}


@pytest.mark.parametrize("leak", LEAKS)
@pytest.mark.parametrize("rule", RULES)
def test_a_leak_is_refused(leak, rule):
    plan = made([0, 1])
    trials, rows = results(plan, VALUES)
    with pytest.raises(StoreError, match="is a validation patient and held out"):
        selection.choose(plan, trials, LEAKS[leak](rows), axes=["losses.s.weight"], rule=rule)


def test_a_validation_score_on_an_unseen_scanner_is_refused():
    plan = made([0, 1], config=json.dumps({"unseen_scanners": ["B"]}))
    with pytest.raises(StoreError, match="score on unseen scanner 'B'"):
        chosen(plan, VALUES, ACCURACY)


def test_settings_of_a_survival_task_are_chosen_by_concordance():
    plan = made([0, 1], config=json.dumps({"task": {"kind": "survival"}}))
    trials, rows = results(plan, {(0, 0): (0.5, 1), (1, 0): (1.0, 2)})
    # Patients with label 1 die first: a higher score is right where the AUROC is high.
    rows = rows.assign(time=2.0 - rows["label"], event=rows["label"], uno_weight=1.0)
    found = selection.choose(plan, trials, rows, axes=["losses.s.weight"], rule=ACCURACY)
    assert [(choice.chosen.cell, choice.metric) for choice in found] == [(1, "concordance")]


def test_a_validation_score_on_the_scanner_that_the_fold_leaves_out_is_refused():
    folds = {"kind": "leave_one_out", "column": "scanner", "values": ["B"], "num_folds": 2}
    config = small.trial(folds=folds, fold=0, unseen_scanners=())
    plan = made([0, 1], config=config.model_dump_json())
    with pytest.raises(StoreError, match="score on unseen scanner 'B'"):
        chosen(plan, VALUES, ACCURACY)


FLOATS = st.one_of(st.integers(0, 5).map(lambda n: n / 5), st.floats(0, 1))


@given(
    st.lists(st.tuples(FLOATS, st.one_of(st.just(NAN), FLOATS)), min_size=1, max_size=9),
    st.sampled_from([0.0, 0.2, 0.5, 1.0]),
)
def test_picking_equals_a_search(pairs, margin):
    value, spread = np.array(pairs).T
    worst = np.nan_to_num(spread, nan=np.inf)
    places = range(len(pairs))
    assert selection.pick(value, spread, ACCURACY) == max(places, key=lambda n: (value[n], -n))
    assert selection.pick(value, spread, ROBUST) == min(places, key=lambda n: (worst[n], n))
    within = [n for n in places if value.max() - value[n] <= margin + 1e-12]
    rule = Select(rule="robust_within_margin", margin=margin)
    assert selection.pick(value, spread, rule) == min(within, key=lambda n: (worst[n], n))


@settings(deadline=None, max_examples=10)
@given(st.integers(0, 2**32 - 1))
def test_no_score_outside_validation_and_no_order_of_rows_changes_a_choice(seed):
    draw = np.random.default_rng(seed)
    plan = made(list(range(draw.integers(2, 4))), folds=2, seeds=2)
    trials, rows = finished_trials(plan), []
    for trial in plan["trial"]:
        rows += predicted(trial, draw.normal(size=(4, 3)).tolist())
        rows += predicted(trial, draw.normal(size=(4, 3)).tolist(), part="test", prefix="t")
        rows += predicted(trial, draw.normal(size=(2, 3)).tolist(), part="external", prefix="e")
    rows = pd.DataFrame(rows)
    away = rows["part"] != "validation"
    changed = rows.copy()
    changed.loc[away, "score"] = draw.normal(size=away.sum()) * 100
    changed.loc[away, "label"] = draw.integers(0, 2, away.sum())
    for rule in RULES:
        plain = selection.choose(plan, trials, rows, axes=["losses.s.weight"], rule=rule)
        again = selection.choose(
            plan,
            trials.sample(frac=1, random_state=int(seed)),
            changed.sample(frac=1, random_state=int(seed)),
            axes=["losses.s.weight"],
            rule=rule,
        )
        assert plain == again
        only = selection.choose(plan, trials, rows[~away], axes=["losses.s.weight"], rule=rule)
        assert only == plain


SPEC = finished.SPEC.replace(
    "folds: {kind: cohort, train: [dev], test: [test], num_folds: 2}",
    "folds: {kind: stratified, num_folds: 2}\nstopping: {validation_share: 0.4}",
)


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    """The plan, trials and predictions of a sweep that was really trained, by kind of folds."""
    found = {}
    for name, text in {"cohort": finished.SPEC, "stratified": SPEC}.items():
        home = tmp_path_factory.mktemp(name)
        text = text.replace("min_tiles: 8", "min_tiles: 8\n    paired_share: 0.9")
        folder = finished.train(finished.planned(finished.write_spec(home, text=text), home / "r"))
        tables = store.read_results(folder)
        found[name] = store.read_plan(folder), tables["trials"], tables["predictions"]
    return found


@pytest.mark.parametrize("kind", ["cohort", "stratified"])
def test_validation_and_held_out_patients_of_a_real_training_are_disjoint(trained, kind):
    _, trials, rows = trained[kind]
    assert set(rows["part"]) == {"validation", "test"}
    assert (rows["held_out"] == (rows["part"] == "test")).all()
    for trial in trials["trial"]:
        mine = rows[rows["trial"] == trial]
        validation = mine[mine["part"] == "validation"]
        assert len(validation) and "E" not in set(validation["scanner"])
        assert not set(validation["patient"]) & set(mine.loc[mine["held_out"], "patient"])


@pytest.mark.parametrize("kind", ["cohort", "stratified"])
@pytest.mark.parametrize("rule", RULES)
def test_values_of_a_real_training_are_those_that_its_epochs_were_chosen_by(trained, kind, rule):
    plan, trials, rows = trained[kind]
    axes = aggregate.axes(plan)
    found = selection.choose(plan, trials, rows, axes=axes, rule=rule)
    assert [len(choice.settings) for choice in found] == [1, 1, 1, 1, 2, 2]
    recorded = plan.join(trials.set_index("trial")["validation"], on="trial")
    means = recorded.groupby(["cell", "fold"])["validation"].mean()
    for choice in found:
        for setting in choice.settings:
            assert setting.value == pytest.approx(means[setting.cell, choice.fold], abs=1e-12)
            assert setting.inconsistency > 0 and setting.seeds == 2 and setting.paired > 1


def test_a_spoilt_real_training_chooses_nothing(trained):
    plan, trials, rows = trained["stratified"]
    fold = {trial: f for trial, f in zip(plan["trial"], plan["fold"], strict=True)}
    swapped = rows["trial"].map(fold) == 0
    held = rows[swapped & rows["held_out"]]
    leaked = pd.concat([rows, held.assign(part="validation", held_out=False)])
    leaked = leaked[leaked["scanner"] != "E"]
    with pytest.raises(StoreError, match="is a validation patient and held out"):
        selection.choose(plan, trials, leaked, axes=aggregate.axes(plan), rule=ACCURACY)
