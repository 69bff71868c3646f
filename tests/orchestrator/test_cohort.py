"""`sweep aggregate --cohort` on tables of `sweep predict`, and on external cohorts of a spec."""

import json

import numpy as np
import pandas as pd
import pytest
from sklearn.metrics import roc_auc_score

from orchestrator import applied, cohort, evidence, predict, tabulate
from orchestrator.answers import Asked
from orchestrator.errors import StoreError, SweepError
from tests.orchestrator import finished
from tests.orchestrator.made_results import plan, results
from tests.orchestrator.test_predict import KEPT, TEXT, other
from training.data import tables
from training.errors import DataError
from training.metrics.concordance import harrell

SELECT = "select: {rule: accuracy}\nanalysis: {arm: score, against: erm, metric: auroc}\n"


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    home = tmp_path_factory.mktemp("cohort")
    path = finished.write_spec(home, text=TEXT + KEPT + SELECT)
    return finished.train(finished.planned(path, home / "results"))


@pytest.fixture
def table(folder, tmp_path):
    return made(folder, other(folder, tmp_path / "far"))


def made(folder, data, **given):
    out = data.with_name("Größe 1.parquet")
    asked = predict.Asked(data=data, out=out, allow_seen=True, **given)
    assert predict.predict(folder, asked, mode="quiet") == 0
    return out


def judged(folder, capsys, **asked):
    capsys.readouterr()
    assert tabulate.aggregate(folder, Asked(draws=50, **asked), mode="json") == 0
    return json.loads(capsys.readouterr().out)


def by_hand(found, labels):
    """Mean over scanners of scikit-learn's AUROC of mean scores of patients."""
    scores = found.groupby(["scanner", "patient"])["score"].mean()
    return np.mean([roc_auc_score(labels[own.droplevel(0).index].astype(int), own)
                    for _, own in scores.groupby("scanner")])  # fmt: skip


def test_a_table_is_judged_on_the_labels_of_its_data_as_by_hand(folder, table, capsys):
    path = table.with_name("far") / "cases.parquet"
    cases = pd.read_parquet(path)
    cases.loc[cases["patient"] == cases["patient"].iloc[3], "label"] = ""
    tables.write(cases, path)
    labels = cases.set_index("patient")["label"].replace("", np.nan).dropna()
    found, _ = applied.read(table)
    found = found[found["patient"].isin(labels.index)]
    shown = judged(folder, capsys, cohort=str(table))
    for cell, row in enumerate(shown["cells"]):
        trials = [own for _, own in found[found["cell"] == cell].groupby("trial")]
        assert row["auroc"] == pytest.approx(np.mean([by_hand(each, labels) for each in trials]))
        assert row["unseen_scanner_auroc"] is None and row["trials"] == 4
    (difference,) = [each for each in shown["differences"] if each["metric"] == "auroc"]
    assert difference["against"] == "erm" and difference["low"] <= difference["high"]
    assert not difference["primary"] and difference["patients"] == len(labels)
    assert "cohort Größe 1, which no training, threshold, epoch or choice" in shown["evidence"][0]
    assert "1 patient without label are left out" in shown["notes"]
    names = {path.name for path in folder.tables.glob("cohort-*")}
    assert {"cohort-Größe_1_main.csv", "cohort-Größe_1_selected.json", "cohort-Größe_1.tex",
            "cohort-Größe_1_differences.md"} <= names  # fmt: skip
    assert not (folder.tables / "main.csv").exists()
    # Settings were chosen on validation patients of the folds, as without the cohort.
    chosen = json.loads((folder.tables / "cohort-Größe_1_selected.json").read_text())
    judged(folder, capsys)
    assert json.loads((folder.tables / "selected.json").read_text()) == chosen


def test_ensembles_are_judged_and_not_chosen_among(folder, table, capsys):
    out = made(folder, table.with_name("far"), ensemble=True)
    labels = pd.read_parquet(table.with_name("far") / "cases.parquet").set_index("patient")["label"]
    found, _ = applied.read(out)
    shown = judged(folder, capsys, cohort=str(out))
    for cell, row in enumerate(shown["cells"]):
        assert row["auroc"] == pytest.approx(by_hand(found[found["cell"] == cell], labels))
        assert row["trials"] == 1
    assert "ensembles of these fitted models" in shown["evidence"][0]
    with pytest.raises(SweepError, match="which ensembles do not have"):
        judged(folder, capsys, cohort=str(out), select="accuracy")


def test_patients_whom_a_model_knows_are_never_judged(folder, tmp_path, capsys):
    data = other(folder, tmp_path / "mixed")
    for name in ("index", "cases"):
        frame = pd.read_parquet(data / f"{name}.parquet")
        known = frame["patient"].str.contains("dev")
        frame["patient"] = frame["patient"].str.removeprefix("far ").where(known, frame["patient"])
        tables.write(frame, data / f"{name}.parquet")
    shown = judged(folder, capsys, cohort=str(made(folder, data)))
    assert "24 patients whom the models know are left out" in shown["notes"]
    assert {row["patients"] for row in shown["estimates"]} == {16}


