"""`sweep aggregate` on a sweep that was really trained, with all artefacts."""

import json

import numpy as np
import pandas as pd
import pytest
from safetensors.numpy import load_file

from orchestrator import licences, measure_representation, robustness, store, tabulate
from orchestrator.answers import Asked
from orchestrator.errors import StoreError, SweepError
from tests.orchestrator import finished
from training.data import index
from training.data.bags import BagReader

KEPT = "artefacts: {embeddings: evaluation, attention: top, gradients: energy}\n"


@pytest.fixture(scope="module")
def home(tmp_path_factory):
    home = tmp_path_factory.mktemp("tabulate")
    text = finished.SPEC.replace("num_folds: 2", "num_folds: 1") + KEPT
    return finished.train(finished.planned(finished.write_spec(home, text=text), home / "results"))


@pytest.fixture(autouse=True)
def _few_draws(monkeypatch):
    monkeypatch.setattr(measure_representation, "NUM_DRAWS", 20)


def run(folder, **changed):
    mode = changed.pop("mode", "json")
    return tabulate.aggregate(folder, Asked(**changed), mode=mode)


def test_all_tables_are_written_and_named(home, capsys):
    assert run(home, mode="text") == 0
    told = capsys.readouterr()
    assert "wrote main, robustness, scanners, tradeoff, estimates, differences to" in told.err
    assert "auroc" in told.out and "calibration_slope" not in told.out
    assert sorted(path.name for path in home.tables.iterdir()) == sorted(
        [f"{name}.{end}" for name in ("main", "robustness", "scanners", "tradeoff", "estimates",
                                      "differences") for end in ("csv", "parquet")]
        + [f"{name}.{end}" for name in ("estimates", "differences") for end in ("md", "tex")]
    )  # fmt: skip
    made = pd.read_parquet(home.tables / "robustness.parquet")
    assert made[list(robustness.ARTEFACTS)].drop(columns="view_shift").notna().all(axis=None)
    assert made["gradient_energy"].between(0, 1).all()


def test_licences_that_tie_are_told_once_whatever_is_shown(home, capsys, monkeypatch):
    monkeypatch.setattr(licences, "read", lambda *_: {"tiny": ["CC-BY-NC-ND-4.0"]})
    for asked in ({}, {"metrics": ("auroc",), "draws": 10}, {"intervals": False}):
        assert run(home, mode="text", **asked) == 0
        assert capsys.readouterr().err.count("embeddings of tiny are under CC-BY-NC-ND-4.0") == 1
    assert run(home, intervals=False) == 0
    assert "CC-BY-NC-ND-4.0" in json.loads(capsys.readouterr().out)["notes"][0]


def test_json_is_one_value_with_every_table(home, capsys):
    assert run(home) == 0
    told = json.loads(capsys.readouterr().out)
    assert set(told) == {
        "sweep", "cells", "robustness", "scanners", "tradeoff", "estimates", "differences",
        "evidence", "licences", "files", "notes",
    }  # fmt: skip
    assert len(told["robustness"]) == len(told["cells"]) == 4
    assert {row["scanner"] for row in told["scanners"] if not row["seen"]} == {"E"}
    erm, *others = told["tradeoff"]
    assert erm["auroc_difference"] is None
    assert all(row["auroc_difference"] == row["auroc"] - erm["auroc"] for row in others)
    assert min(told["tradeoff"], key=lambda row: (row["inconsistency"], -row["auroc"]))["front"]


def test_the_tradeoff_is_against_the_arm_that_was_asked_for(home, capsys):
    assert run(home, against="again") == 0
    rows = json.loads(capsys.readouterr().out)["tradeoff"]
    assert [row["arm"] for row in rows if row["auroc_difference"] is None] == ["again"]


def test_representations_are_measured_beside_the_encoders_own(home, capsys):
    assert run(home, representation=True) == 0
    told = json.loads(capsys.readouterr().out)["representation"]
    assert [row["arm"] for row in told] == ["erm", "again", "score", "score", "(encoder)"]
    assert told[0]["selectivity_reference_refused"] == "this is the reference"
    first = (home.tables / "representation.parquet").read_bytes()
    assert run(home, representation=True) == 0
    assert (home.tables / "representation.parquet").read_bytes() == first

    # Second path: one metric of the kept arrays and of the bags, by hand.
    made = pd.read_parquet(home.tables / "representation.parquet")
    plan = store.read_plan(home)
    trials = plan.loc[plan["arm"] == "erm", "trial"].to_list()
    variances = []
    for path in home.segments.glob("*/artefacts/embeddings.safetensors"):
        scans = pd.read_parquet(path.with_name("scans.parquet"))
        variances += [v.var(0).mean() for t, v in load_file(path).items() if t in trials]
    assert made.loc[0, "variance"] == pytest.approx(np.mean(variances), rel=1e-5)
    prepared = finished.prepare(home.root.parents[1] / "small.yaml", home.root.parent)
    dataset = index.read(prepared.data)
    reader, rows = BagReader(dataset.root), dataset.index
    rows = rows[rows["view"].isin(scans["view"])].itertuples(index=False)
    pooled = np.stack([reader.whole(row).astype(float).mean(0) for row in rows])
    assert made["variance"].iloc[-1] == pytest.approx(pooled.var(0).mean(), rel=1e-6)


def test_without_the_data_the_encoders_are_left_out_with_a_note(home, capsys):
    data = finished.prepare(home.root.parents[1] / "small.yaml", home.root.parent).data
    data.rename(data.with_name("away"))
    try:
        assert run(home, representation=True, mode="text") == 0
    finally:
        data.with_name("away").rename(data)
    assert "the encoders' own embeddings are left out" in capsys.readouterr().err
    made = pd.read_parquet(home.tables / "representation.parquet")
    assert "(encoder)" not in set(made["arm"])


def test_an_arm_that_is_not_there_is_refused(home):
    with pytest.raises(SweepError, match="arm 'emr' is not in this sweep"):
        run(home, representation=True, reference="emr")


def test_damaged_or_absent_embeddings_are_refused_and_named(home):
    paths = list(home.segments.glob("*/artefacts/embeddings.safetensors"))
    whole = {path: path.read_bytes() for path in paths}
    try:
        paths[0].write_bytes(whole[paths[0]][:100])
        with pytest.raises(StoreError, match=r"embeddings\.safetensors: cannot be read"):
            run(home, representation=True)
        for path in paths:
            path.unlink()
        with pytest.raises(StoreError, match="kept its embeddings"):
            run(home, representation=True)
    finally:
        for path in paths:
            path.write_bytes(whole[path])
