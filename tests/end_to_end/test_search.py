"""Searches on this machine, by real processes: drawn, halved, suggested."""

import csv
import json
import subprocess

import pandas as pd
import pytest

from orchestrator import events, store
from orchestrator.folder import Folder
from orchestrator.halving import Bracket, Rungs
from tests.end_to_end.sweeps import accepted, command, kill_driver, status, sweep, table, wait

pytestmark = pytest.mark.slow

SPEC = """\
data:
  simulate:
    dev_patients: 24
    test_patients: 16
    min_tiles: 8
    max_tiles: 12
    encoders: {tiny: {dim: 16}, wide: {dim: 24}}
task: {kind: binary}
encoders: [tiny, wide]
folds: {kind: cohort, train: [dev], test: [test], num_folds: 2}
seeds: 1
head: {kind: attention, embed_dims: [8], attention_dim: 4}
sampling: {slides_per_batch: 8, pairs_per_batch: 4}
stopping: {metric: loss}
optim: {epochs: 4}
arms:
  erm: {views: routine}
  score:
    views: all
    losses: {score: {kind: score}}
    search:
      kind: KIND
      samples: SAMPLES
      space:
        losses.score.weight: {low: 0.01, high: 10, log: true}
        optim.lr: {low: 1e-4, high: 0.1, log: true}
cluster: local
"""


def write(folder, kind, samples, *, more=""):
    text = SPEC.replace("KIND", kind).replace("SAMPLES", str(samples))
    path = folder / "small.yaml"
    path.write_text(text.replace("      space:", f"{more}      space:"))
    return path


def rows(folder):
    return list(csv.DictReader(table(folder).decode().splitlines()))


def test_a_random_search_is_a_sweep_of_ordinary_trials_that_may_grow(tmp_path):
    results = tmp_path / "results"
    dry = sweep("launch", write(tmp_path, "random", 3), "--results", results, "--dry-run")
    assert "score: 3 settings by random, in 6 cells" in dry.stdout
    assert "not a factorial comparison" in dry.stdout
    sweep("launch", tmp_path / "small.yaml", "--results", results)
    first = rows(results / "small")
    assert [row["search"] for row in first] == ["", *["random"] * 3] * 2
    weights = [row["losses.score.weight"] for row in first if row["arm"] == "score"]
    assert weights[:3] == weights[3:] and len(set(weights)) == 3
    assert all(row["auroc"] for row in first)
    again = sweep("launch", tmp_path / "small.yaml", "--results", results)
    assert "16 done, 0 to train" in again.stderr
    grown = sweep("launch", write(tmp_path, "random", 5), "--results", results)
    assert "24 trials in 12 cells; 16 done, 8 to train" in grown.stderr
    told = sweep("aggregate", "small", "--results", results)
    assert "arm score: its settings come from a search (random)" in told.stderr
    more = rows(results / "small")
    for row in first:
        assert row in more


def test_asha_retires_trials_by_its_rule_once_and_no_cell_hides_it(tmp_path):
    results = tmp_path / "results"
    spec = write(tmp_path, "asha", 8, more="      reduction: 2\n")
    sweep("launch", spec, "--results", results)
    folder = Folder(results / "small")
    found = store.read_results(folder)["trials"].set_index("trial")
    plan = store.read_plan(folder)
    retired = set(found.index[found["state"] == "retired"])
    assert retired and retired == events.progress(folder).retired
    own = plan[plan["search"] == "asha"]
    assert retired <= set(own["trial"])
    lengths = found["epochs_trained"]
    assert set(lengths[list(retired)]) <= {1, 2}
    assert (lengths[list(set(found.index) - retired)] == 4).all()
    best = pd.Series({name: found.loc[part["trial"], "validation"].idxmin()
                      for name, part in own.groupby("bracket")})  # fmt: skip
    assert best.map(found["state"]).eq("done").all()
    replay = Rungs()
    for event in events.progress(folder).rungs:
        told = replay.judge(Bracket.parse(event["bracket"]), event["epoch"], event["values"])
        assert told["retired"] == event["retired"]

    made = rows(results / "small")
    cells = own.assign(gone=own["trial"].isin(retired)).groupby("cell")["gone"].sum()
    for cell, row in enumerate(made):
        gone = int(cells.get(cell, 0))
        assert row["retired"] == str(gone)
        assert bool(row["auroc"]) == (gone == 0)
    told = sweep("aggregate", "small", "--results", results)
    assert f"retired {len(retired)} trials" in told.stderr
    assert status(results / "small")["done"] == 36
    segments = accepted(results / "small")
    again = sweep("resume", "small", "--results", results, "--json")
    assert json.loads(again.stdout)["done"] == 36
    assert accepted(results / "small") == segments

    # The same settings drawn at random need the retired trials whole.
    plain = sweep("launch", write(tmp_path, "random", 8), "--results", results)
    assert f"{36 - len(retired)} done, {len(retired)} to train" in plain.stderr
    assert all(row["auroc"] for row in rows(results / "small"))


def test_optuna_goes_on_in_rounds_also_after_its_driver_was_killed(tmp_path):
    spec = write(tmp_path, "optuna", 5, more="      batch: 2\n")
    quiet, killed = tmp_path / "quiet", tmp_path / "killed"
    dry = sweep("launch", spec, "--results", quiet, "--dry-run")
    assert "score: 5 settings by optuna, in 4 cells so far" in dry.stdout
    done = sweep("launch", spec, "--results", quiet)
    assert "24 of 24 trials done" in done.stderr
    made = rows(quiet / "small")
    assert [row["search"] for row in made] == ["", *["optuna"] * 5] * 2
    assert all(row["auroc"] for row in made)
    lr = [row["optim.lr"] for row in made if row["arm"] == "score"]
    assert lr[:2] == lr[5:7]
    assert len({*lr[:5]}) == len({*lr[5:]}) == 5
    again = sweep("launch", spec, "--results", quiet)
    assert "24 done, 0 to train" in again.stderr

    driver = subprocess.Popen(
        command("launch", spec, "--results", killed),
        stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
    )  # fmt: skip
    wait(lambda: (killed / "small" / "events").is_dir()
         and events.progress(Folder(killed / "small")).suggested)  # fmt: skip
    assert kill_driver(killed / "small") == driver.pid
    driver.wait(timeout=30)
    sweep("resume", "small", "--results", killed)
    assert table(killed / "small") == table(quiet / "small")
