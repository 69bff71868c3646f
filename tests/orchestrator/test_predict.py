"""`sweep predict` on a sweep that was really trained, with its weights kept."""

import json
import pathlib
import shutil

import numpy as np
import pandas as pd
import pytest
from safetensors.numpy import load_file, save_file

from orchestrator import cohort, evidence, inputs, predict, spec, store
from orchestrator.errors import StoreError, SweepError
from orchestrator.predict import Asked
from tests.orchestrator import finished
from training import simulate
from training.data import tables
from training.errors import DataError

TEXT = finished.SPEC.replace("  again: {views: routine}\n", "").replace("[0.1, 1]", "[1]")
KEPT = "artefacts: {weights: all}\n"
ODD = """patient "{}", Zoë's"""


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    home = tmp_path_factory.mktemp("predict")
    path = finished.write_spec(home, text=TEXT + KEPT)
    return finished.train(finished.planned(path, home / "results"))


@pytest.fixture(scope="module")
def copied(folder, tmp_path_factory):
    """The data of the sweep, with patients of other names, and no labels."""
    root = tmp_path_factory.mktemp("copied") / "data, copied"
    shutil.copytree(inputs.path(spec.read(folder.spec), folder.root.parent), root)
    rename(root, ODD)
    cases = pd.read_parquet(root / "cases.parquet")
    tables.write(cases[["patient"]], root / "cases.parquet")
    return root


@pytest.fixture(scope="module")
def strangers(folder, tmp_path_factory):
    """Another cohort of the same scanners and encoder, as `test_cohort` needs it too."""
    return other(folder, tmp_path_factory.mktemp("strangers") / "far away")


def other(folder, root):
    simulation = spec.read(folder.spec).simulation
    simulate.write(simulation.model_copy(update={"seed": 7}), root)
    rename(root, "far {}")
    return root


def rename(root, pattern):
    for name in ("index", "cases"):
        frame = pd.read_parquet(root / f"{name}.parquet")
        frame["patient"] = [pattern.format(each) for each in frame["patient"]]
        tables.write(frame, root / f"{name}.parquet")


def run(folder, data, capsys, *, code=0, **given):
    assert predict.predict(folder, Asked(data=data, **given), mode="json") == code
    shown = json.loads(capsys.readouterr().out)
    table, _, about = shown["files"]
    return pd.read_parquet(table), json.loads(pathlib.Path(about).read_text()), shown


def test_held_out_scans_get_the_scores_that_training_gave_them(folder, copied, capsys):
    found, about, _ = run(folder, copied, capsys, allow_seen=True)
    trained = store.read_results(folder)["predictions"]
    test = trained[trained["held_out"]].set_index(["trial", "view"]).sort_index()
    mine = found[found["seen"] == "test"].set_index(["trial", "view"]).sort_index()
    assert list(mine.index) == list(test.index) and len(mine) > 100
    # Other scans in a chunk of padded bags give other last digits.
    np.testing.assert_allclose(mine["score"], test["score"], rtol=1e-5, atol=1e-6)
    assert set(found["seen"]) == {"train", "validation", "test"}
    assert set(mine["patient"]) == {ODD.format(each) for each in test["patient"]}
    thresholds = store.read_results(folder)["trials"].set_index("trial")["threshold"]
    cut = found["trial"].map(thresholds)
    assert (found["predicted"] == np.where(found["score"] >= cut, "1", "0")).all()
    np.testing.assert_allclose(found["probability"], 1 / (1 + np.exp(-found["score"])))
    assert about["classes"] == {"0": ["0", "1"], "1": ["0", "1"]}
    assert about["licences"]["applied_to"]["tiny"] == about["licences"]["trained_on"]["tiny"]


def test_an_ensemble_is_the_mean_of_scores_and_the_same_again_to_the_byte(
    folder, strangers, capsys
):
    each, _, _ = run(folder, strangers, capsys, where=("arm=score",))
    found, about, shown = run(folder, strangers, capsys, where=("arm=score",), ensemble=True)
    wanted = each.groupby("view")[["score", "threshold"]].mean()
    mine = found.set_index("view").loc[wanted.index]
    np.testing.assert_allclose(mine["score"], wanted["score"], rtol=1e-12)
    np.testing.assert_allclose(mine["threshold"], wanted["threshold"], rtol=1e-12)
    assert set(found["trial"]) == {"ensemble"} and set(found["models"]) == {4}
    assert about["cells"][0]["trials"] == list(each["trial"].unique())
    before = [pathlib.Path(path).read_bytes() for path in shown["files"]]
    _, _, again = run(folder, strangers, capsys, where=("arm=score",), ensemble=True)
    assert [pathlib.Path(path).read_bytes() for path in again["files"]] == before
    text = pd.read_csv(again["files"][1])
    np.testing.assert_allclose(text["score"], found["score"], rtol=1e-7)


def test_patients_that_the_sweep_knows_are_refused_by_name_and_by_their_embeddings(
    folder, copied, strangers, tmp_path
):
    own = inputs.path(spec.read(folder.spec), folder.root.parent)
    for data in (copied, own):
        with pytest.raises(SweepError, match="40 patients of these data trained, validated") as no:
            predict.predict(folder, Asked(data=data), mode="quiet")
        assert "--allow-seen" in no.value.hint
    moved = tmp_path / "moved"
    shutil.copytree(strangers, moved)
    (folder.folds).rename(tmp_path / "folds.parquet")
    try:
        with pytest.raises(StoreError, match="does not say on whom trial"):
            predict.predict(folder, Asked(data=moved), mode="quiet")
    finally:
        (tmp_path / "folds.parquet").rename(folder.folds)


