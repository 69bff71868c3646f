"""Selection inside each fold, from a launch to the table; by real processes."""

import csv
import json

import numpy as np
import pandas as pd
import pytest

from tests.end_to_end.sweeps import sweep
from training.metrics import accuracy

pytestmark = pytest.mark.slow

SPEC = """\
data:
  simulate:
    dev_patients: 40
    test_patients: 0
    paired_share: 0.8
    min_tiles: 8
    max_tiles: 12
    encoders: {tiny: {dim: 16}}
task: {kind: binary}
encoders: [tiny]
folds: {kind: stratified, num_folds: 2}
seeds: 2
head: {kind: attention, embed_dims: [8], attention_dim: 4}
sampling: {slides_per_batch: 8, pairs_per_batch: 4}
optim: {epochs: 4, lr: 1e-2}
stopping: {validation_share: 0.4, epoch: within_margin, margin: 0.05}
arms:
  erm: {views: routine}
  score:
    views: all
    losses: {score: {kind: score}}
    grid: {losses.score.weight: [0.01, 1, 100]}
select: {rule: robust_within_margin, margin: 0.05}
cluster: local
"""


@pytest.fixture(scope="module")
def results(tmp_path_factory):
    home = tmp_path_factory.mktemp("home")
    (home / "chosen.yaml").write_text(SPEC)
    sweep("launch", home / "chosen.yaml", "--results", home / "results")
    return home / "results"


def tables(results, *arguments):
    sweep("aggregate", "chosen", "--results", results, *arguments)
    folder = results / "chosen" / "tables"
    with (folder / "selected.csv").open(encoding="utf-8", newline="") as file:
        rows = list(csv.DictReader(file))
    return rows, json.loads((folder / "selected.json").read_text()), folder


def read(results, name):
    folders = sorted((results / "chosen" / "segments").iterdir())
    return pd.concat([pd.read_parquet(folder / f"{name}.parquet") for folder in folders])


@pytest.mark.parametrize(
    ("arguments", "rule"),
    [
        ((), "robust_within_margin"),
        (("--select", "accuracy"), "accuracy"),
        (("--select", "robustness"), "robustness"),
        (("--select", "robust_within_margin", "--margin", "1"), "robust_within_margin"),
    ],
)
def test_each_rule_chooses_in_each_fold_what_its_own_values_say(results, arguments, rule):
    rows, told, _ = tables(results, *arguments)
    assert [(row["arm"], row["settings"], row["rule"]) for row in rows] == [
        ("erm", "1", rule),
        ("score", "3", rule),
    ]
    assert all(row["auroc"] and row["validation_auroc"] for row in rows)
    for fold in told["rows"][1]["folds"]:
        values = [setting["validation"] for setting in fold["settings"]]
        area = np.array([value["auroc"] for value in values])
        spread = np.array([value["inconsistency"] for value in values])
        margin = {"accuracy": 0.0, "robustness": 1.0}.get(rule, told.get("margin"))
        within = np.flatnonzero(area >= area.max() - margin - 1e-12)
        place = within[0] if rule == "accuracy" else within[np.argmin(spread[within])]
        assert fold["chosen"] == fold["settings"][place]["setting"]


def test_values_come_from_validation_patients_of_the_training_part(results):
    _, told, _ = tables(results, "--select", "accuracy")
    rows, plan = read(results, "predictions"), pd.read_parquet(results / "chosen" / "plan.parquet")
    recorded = read(results, "trials").set_index("trial")["validation"]
    for trial in plan["trial"]:
        mine = rows[rows["trial"] == trial]
        parts = {part: set(mine.loc[mine["part"] == part, "patient"]) for part in mine["part"]}
        assert parts.keys() == {"validation", "test"} and not parts["validation"] & parts["test"]
        own = mine[mine["part"] == "validation"]
        case = own.groupby(["scanner", "patient"])[["label", "score"]].mean()
        areas = [
            accuracy.auroc(part["label"].to_numpy(np.int64), part["score"].to_numpy())
            for _, part in case.groupby("scanner")
        ]
        assert np.nanmean(areas) == pytest.approx(recorded[trial])
    score = plan[plan["arm"] == "score"]
    means = score.join(recorded, on="trial").groupby(["fold", "cell"])["validation"].mean()
    for fold in told["rows"][1]["folds"]:
        found = [setting["validation"]["auroc"] for setting in fold["settings"]]
        assert found == pytest.approx(means[fold["fold"]].to_list())


def test_the_epoch_of_each_trial_is_the_least_inconsistent_within_the_margin(results):
    curves = read(results, "curves").pivot_table(
        index=["trial", "epoch"], columns="quantity", values="value"
    )
    trials = read(results, "trials").set_index("trial")
    assert len(trials) == 16
    for trial, own in curves.groupby("trial"):
        value = own["validation_auroc"].to_numpy()
        spread = own["validation_inconsistency"].to_numpy()
        within = np.flatnonzero(value >= value.max() - 0.05 - 1e-12)
        best = within[spread[within] == spread[within].min()]
        assert trials.loc[trial, "epoch"] == 1 + best[np.argmax(value[best])]
        assert trials.loc[trial, "validation"] == value[trials.loc[trial, "epoch"] - 1]


def test_a_rule_without_paired_slides_keeps_the_main_table(tmp_path):
    text = SPEC.replace("paired_share: 0.8", "paired_share: 0\n    confounding: 0")
    text = text.replace("epoch: within_margin, margin: 0.05", "epoch: best")
    text = text.replace("views: all\n    losses: {score: {kind: score}}", "views: routine")
    text = text.replace("losses.score.weight: [0.01, 1, 100]", "optim.lr: [1e-2, 1e-3]")
    (tmp_path / "chosen.yaml").write_text(text)
    sweep("launch", tmp_path / "chosen.yaml", "--results", tmp_path / "results")
    done = sweep("aggregate", "chosen", "--results", tmp_path / "results", code=1)
    assert "encoder tiny, arm score, fold 0: needs two validation slides" in done.stderr
    assert "choose by another rule with --select" in done.stderr
    assert (tmp_path / "results" / "chosen" / "tables" / "main.csv").is_file()
    done = sweep("aggregate", "chosen", "--results", tmp_path / "results", "--select", "accuracy")
    assert "chosen by accuracy on the validation patients of each fold" in done.stderr
