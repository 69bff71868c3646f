import json
import resource
import shutil

import pandas as pd
import pyarrow.parquet as pq
import pytest

from orchestrator import aggregate, archive, events, jobs, preparation, robustness, store
from orchestrator.errors import StoreError, SweepError
from orchestrator.folder import Folder
from tests.orchestrator import finished


@pytest.fixture(scope="module")
def home(tmp_path_factory):
    """A finished sweep, one trial of which failed, and its archive."""
    home = tmp_path_factory.mktemp("with 'quote'")
    text = finished.SPEC + "artefacts: {attention: top, gradients: energy}\n"
    prepared = finished.planned(finished.write_spec(home, text=text), home / "results")
    lost = prepared.plan.packs[0].trials[0].id
    folder = finished.train(prepared, without=[lost])
    events.Journal(folder, "driver").write(
        "failed", pack=prepared.plan.packs[0].id, attempt=1, worker="w", failure="data",
        message="scan A has no tiles", trace="", final=True,
    )  # fmt: skip
    archive.write(folder, home / "kept.parquet", mode="quiet")
    return home


@pytest.fixture
def restored(home, tmp_path):
    archive.restore(home / "kept.parquet", tmp_path / "results", mode="quiet")
    return Folder(tmp_path / "results" / "small")


def sources(home):
    return Folder(home / "results" / "small")


def tables(folder):
    plan, results = store.read_plan(folder), store.read_results(folder)
    joined = aggregate.join(
        plan, results["trials"], results["predictions"], axes=aggregate.axes(plan),
        allow_missing=True,
    )  # fmt: skip
    made = {
        "main": aggregate.main(joined),
        "robustness": robustness.cells(joined),
        "scanners": robustness.scanners(joined),
    }
    assert made["robustness"]["gradient_energy"].notna().any()
    place = folder.root / "copy"
    return [
        path.read_bytes()
        for name, table in made.items()
        for path in aggregate.write(table, place, name)
    ]


def test_a_restored_sweep_gives_the_same_tables_byte_for_byte(home, restored):
    assert tables(restored) == tables(sources(home))


def test_a_restored_sweep_has_the_same_plan_and_results(home, restored):
    before, after = sources(home), restored
    pd.testing.assert_frame_equal(store.read_plan(after), store.read_plan(before))
    found, expected = store.read_results(after), store.read_results(before)
    assert len(expected["predictions"]) > 1000
    for name in store.TABLES:
        pd.testing.assert_frame_equal(found[name], expected[name])


def test_a_restored_sweep_has_the_same_folds_to_the_byte(home, restored):
    assert restored.folds.read_bytes() == sources(home).folds.read_bytes()


def test_an_archive_of_an_earlier_version_has_no_folds_and_is_restored(home, tmp_path):
    source = Folder(tmp_path / "before" / "small")
    shutil.copytree(sources(home).root, source.root)
    source.folds.unlink()
    archive.write(source, tmp_path / "kept.parquet", mode="quiet")
    archive.restore(tmp_path / "kept.parquet", tmp_path / "results", mode="quiet")
    assert not (tmp_path / "results" / "small" / "folds.parquet").exists()


def test_a_restored_sweep_has_the_same_state(home, restored):
    before, after = events.progress(sources(home)), events.progress(restored)
    for name in ("trials", "cells", "accepted", "failed", "packs", "done"):
        assert getattr(after, name) == getattr(before, name), name
    assert not after.launches and not after.submitted


def test_a_restored_sweep_resumes_where_it_was(home, restored, tmp_path):
    made = preparation.prepare(
        restored.spec, results=tmp_path / "results", cluster="local", write=True
    ).plan
    again = finished.prepare(home / "small.yaml", home / "results").plan
    assert made.trial_ids == again.trial_ids and made.done == again.done
    assert made.num_to_train == 0 and len(made.failed) == 2


def test_the_archive_has_a_row_per_trial_with_its_settings_and_results(home):
    rows = pq.read_table(home / "kept.parquet").to_pandas().set_index("trial")
    plan = store.read_plan(sources(home))
    assert sorted(rows.index) == sorted(set(plan["trial"]))
    assert set(rows["outcome"]) == {"done", "failed"}
    failed = rows[rows["outcome"] == "failed"]
    assert set(failed["failure_class"]) == {"data"} and failed["predictions"].map(len).eq(0).all()
    done = rows[rows["outcome"] == "done"].iloc[0]
    assert json.loads(done["config"])["encoder"] == done["encoder"] == "tiny"
    assert {"epoch", "quantity", "value"} == set(done["curves"][0])
    assert {"patient", "scanner", "score", "held_out"} <= set(done["predictions"][0])


def test_cells_that_share_trials_are_both_in_the_archive(home):
    rows = pq.read_table(home / "kept.parquet").to_pandas()
    shared = rows[rows["further"].map(len) > 0]
    assert set(shared["arm"]) == {"erm"}
    assert {place["arm"] for places in shared["further"] for place in places} == {"again"}


def test_the_manifest_says_what_is_there_and_what_is_not(home):
    told = json.loads((home / "kept.parquet.manifest.json").read_text())
    assert told["sweep"] == "small" and told["restore"] == "sweep archive kept.parquet --restore"
    assert told["counts"]["done"] + told["counts"]["failed"] == told["counts"]["trials"]
    kept = list(sources(home).segments.glob("*/artefacts/*"))
    size = sum(path.stat().st_size for path in kept)
    assert kept and told["left_out"] == {"weights_files": len(kept), "weights_bytes": size}
    assert told["licences"].keys() == {"tiny"}
    assert "arms" in told["spec"] and told["code"]["commit"] == "0" * 40


