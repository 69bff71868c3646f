"""`orchestrator.load` on a sweep that was really trained."""

import subprocess
import sys

import pandas as pd
import pytest

import orchestrator
from orchestrator import store, tabulate
from orchestrator.answers import Asked
from orchestrator.errors import SweepError
from tests.orchestrator import finished


@pytest.fixture(scope="module")
def home(tmp_path_factory):
    home = tmp_path_factory.mktemp("note 'book' é")
    text = finished.SPEC.replace("num_folds: 2", "num_folds: 1")
    return finished.train(finished.planned(finished.write_spec(home, text=text), home / "results"))


@pytest.fixture(scope="module")
def sweep(home):
    return orchestrator.load(str(home.root))


def test_tables_are_those_that_the_command_writes(home, sweep):
    assert tabulate.aggregate(home, Asked(intervals=False), mode="quiet") == 0
    assert set(sweep.tables) == {"main", "robustness", "scanners", "tradeoff"}
    for name, table in sweep.tables.items():
        written = pd.read_parquet(home.tables / f"{name}.parquet")
        pd.testing.assert_frame_equal(table, written, check_dtype=False)
    assert sweep.remarks == []


def test_a_row_per_trial_has_what_the_cell_averages(sweep):
    trials = sweep.trials
    assert list(trials.columns[:3]) == ["cell", "encoder", "arm"]
    assert len(trials) == 8 and trials["trial"].nunique() == 6  # erm and again share theirs
    assert (trials["state"] == "done").all() and trials.columns.is_unique
    mean = trials.groupby("cell")[["auroc", "inconsistency", "icc_agreement"]].mean()
    main = sweep.tables["main"].join(sweep.tables["robustness"][["icc_agreement"]])
    pd.testing.assert_frame_equal(mean, main[list(mean.columns)], check_names=False)
    assert set(sweep.curves["trial"]) == set(sweep.predictions["trial"]) == set(trials["trial"])


def test_evidence_takes_what_people_write(sweep):
    found = sweep.evidence(
        metrics="auroc", where={"losses.score.weight": 0.1}, draws=50, against=""
    )
    assert found.cells["arm"].to_list() == ["score"] and found.cells["low"].notna().all()
    both = sweep.evidence(metrics=["auroc", "accuracy"], by=["arm"], draws=20).differences
    assert (
        list(both["metric"].unique()) == ["auroc", "accuracy"] and (both["against"] == "erm").all()
    )
    with pytest.raises(SweepError, match="nothing is called 'metric'"):
        sweep.evidence(metric="auroc")
    with pytest.raises(SweepError, match="'arms' is no column of the plan; did you mean 'arm'"):
        sweep.evidence(where={"arms": "erm"})


def test_holes_have_no_value_and_are_told(home, tmp_path):
    spec = finished.write_spec(tmp_path)
    prepared = finished.planned(spec, tmp_path / "results")
    lost = prepared.plan.trials[0].id
    folder = finished.train(prepared, without=[lost])
    found = orchestrator.load(folder.root)
    assert found.tables["main"]["auroc"].isna().any()
    assert any("missing" in line for line in found.remarks)
    assert found.trials.loc[found.trials["trial"] == lost, "auroc"].isna().all()
    allowed = orchestrator.load(folder.root, allow_missing=True)
    assert (
        allowed.tables["main"]["auroc"].notna().sum() >= found.tables["main"]["auroc"].notna().sum()
    )
    assert len(store.read_plan(folder)) == len(found.trials)


def test_what_is_no_sweep_is_refused_and_the_door_is_light(tmp_path):
    with pytest.raises(SweepError):
        orchestrator.load(tmp_path / "none")
    code = "import orchestrator, sys; orchestrator.load; sys.exit('pandas' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