def test_what_cannot_be_applied_is_refused_with_what_to_do(folder, strangers, tmp_path):
    def refused(kind, match, data=strangers, home=folder, **given):
        with pytest.raises(kind, match=match) as no:
            predict.predict(home, Asked(data=data, **given), mode="quiet")
        return no.value.hint

    assert "cells are numbered 0, 1" in refused(SweepError, "no cell 9", cells=(9,))
    refused(SweepError, "no cell has arm=other", where=("arm=other",))
    refused(DataError, "is no folder", data=tmp_path / "nothing")
    for end in (".parquet", ".csv", ".json"):
        mine = tmp_path / f"own_{end[1:]}{end}"
        mine.write_bytes(b"mine")
        said = f"{mine.name}: is there and was not written by sweep predict"
        refused(SweepError, said, out=mine.with_suffix(".parquet"))
        assert mine.read_bytes() == b"mine"
    for name, change, kind, match in (
        ("encoder", {"encoder": "huge"}, SweepError, "no embeddings of encoder tiny; it has huge"),
        ("width", {"dim": 15}, DataError, "made for embeddings of width 16, those of encoder"),
        ("slides", {"patient": "one"}, DataError, "patient 'one': no row in cases.parquet"),
    ):
        shutil.copytree(strangers, tmp_path / name)
        frame = pd.read_parquet(tmp_path / name / "index.parquet").assign(**change)
        tables.write(frame, tmp_path / name / "index.parquet")
        refused(kind, match, data=tmp_path / name)


def test_weights_that_were_not_kept_or_are_damaged_are_refused(folder, strangers, tmp_path, capsys):
    home = type(folder)(tmp_path / "results" / folder.name)
    shutil.copytree(folder.root.parent, home.root.parent)
    files = sorted(home.segments.glob("*/artefacts/weights-*"))
    whole = files[0].read_bytes()
    files[0].write_bytes(whole[: len(whole) // 2])
    with pytest.raises(StoreError, match=r"weights-\w+\.safetensors: cannot be read"):
        predict.predict(home, Asked(data=strangers), mode="quiet")
    files[0].write_bytes(whole)
    given = load_file(files[0])
    for name, wrong in (("classifier.bias", np.array([np.nan], "f4")), ("classifier.bias", None)):
        changed = {key: each for key, each in given.items() if key != name}
        save_file(changed | ({} if wrong is None else {name: wrong}), files[0])
        with pytest.raises(DataError, match="damaged weights: classifier"):
            predict.predict(home, Asked(data=strangers), mode="quiet")
    files[0].unlink()
    found, _, shown = run(home, strangers, capsys, code=1)
    assert found["trial"].nunique() == 7
    lacking = next(each["cell"] for each in shown["cells"] if each["marks"])
    _, _, shown = run(home, strangers, capsys, code=1, ensemble=True)
    assert shown["left_out"] == {str(lacking): "1 without weights"}
    shutil.rmtree(home.predictions)
    with pytest.raises(SweepError, match="no ensemble: each chosen cell is incomplete"):
        predict.predict(home, Asked(data=strangers, cells=(lacking,), ensemble=True), mode="quiet")
    found, _, _ = run(home, strangers, capsys, ensemble=True, allow_missing=True)
    assert sorted(found.groupby("cell")["models"].first()) == [3, 4]
    judged = cohort.read(evidence.read(home), str(next(home.predictions.glob("*.csv"))))
    assert f"ensemble of cell {lacking}: 1 without weights" in judged.remarks
    for path in files[1:]:
        path.unlink()
    with pytest.raises(SweepError, match="no weights were kept of the 8 chosen trials") as no:
        predict.predict(home, Asked(data=strangers), mode="quiet")
    assert "artefacts: {weights: all}" in no.value.hint


def test_one_scan_is_enough_and_other_origins_are_told(folder, strangers, tmp_path, capsys):
    shutil.copytree(strangers, tmp_path / "one")
    frame = pd.read_parquet(tmp_path / "one" / "index.parquet")
    one = frame[frame["routine"]].iloc[:1].assign(encoder_revision="new", licence="CC-BY-NC-4.0")
    tables.write(one, tmp_path / "one" / "index.parquet")
    found, about, _ = run(folder, tmp_path / "one", capsys)
    assert len(found) == 8 and set(found["view"]) == set(one["view"])
    told = "\n".join(about["notes"])
    assert "encoder tiny: encoder_revision is new, where the models were trained" in told
    assert "embeddings of tiny are under CC-BY-NC-4.0: look before" in told
    data = inputs.path(spec.read(folder.spec), folder.root.parent)
    data.rename(tmp_path / "gone")
    try:
        found, about, _ = run(folder, tmp_path / "one", capsys)
    finally:
        (tmp_path / "gone").rename(data)
    assert "revisions of encoders were not compared" in about["notes"][1]
    assert "names of classes are not known" in about["notes"][0]
    assert about["classes"]["0"] is None and set(found["predicted"]) <= {"0", "1"}
    tables.write(one.iloc[:0], tmp_path / "one" / "index.parquet")
    with pytest.raises(DataError, match="has no rows"):
        predict.predict(folder, Asked(data=tmp_path / "one"), mode="quiet")