def test_a_sweep_whose_versions_cannot_be_read_is_archived_without_them(home, tmp_path):
    source = Folder(tmp_path / "before" / "small")
    shutil.copytree(sources(home).root, source.root)
    source.code.write_text("torn {")
    archive.write(source, tmp_path / "kept.parquet", mode="quiet")
    archive.restore(tmp_path / "kept.parquet", tmp_path / "results", mode="quiet")
    assert json.loads((tmp_path / "results" / "small" / "code.json").read_text()) == {}


def test_nothing_is_overwritten(home, restored, tmp_path):
    with pytest.raises(SweepError, match=r"kept\.parquet: exists already"):
        archive.write(sources(home), home / "kept.parquet", mode="quiet")
    with pytest.raises(SweepError, match="small: exists already"):
        archive.restore(home / "kept.parquet", tmp_path / "results", mode="quiet")


def test_an_archive_that_was_interrupted_before_its_manifest_is_completed(home, tmp_path):
    out, manifest = tmp_path / "kept.parquet", tmp_path / "kept.parquet.manifest.json"
    shutil.copy(home / "kept.parquet", out)
    archive.write(sources(home), out, mode="quiet")
    assert sorted(tmp_path.iterdir()) == [out, manifest]
    archive.restore(out, tmp_path / "results", mode="quiet")
    manifest.unlink()
    out.write_bytes(b"mine")
    with pytest.raises(SweepError, match=r"kept\.parquet: exists already"):
        archive.write(sources(home), out, mode="quiet")
    assert out.read_bytes() == b"mine" and not list(tmp_path.glob(".kept*"))


def test_a_disk_that_is_full_at_the_manifest_leaves_no_archive(home, tmp_path):
    _, hard = before = resource.getrlimit(resource.RLIMIT_FSIZE)
    least = (home / "kept.parquet").stat().st_size
    folder = Folder(tmp_path / "results" / "small")
    shutil.copytree(sources(home).root, folder.root)
    events.Journal(folder, "driver").write("noted", text="x" * least)
    resource.setrlimit(resource.RLIMIT_FSIZE, (least, hard))
    try:
        with pytest.raises(OSError, match="too large"):
            archive.write(folder, tmp_path / "kept.parquet", mode="quiet")
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
    assert [path.name for path in tmp_path.iterdir()] == ["results"]


def test_a_damaged_archive_is_refused_and_nothing_is_left(home, tmp_path):
    for name in ("kept.parquet", "kept.parquet.manifest.json"):
        (tmp_path / name).write_bytes((home / name).read_bytes())
    data = bytearray((tmp_path / "kept.parquet").read_bytes())
    data[len(data) // 2] ^= 1
    (tmp_path / "kept.parquet").write_bytes(data)
    with pytest.raises(StoreError, match="damaged"):
        archive.restore(tmp_path / "kept.parquet", tmp_path / "results", mode="quiet")
    assert not (tmp_path / "results").exists()


@pytest.mark.parametrize("name", ["../outside", "", ".hidden", "a/b", 7])
def test_a_manifest_with_a_wrong_name_is_refused(home, tmp_path, name):
    told = json.loads((home / "kept.parquet.manifest.json").read_text())
    (tmp_path / "kept.parquet").write_bytes((home / "kept.parquet").read_bytes())
    path = tmp_path / "kept.parquet.manifest.json"
    path.write_text(json.dumps({**told, "sweep": name}))
    with pytest.raises(StoreError, match="not the manifest"):
        archive.restore(tmp_path / "kept.parquet", tmp_path / "results", mode="quiet")
    assert sorted(path.name for path in tmp_path.iterdir()) == [
        "kept.parquet", "kept.parquet.manifest.json"
    ]  # fmt: skip


def test_a_sweep_without_results_is_not_archived(tmp_path):
    prepared = finished.planned(finished.write_spec(tmp_path), tmp_path / "results")
    with pytest.raises(SweepError, match="nothing to archive"):
        archive.write(prepared.folder, tmp_path / "kept.parquet", mode="quiet")
    assert list(tmp_path.glob("*kept*")) == []


def test_a_flipped_bit_in_a_segment_is_not_archived(home, tmp_path):
    source = sources(home)
    folder = Folder(tmp_path / "results" / "small")
    shutil.copytree(source.root, folder.root)
    path = sorted(folder.segments.glob("*/predictions.parquet"))[0]
    whole = path.read_bytes()
    for at in range(100, len(whole), 97):  # some bits are of no consequence
        path.write_bytes(whole[:at] + bytes([whole[at] ^ 1]) + whole[at + 1 :])
        if store.damaged(folder):
            break
    with pytest.raises(StoreError, match="cannot be read"):
        archive.write(folder, tmp_path / "kept.parquet", mode="quiet")
    assert not (tmp_path / "kept.parquet").exists()


def test_a_sweep_that_trains_is_not_archived(home, tmp_path):
    prepared = finished.planned(finished.write_spec(tmp_path), tmp_path / "results")
    journal = events.Journal(prepared.folder, "launch")
    journal.write("launching", **jobs.identity())
    with pytest.raises(StoreError, match="is training"):
        archive.write(prepared.folder, tmp_path / "kept.parquet", mode="quiet")
    assert not (tmp_path / "kept.parquet").exists()