def test_what_cannot_be_judged_is_refused(folder, table, tmp_path, capsys):
    def refused(kind, match, **asked):
        with pytest.raises(kind, match=match):
            tabulate.aggregate(folder, Asked(**{"cohort": str(table), **asked}), mode="quiet")

    refused(SweepError, "'elsewhere' is no external cohort of this sweep", cohort="elsewhere")
    refused(StoreError, "cannot be read", cohort=str(tmp_path / "none.parquet"))
    about = json.loads(table.with_suffix(".json").read_text())
    index, cases = (table.with_name("far") / f"{name}.parquet" for name in ("index", "cases"))
    whole = pd.read_parquet(cases)
    tables.write(whole.assign(label="2"), cases)
    refused(DataError, "label is '2', expected one of '0', '1'")
    tables.write(whole.assign(label=""), cases)
    refused(SweepError, "nobody can be judged")
    tables.write(pd.read_parquet(index).assign(checksum="x"), index)
    refused(DataError, "the scans changed since models were applied to them")
    for change, kind, match in (
        ({"cells": [{"cell": 0, "trials": ["another"]}]}, StoreError, "does not have"),
        ({"data": str(tmp_path / "gone")}, DataError, "is no folder"),
    ):
        table.with_suffix(".json").write_text(json.dumps(about | change))
        refused(kind, match)


def test_an_external_cohort_of_the_spec_is_judged_with_intervals_apart_from_the_folds():
    given = results(plan(config={"external_cohorts": ["far"], "unseen_scanners": ["B"]}))
    rows = given.predictions
    far = rows[rows["trial"] == "uni-erm-0-0-0"].assign(
        part="external", held_out=False, cohort="far"
    )
    parts = [far.assign(trial=trial) for trial in given.plan["trial"]]
    both = pd.concat([rows, *parts], ignore_index=True)
    found = cohort.read(evidence.Results(**{**vars_of(given), "predictions": both}), "far")
    assert found.stem == "cohort-far"
    made = evidence.of(found.results, evidence.Request(metrics=("auroc",), draws=20))
    cells = made.cells
    assert set(cells["patients"]) == {24} and set(cells["folds"]) == {2}
    assert cells["low"].notna().all() and cells["estimate"].nunique() == 1
    # All scanners are alike: B, which was kept out of training, counts like A.
    scores = far.groupby(["scanner", "patient"])[["score", "label"]].mean()
    by_hand = [roc_auc_score(own["label"], own["score"]) for _, own in scores.groupby("scanner")]
    assert cells["estimate"].iloc[0] == pytest.approx(np.mean(by_hand))
    with pytest.raises(SweepError, match="is no external cohort of this sweep") as no:
        cohort.read(evidence.Results(**{**vars_of(given), "predictions": both}), "near")
    assert no.value.hint == "external cohorts of this sweep: far"


def vars_of(given):
    return {name: getattr(given, name) for name in given.__slots__}


MIXED = (
    finished.SPEC[: finished.SPEC.index("arms:")]
    .replace("kind: binary", "kind: multiclass")
    .replace("    min_tiles: 8", "    num_classes: 3\n    survival: {step: 6.0}\n    min_tiles: 8")
    .replace("num_folds: 2", "num_folds: 1")
    .replace("seeds: 2", "seeds: 1")
    + "arms:\n  classes: {views: routine}\n"
    "  cox: {views: routine, task: {kind: survival}, stopping: {metric: concordance}}\n"
)


def test_classes_and_survival_are_told_in_one_table_and_judged_apart(tmp_path, capsys):
    path = finished.write_spec(tmp_path, text=MIXED + KEPT)
    folder = finished.train(finished.planned(path, tmp_path / "results"))
    data = other(folder, tmp_path / "far")
    out = made(folder, data)
    found, about = applied.read(out)
    classes, cox = (found[found["arm"] == arm] for arm in ("classes", "cox"))
    assert about["classes"] == {"0": ["0", "1", "2"], "1": []}
    assert classes["score"].isna().all() and cox["score_0"].isna().all()
    scores = classes[["score_0", "score_1", "score_2"]].to_numpy()
    shares = np.exp(scores) / np.exp(scores).sum(1, keepdims=True)
    np.testing.assert_allclose(classes[["probability_0", "probability_1", "probability_2"]], shares)
    assert (classes["predicted"] == scores.argmax(1).astype(str)).all()
    assert set(cox["predicted"]) == {""}
    told = judged(folder, capsys, cohort=str(out))["cells"]
    assert told[0]["auroc"] > 0 and told[0]["concordance"] is None
    cases = pd.read_parquet(data / "cases.parquet").set_index("patient")
    risk = cox.groupby(["scanner", "patient"])["score"].mean()
    each = []
    for _, own in risk.groupby("scanner"):
        time, event = (cases.loc[own.index.get_level_values("patient"), name].to_numpy(float)
                       for name in ("time", "event"))  # fmt: skip
        each.append(harrell(time, event == 1, own.to_numpy()))
    assert told[1]["concordance"] == pytest.approx(np.mean(each))
    assert told[1]["uno_concordance"] > 0
