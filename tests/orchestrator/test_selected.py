import json
import math

import pandas as pd
import pytest

from orchestrator import aggregate, selected, store, tabulate
from orchestrator.answers import Asked
from orchestrator.errors import SpecError, StoreError, SweepError
from orchestrator.folder import Folder
from orchestrator.spec_select import Select
from tests.orchestrator import finished, specs
from tests.orchestrator.test_selection import (
    ACCURACY,
    ROBUST,
    RULES,
    WITHIN,
    finished_trials,
    made,
    predicted,
    results,
    scores,
    single_scans,
)

AXES = ["losses.s.weight"]
VALUES = {(0, 0): (1.0, 1), (1, 0): (0.5, 2), (0, 1): (0.5, 3), (1, 1): (0.75, 4)}


def frames(plan, values, tested):
    """Make results with AUROC on held-out patients as given, by cell and fold."""
    trials, rows = results(plan, values)
    rows = [rows[rows["part"] == "validation"]]
    for _, row in plan.drop_duplicates("trial").iterrows():
        value = tested[row["cell"], row["fold"]]
        rows.append(pd.DataFrame(
            predicted(row["trial"], scores(value, 1), part="test", prefix="t")
        ))  # fmt: skip
    return plan, trials, pd.concat(rows, ignore_index=True)


TESTED = {(0, 0): 0.25, (1, 0): 1.0, (0, 1): 0.75, (1, 1): 0.5}


def test_a_row_is_the_mean_over_folds_of_the_settings_that_they_chose():
    plan = made([0.1, 1], folds=2)
    found = selected.select(*frames(plan, VALUES, TESTED), axes=AXES, rule=ACCURACY)
    (row,) = found.table.to_dict("records")
    # Fold 0 chose cell 0 and fold 1 cell 1, which are the worst on held-out patients.
    assert row["auroc"] == pytest.approx((0.25 + 0.5) / 2)
    assert row["validation_auroc"] == pytest.approx((1.0 + 0.75) / 2)
    assert row["validation_inconsistency"] > 0
    assert row["chosen"] == "losses.s.weight=0.1 (fold 0); losses.s.weight=1 (fold 1)"
    assert (row["settings"], row["trials"], row["missing"], row["folds"]) == (2, 4, 0, 2)
    assert row["rule"] == "accuracy" and math.isnan(row["margin"])


def test_columns_are_the_promised_ones_in_order():
    plan = made([0.1, 1], folds=2)
    found = selected.select(*frames(plan, VALUES, TESTED), axes=AXES, rule=WITHIN).table
    main = aggregate.table(*frames(plan, VALUES, TESTED), axes=[])
    left = ["encoder", "arm", "trials", "missing", "failed", "versions"]
    assert list(found.columns) == [
        "encoder", "arm", "rule", "margin", "settings", "chosen", "trials", "missing", "failed",
        "versions", "validation_auroc", "validation_inconsistency", "optimism_auroc",
        "optimism_inconsistency", *main.columns.drop(left),
    ]  # fmt: skip
    assert found["margin"].to_list() == [0.1]


def test_the_one_setting_of_an_arm_has_the_row_of_the_main_table():
    plan = made([0.1], folds=2)
    given = frames(plan, VALUES, TESTED)
    main = aggregate.table(*given, axes=[])
    for rule in RULES:
        found = selected.select(*given, axes=[], rule=rule).table
        pd.testing.assert_frame_equal(found[main.columns], main, check_exact=True)
        assert found["chosen"].to_list() == [""]


def test_questions_are_columns_and_axes_read_like_the_spec():
    axes = ["task.label", "optim.lr", "head.kind"]
    plan = made(
        [
            {"task.label": q, "optim.lr": lr, "head.kind": "max"}
            for q in ("grade", "msi")
            for lr in (1e-5, 0.1)
        ]
    )
    values = {(0, 0): (1.0, 1), (1, 0): (0.5, 1), (2, 0): (0.5, 1), (3, 0): (0.75, 1)}
    found = selected.select(
        *frames(plan, values, dict.fromkeys(values, 0.5)), axes=axes, rule=ACCURACY
    )
    assert found.table["task.label"].to_list() == ["grade", "msi"]
    assert found.table["chosen"].to_list() == [
        "optim.lr=1e-05, head.kind=max",
        "optim.lr=0.1, head.kind=max",
    ]
    assert [row["task.label"] for row in found.choices["rows"]] == ["grade", "msi"]


