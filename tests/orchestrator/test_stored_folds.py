from pathlib import Path

import pandas as pd

from orchestrator import launch, store, stored_folds
from orchestrator.folder import Folder
from tests.orchestrator.finished import CODE, SPEC, planned, prepare, write_spec
from training.data import folds, index


def table(folder):
    found = store.read_folds(folder)
    assert found is not None and list(found.columns) == list(stored_folds.COLUMNS)
    return found


def test_a_launch_stores_who_trained_and_who_was_held_out(tmp_path):
    prepared = planned(write_spec(tmp_path), tmp_path / "results")
    found = table(prepared.folder)
    assert not found.duplicated(["encoder", "fold", "fingerprint", "patient"]).any()
    plan, dataset = store.read_plan(prepared.folder), index.read(prepared.data)
    assert set(found["fingerprint"]) == set(plan["fingerprint"])
    for trial in prepared.plan.trials:
        rows = found[(found["fingerprint"] == trial.fingerprint)]
        rows = rows[rows["fold"] == trial.config.fold]
        expected = folds.split(dataset, trial.config)
        for part, patients in expected.parts.items():
            assert tuple(rows.loc[rows["part"] == part, "patient"]) == patients


def test_equal_launches_write_equal_bytes_of_a_few_a_row(tmp_path):
    spec = write_spec(tmp_path)
    first = planned(spec, tmp_path / "results").folder
    data = first.folds.read_bytes()
    assert planned(spec, tmp_path / "results").folder.folds.read_bytes() == data
    assert oct(first.folds.stat().st_mode)[-3:] == "600"


def test_arms_that_divide_the_patients_otherwise_have_rows_of_their_own(tmp_path):
    text = SPEC.replace("again: {views: routine}", "again: {views: routine, folds: {seed: 1}}")
    found = table(planned(write_spec(tmp_path, text=text), tmp_path / "results").folder)
    held = found[found["part"] == "validation"].groupby(["fold", "fingerprint"])["patient"]
    assert held.agg(frozenset).groupby("fold").nunique().to_list() == [2, 2]


def test_a_plan_that_is_added_to_keeps_the_folds_of_what_still_trains(tmp_path):
    results = tmp_path / "results"
    first = planned(write_spec(tmp_path), results)
    before = table(first.folder)
    text = SPEC.replace("num_folds: 2}", "num_folds: 3}")
    other = prepare(write_spec(tmp_path, text=text), results)
    both = stored_folds.frame(other.plan, before)
    assert set(both["fingerprint"]) == {
        *before["fingerprint"],
        *stored_folds.frame(other.plan)["fingerprint"],
    }
    again = stored_folds.frame(other.plan, both)
    pd.testing.assert_frame_equal(again, both)
    launch._record(other, CODE)
    assert set(table(first.folder)["fold"]) == {0, 1, 2}


def test_a_table_that_cannot_be_read_is_written_anew(tmp_path):
    prepared = planned(write_spec(tmp_path), tmp_path / "results")
    whole = prepared.folder.folds.read_bytes()
    prepared.folder.folds.write_bytes(whole[:100])
    assert store.read_folds(prepared.folder) is None
    launch._record(prepared, CODE)
    assert prepared.folder.folds.read_bytes() == whole


def test_folds_that_cannot_be_read_are_none_wherever_one_stands(tmp_path, monkeypatch, caplog):
    monkeypatch.chdir(tmp_path)
    folder = Folder(Path("small"))
    folder.create()
    folder.folds.write_bytes(b"torn")
    assert store.read_folds(folder) is None and "folds.parquet: cannot be read" in caplog.text