def test_choices_as_json_tell_all_that_was_chosen_among(tmp_path):
    plan = made([0.1, 1], folds=2)
    found = selected.select(*frames(plan, VALUES, TESTED), axes=AXES, rule=WITHIN)
    paths = selected.write(found, tmp_path)
    assert [path.name for path in paths] == ["selected.csv", "selected.parquet", "selected.json"]
    told = json.loads(paths[2].read_text())
    assert (told["rule"], told["margin"]) == ("robust_within_margin", 0.1)
    (row,) = told["rows"]
    first = row["folds"][0]
    assert first["chosen"] == {"losses.s.weight": 0.1}
    assert [each["setting"] for each in first["settings"]] == [
        {"losses.s.weight": 0.1}, {"losses.s.weight": 1}
    ]  # fmt: skip
    assert [each["validation"]["auroc"] for each in first["settings"]] == [1.0, 0.5]
    again = [path.read_bytes() for path in selected.write(found, tmp_path)]
    assert [path.read_bytes() for path in paths] == again
    pd.testing.assert_frame_equal(pd.read_parquet(paths[1]), found.table, check_exact=True)


def test_held_out_values_of_other_settings_are_told_nowhere(tmp_path):
    plan = made([0.1, 1], folds=2)
    other = {key: (0.75 if VALUES[key][0] in (0.5,) else value) for key, value in TESTED.items()}
    assert other != TESTED
    for rule, tested in ((ACCURACY, TESTED), (ACCURACY, other)):
        folder = tmp_path / str(tested[1, 0])
        selected.write(selected.select(*frames(plan, VALUES, tested), axes=AXES, rule=rule), folder)
    one, two = (tmp_path / name for name in ("1.0", "0.75"))
    for name in ("selected.csv", "selected.json"):
        assert (one / name).read_bytes() == (two / name).read_bytes()


@pytest.mark.parametrize("state", ["missing", "failed"])
def test_a_hole_in_any_setting_leaves_the_row_empty_and_counted(state):
    plan = made([0.1, 1], folds=2)
    plan, trials, rows = frames(plan, VALUES, TESTED)
    kept = rows[rows["trial"] != "c1f0s0"]
    trials = finished_trials(plan, states={"c1f0s0": state})
    (row,) = selected.select(plan, trials, kept, axes=AXES, rule=ACCURACY).table.to_dict("records")
    assert (row["trials"], row[state]) == (4, 1) and row["chosen"] == ""
    assert math.isnan(row["auroc"]) and math.isnan(row["validation_auroc"])
    allowed = selected.select(
        plan, trials, kept, axes=AXES, rule=ACCURACY, allow_missing=True
    ).table.iloc[0]
    assert allowed["auroc"] == pytest.approx((0.25 + 0.5) / 2)
    assert allowed[state] == 1 and allowed["settings"] == 2


def test_nothing_trained_gives_a_table_of_counts():
    plan = made([0.1, 1], folds=2)
    nothing = pd.DataFrame({"trial": pd.Series(dtype="str")})
    trials = nothing.assign(state=pd.Series(dtype="str"), threshold=pd.Series(dtype="float64"))
    for allow_missing in (False, True):
        found = selected.select(
            plan, trials, nothing, axes=AXES, rule=ROBUST, allow_missing=allow_missing
        )
        (row,) = found.table.to_dict("records")
        assert (row["trials"], row["missing"], row["settings"]) == (4, 4, 0)
        assert math.isnan(row["auroc"]) and row["chosen"] == ""
        assert found.choices["rows"][0]["folds"][0]["chosen"] is None


@pytest.fixture
def folder(tmp_path):
    found = Folder(tmp_path / "small")
    found.create()
    return found


@pytest.mark.parametrize(
    ("select", "margin", "own", "expected"),
    [
        (None, None, "", None),
        ("accuracy", None, "", ACCURACY),
        ("robust_within_margin", None, "", Select(rule="robust_within_margin")),
        ("robust_within_margin", 0.1, "", WITHIN),
        (None, None, "select: {rule: robust_within_margin, margin: 0.1}", WITHIN),
        ("robust_within_margin", None, "select: {rule: robust_within_margin, margin: 0.1}", WITHIN),
        (None, 0.1, "select: {rule: robust_within_margin}", WITHIN),
        ("accuracy", None, "select: {rule: robust_within_margin, margin: 0.1}", ACCURACY),
        ("robust_within_margin", 0.1, "select: {rule: accuracy}", WITHIN),
    ],
)
def test_the_rule_is_the_one_asked_for_else_that_of_the_spec(folder, select, margin, own, expected):
    folder.spec.write_text(f"name: small\n{own}\n")
    assert selected.rule_of(folder, select, margin) == expected


@pytest.mark.parametrize(
    ("select", "own"), [(None, ""), ("accuracy", ""), (None, "select: {rule: robustness}")]
)
def test_a_margin_without_its_rule_is_refused(folder, select, own):
    folder.spec.write_text(f"name: small\n{own}\n")
    with pytest.raises(SweepError, match=r"--margin 0\.1 without its rule"):
        selected.rule_of(folder, select, 0.1)


def test_a_stored_rule_that_was_spoilt_is_named(folder):
    folder.spec.write_text("name: small\nselect: {rule: best}\n")
    with pytest.raises(SpecError, match=r"spec.yaml: select: .*'accuracy', 'robustness'"):
        selected.rule_of(folder, None, None)


@pytest.fixture(scope="module")
def sweep(tmp_path_factory):
    home = tmp_path_factory.mktemp("home")
    text = finished.SPEC.replace("min_tiles: 8", "min_tiles: 8\n    paired_share: 0.9")
    text += "select: {rule: robustness}\n"
    return finished.train(finished.planned(finished.write_spec(home, text=text), home / "results"))


def tabulated(folder, *, mode, select=None, margin=None):
    return tabulate.aggregate(folder, Asked(select=select, margin=margin), mode=mode)


def test_aggregate_writes_both_tables_and_the_rule_of_the_spec_is_the_default(sweep, capsys):
    assert tabulated(sweep, mode="json") == 0
    told = json.loads(capsys.readouterr().out)
    assert [row["arm"] for row in told["selected"]] == ["erm", "again", "score"]
    assert {row["rule"] for row in told["selected"]} == {"robustness"}
    names = {path.rpartition("/")[2] for path in told["files"]}
    assert names >= {"main.csv", "selected.csv", "selected.parquet", "selected.json"}
    tabulated(sweep, select="robust_within_margin", margin=0.5, mode="text")
    shown = capsys.readouterr()
    assert "chosen by robust_within_margin (0.5) on the validation patients" in shown.err
    header = next(line for line in shown.out.splitlines() if "chosen" in line).split("\t")
    assert header[:5] == ["encoder", "arm", "settings", "chosen", "trials"]


def test_a_refused_rule_leaves_the_main_table(sweep, monkeypatch):
    (sweep.tables / "main.csv").unlink(missing_ok=True)

    def unpaired(folder):
        plan = store.read_plan(folder)
        trials, rows = single_scans(plan.drop_duplicates("trial"))
        held = rows.assign(
            part="test", held_out=True, patient=rows["patient"] + "t", view=rows["view"] + "t"
        )
        return {"trials": trials, "predictions": pd.concat([rows, held])}

    monkeypatch.setattr(store, "read_compact", unpaired)
    with pytest.raises(StoreError, match="arm score, fold 0: needs two validation slides"):
        tabulated(sweep, mode="text")
    assert (sweep.tables / "main.csv").is_file()


def test_a_rule_changes_no_trial(tmp_path):
    one = finished.prepare(finished.write_spec(tmp_path), tmp_path / "a", write=False)
    text = finished.SPEC + "select: {rule: robust_within_margin, margin: 0.02}\n"
    two = finished.prepare(finished.write_spec(tmp_path, text=text), tmp_path / "a", write=False)
    assert one.plan.trial_ids == two.plan.trial_ids
    assert two.spec.document()["select"] == {"rule": "robust_within_margin", "margin": 0.02}
    assert "select" not in one.spec.document()


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        ({"rule": "best"}, "26: select.rule: found 'best'; expected one of accuracy, robustness, "),
        ({"rule": "accuracy", "margin": 0.1}, "25: select: rule accuracy has no margin"),
        ({"rule": "robust_within_margin", "margin": -1}, "27: select.margin: found -1; expected"),
        ({"margin": 0.1}, "25: select.rule: missing; expected on validation patients"),
        ("accuracy", "25: select: found 'accuracy'; expected a mapping"),
    ],
)
def test_a_wrong_rule_in_a_spec_is_named_with_its_line(tmp_path, given, expected):
    (line,) = specs.problems(tmp_path, specs.small(select=given))
    assert line.removeprefix("small.yaml:").startswith(expected)


def test_a_sweep_without_any_result_has_a_table_of_what_is_missing():
    nothing = pd.DataFrame({"trial": pd.Series(dtype="str")})
    plan = made([0, 1])
    found = selected.select(plan, nothing, nothing, axes=["losses.s.weight"], rule=ACCURACY)
    assert found.table["missing"].to_list() == [2]
