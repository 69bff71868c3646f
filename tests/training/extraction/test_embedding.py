"""Slides become a data set: every tile once, nothing twice, what is wrong is named."""

import dataclasses
import json
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch

from tests.training.extraction.made_up_slides import (
    CONFIG,
    NAME,
    OTHER,
    bytes_of,
    draw,
    request,
    simple,
    table,
    weights,
)  # fmt: skip
from training.config import Task
from training.data import index, shards, tables
from training.data.bags import Bag, BagReader
from training.data.shards import View
from training.errors import DataError
from training.extraction import decode, embedding, encoders, slides, staging
from training.extraction import weights as kept_weights
from training.extraction.config_registration import RegistrationConfig
from training.extraction.encoder_table import find


@pytest.fixture(scope="module")
def embedded(tmp_path_factory):
    """Three slides and the data set made of them."""
    folder = tmp_path_factory.mktemp("with space 'and' quote")
    asked = request(simple(folder), folder / "data")
    report = embedding.run(asked)
    assert report.failed == () and report.notes == ()
    return asked


def bags(data, encoder=NAME):
    dataset = index.read(data)
    reader = BagReader(data)
    rows = dataset.index[dataset.index["encoder"] == encoder]
    return {
        row.view: (reader.embeddings(row), reader.coords(row), reader.tiles(row))
        for row in rows.itertuples(index=False)
    }


def test_the_data_set_is_sound_and_says_how_it_was_made(embedded):
    dataset = index.read(embedded.out)
    assert index.check(dataset, encoders=[NAME], task=Task(kind="binary")) == []
    rows = dataset.index
    assert list(rows["view"]) == ["s 0'é", "s 1'é", "s 2'é"]
    assert set(rows["licence"]) == {"apache-2.0"} and set(rows["precision"]) == {"float32"}
    assert rows["encoder_revision"].str.startswith("sha256:").all()
    assert set(rows["mpp_read"]) == {1.0} and set(rows["tile_um"]) == {64.0}
    assert dict(zip(dataset.cases["patient"], dataset.cases["label"], strict=True)) == {
        "p0": "a", "p1": "b", "p2": "a"
    }  # fmt: skip
    assert not (embedded.out / staging.FOLDER).exists()
    for name in rows["view"]:
        assert (
            embedded.out
            / "thumbnails"
            / f"{name.replace(chr(39), '%27').replace('é', '%C3%A9')}.png"
        ).is_file()


def test_an_embedding_is_that_of_the_tile_at_its_coordinates(embedded):
    encoder = find(NAME)
    loaded = encoders.load(encoder, kept_weights.locate(encoder, embedded.checkpoints[NAME]))
    for view, (found, coords, _) in bags(embedded.out).items():
        with slides.open_slide(embedded.slides.parent / f"{view}.png", mpp=1.0) as slide:
            read = np.stack([slide.read(x, y, CONFIG.tiling) for x, y in coords.tolist()])
        expected = loaded.embed(torch.from_numpy(read)).numpy()
        np.testing.assert_allclose(found, expected, rtol=2e-3, atol=2e-3)


def test_a_second_time_nothing_is_read_and_nothing_changes(embedded, monkeypatch):
    before = bytes_of(embedded.out)
    monkeypatch.setattr(slides.Slide, "read", None)
    report = embedding.run(embedded)
    assert (report.num_embedded, report.failed) == (0, ())
    assert report.encoders[NAME] == {"views": 3, "tiles": 36, "licence": "apache-2.0"}
    assert bytes_of(embedded.out) == before


def test_a_label_that_was_mended_reaches_the_data_set_without_reading_a_slide(
    embedded, tmp_path, monkeypatch
):
    shutil.copytree(embedded.out, tmp_path / "data")
    monkeypatch.setattr(slides.Slide, "read", None)
    before = bags(embedded.out)
    text = embedded.slides.read_text()
    embedded.slides.write_text(text.replace("p1,A,b", "p1,B,a"))
    try:
        report = embedding.run(request(embedded.slides, tmp_path / "data"))
    finally:
        embedded.slides.write_text(text)
    assert report.num_embedded == 0
    dataset = index.read(tmp_path / "data")
    assert list(dataset.cases["label"]) == ["a", "a", "a"]
    assert list(dataset.index["scanner"]) == ["A", "B", "A"]
    found = bags(tmp_path / "data")
    assert all(np.array_equal(found[view][0], before[view][0]) for view in before)


@pytest.mark.slow
def test_what_was_mended_reaches_all_encoders_that_are_asked_for_and_no_others(
    embedded, tmp_path, monkeypatch
):
    asked = request(embedded.slides, tmp_path / "data", encoders=(NAME, OTHER))
    embedding.run(asked)
    monkeypatch.setattr(slides.Slide, "read", None)
    text = embedded.slides.read_text()
    embedded.slides.write_text(text.replace("p1,A,b", "p1,B,a"))
    try:
        with pytest.raises(DataError, match="label is 'a', but 'b' in the data set, where another"):
            embedding.run(dataclasses.replace(asked, encoders=(OTHER,), checkpoints={
                OTHER: asked.checkpoints[OTHER]
            }))  # fmt: skip
        report = embedding.run(asked)
    finally:
        embedded.slides.write_text(text)
    assert (report.num_embedded, report.failed) == (0, ())
    dataset = index.read(asked.out)
    assert list(dataset.cases["label"]) == ["a", "a", "a"]
    assert list(dataset.index["scanner"]) == ["A", "B", "A"] * 2
    assert tables.contradictions(dataset.index, dataset.cases) == []


@pytest.mark.slow
def test_folds_reach_the_data_set_later_too_and_patients_without_bags_wait(embedded, tmp_path):
    shutil.copytree(embedded.out, tmp_path / "data")
    folds = tmp_path / "folds.csv"

    def held():
        found = index.read(tmp_path / "data").folds
        return None if found is None else found.to_numpy().tolist()

    folds.write_text("fold,slide\n1,s 0'é\n0,s 1'é\n0,s 2'é\n", encoding="utf-8")
    short = request(embedded.slides, tmp_path / "short", folds=folds, limit=1)
    assert embedding.run(short).failed == ()
    assert index.read(tmp_path / "short").folds["patient"].tolist() == ["p0"]
    asked = request(embedded.slides, tmp_path / "data", folds=folds)
    assert held() is None
    assert embedding.run(asked).num_embedded == 0
    assert held() == [[0, 0, "p1"], [0, 0, "p2"], [0, 1, "p0"]]
    before = bytes_of(asked.out)
    embedding.run(request(embedded.slides, asked.out))
    embedding.run(asked)
    assert bytes_of(asked.out) == before
    rows = [
        {"slide": f"n{number}", "scan": f"n{number}", "patient": patient, "label": label,
         "file": file}
        for number, (patient, label, file) in enumerate(
            [("p1", "b", "cut.png"), ("p2", "a", "s 2'é.png"), ("new", "a", "cut.png")]
        )
    ]  # fmt: skip
    folds.write_text("fold,patient\n1,p1\n1,p2\n0,new\n")
    further = table(tmp_path, rows)
    shutil.copy(asked.slides.parent / "s 2'é.png", tmp_path)
    (tmp_path / "cut.png").write_bytes(b"no slide")
    report = embedding.run(request(further, asked.out, folds=folds))
    assert len(report.failed) == 2
    assert held() == [[0, 1, "p0"], [0, 1, "p1"], [0, 1, "p2"]]
    folds.write_text("fold,patient\n0,p0\n1,p9\n")
    with pytest.raises(DataError, match="patient 'p9' is not in the data"):
        embedding.run(asked)


@pytest.mark.slow
def test_several_encoders_share_one_reading_of_the_slides(embedded, tmp_path, monkeypatch):
    reads = []
    read = slides.Slide.read
    monkeypatch.setattr(
        slides.Slide, "read", lambda self, x, y, t: reads.append((x, y)) or read(self, x, y, t)
    )
    report = embedding.run(request(embedded.slides, tmp_path / "data", encoders=(NAME, OTHER)))
    assert len(reads) == report.num_embedded == 36
    one, other = bags(tmp_path / "data", NAME), bags(tmp_path / "data", OTHER)
    alone = bags(embedded.out)
    for view in one:
        assert np.array_equal(one[view][0], alone[view][0])
        assert np.array_equal(one[view][2], other[view][2])
        assert one[view][0].shape[1] != other[view][0].shape[1]


def test_limit_and_then_all_gives_the_same_bags_and_reads_only_what_is_new(embedded, tmp_path):
    first = embedding.run(request(embedded.slides, tmp_path / "data", limit=1))
    assert first.encoders[NAME]["views"] == 1 and first.num_slides == 1
    rest = embedding.run(request(embedded.slides, tmp_path / "data"))
    assert rest.num_embedded == 36 - first.num_embedded
    found, expected = bags(tmp_path / "data"), bags(embedded.out)
    assert found.keys() == expected.keys()
    assert all(
        np.array_equal(a, b)
        for view in found
        for a, b in zip(found[view], expected[view], strict=True)
    )


@pytest.mark.slow
def test_what_changes_a_bag_makes_it_anew(embedded, tmp_path):
    shutil.copytree(embedded.out, tmp_path / "data")
    changed = CONFIG.model_copy(
        update={"tiling": CONFIG.tiling.model_copy(update={"overlap_px": 16})}
    )
    report = embedding.run(request(embedded.slides, tmp_path / "data", config=changed))
    assert report.encoders[NAME]["tiles"] == report.num_embedded > 36


@pytest.mark.slow
def test_shares_of_several_processes_come_together(embedded, tmp_path):
    asked = request(embedded.slides, tmp_path / "data")
    for number in (1, 0):
        report = embedding.run(asked, share=(number, 2))
        assert report.num_slides == 2 - number and not (tmp_path / "data/index.parquet").exists()
    assert embedding.run(asked).num_embedded == 0
    assert bytes_of(tmp_path / "data") == bytes_of(embedded.out)


def test_augmented_views_have_the_tiles_of_their_scan_and_are_no_scanner(embedded, tmp_path):
    given = {"views": [{"name": "jpeg", "steps": [{"kind": "jpeg", "quality": [20, 30]}]}]}
    config = CONFIG.model_validate({**CONFIG.model_dump(), **given})
    embedding.run(request(embedded.slides, tmp_path / "data", config=config, limit=2))
    rows = index.read(tmp_path / "data").index.set_index("view")
    found = bags(tmp_path / "data")
    for scan in ("s 0'é", "s 1'é"):
        view = f"{scan}-jpeg"
        assert rows.loc[view, "source_scan"] == scan and not rows.loc[view, "routine"]
        assert rows.loc[view, "scanner"] == rows.loc[scan, "scanner"]
        assert np.array_equal(found[view][1], found[scan][1])
        assert np.array_equal(found[view][2], found[scan][2])
        assert not np.array_equal(found[view][0], found[scan][0])
        assert np.array_equal(found[scan][0], bags(embedded.out)[scan][0])


def test_slides_that_cannot_be_read_are_named_and_the_others_finished(tmp_path):
    simple(tmp_path, 1)
    (tmp_path / "rubbish.svs").write_bytes(b"no slide" * 100)
    whole = draw(tmp_path / "whole.png", seed=5).read_bytes()
    (tmp_path / "cut.png").write_bytes(whole[: len(whole) // 2])
    blank = np.full((300, 300, 3), 244, np.uint8)
    from PIL import Image

    Image.fromarray(blank).save(tmp_path / "blank.png")
    files = {"a": "s 0'é.png", "r": "rubbish.svs", "c": "cut.png", "b": "blank.png"}
    rows = [
        {"slide": k, "scan": k, "patient": k, "label": "x", "file": v} for k, v in files.items()
    ]
    report = embedding.run(request(table(tmp_path, rows), tmp_path / "data"))
    assert {line.split("'")[1] for line in report.failed} == {"r", "c", "b"}
    assert report.encoders[NAME]["views"] == 1
    shutil.copy(tmp_path / "whole.png", tmp_path / "cut.png")
    again = embedding.run(request(table(tmp_path, rows), tmp_path / "data"))
    assert {line.split("'")[1] for line in again.failed} == {"r", "b"}
    assert set(bags(tmp_path / "data")) == {"a", "c"}


@pytest.mark.slow
def test_a_slide_without_its_routine_scan_is_left_out(tmp_path):
    simple(tmp_path, 1)
    (tmp_path / "rubbish.svs").write_bytes(b"no slide")
    rows = [
        {"slide": "a", "scan": "a1", "patient": "a", "label": "x", "file": "rubbish.svs"},
        {"slide": "a", "scan": "a2", "patient": "a", "label": "x", "file": "s 0'é.png"},
    ]
    report = embedding.run(request(table(tmp_path, rows), tmp_path / "data"))
    assert ["a1" in line for line in report.failed] == [True]
    assert report.encoders[NAME]["views"] == 0


@pytest.mark.slow
def test_scans_that_are_not_registered_have_numbers_of_their_own(tmp_path):
    simple(tmp_path, 1)
    rows = [
        {"slide": "a", "scan": name, "patient": "a", "label": "x", "file": "s 0'é.png"}
        for name in ("a1", "a2", "a3")
    ]
    report = embedding.run(request(table(tmp_path, rows), tmp_path / "data"))
    assert len(report.notes) == 2 and "registration is off" in report.notes[0]
    numbers = [set(tile.tolist()) for _, _, tile in bags(tmp_path / "data").values()]
    assert len(set.union(*numbers)) == sum(map(len, numbers)) == 36


@pytest.mark.slow
def test_pairs_are_drawn_and_told_accepted_or_refused_and_told_again_later(tmp_path):
    simple(tmp_path, 1)
    for name, x in (("same", 0), ("away", 5000)):
        affine = {"unit": "px", "affine": [[1, 0, x], [0, 1, 0]]}
        (tmp_path / f"{name}.json").write_text(json.dumps(affine))
    rows = [
        {"slide": "a", "scan": name, "patient": "a", "label": "x", "file": "s 0'é.png",
         "transform": given}
        for name, given in (("a1", ""), ("a '2'", "same.json"), ("a3", "away.json"))
    ]  # fmt: skip
    config = CONFIG.model_copy(update={"registration": RegistrationConfig(thumbnail_px=128)})
    asked = request(table(tmp_path, rows), tmp_path / "data", config=config)
    report = embedding.run(asked)
    assert report.failed == () and len(report.notes) == 1
    accepted, refused = report.pairs
    assert (accepted["scan"], accepted["reference"], accepted["refused"]) == ("a '2'", "a1", "")
    assert accepted["quality"] > 0.9 and accepted["overlap"] == 1.0
    assert abs(accepted["turn_degrees"]) < 1e-9
    assert refused["scan"] == "a3" and refused["refused"] in report.notes[0]
    assert refused["overlap"] == 0.0
    drawn = {path.name for path in (asked.out / "thumbnails" / "pairs").glob("*.png")}
    assert drawn == {"a %272%27.png", "a3.png"}
    again = embedding.run(asked)
    assert again.num_embedded == 0 and again.pairs == report.pairs
    off = embedding.run(request(asked.slides, asked.out))
    assert off.pairs == ()


@pytest.mark.slow
def test_a_copy_of_a_scan_in_a_file_has_the_tiles_of_its_scan(tmp_path):
    simple(tmp_path, 1)
    draw(tmp_path / "copy.png", seed=9)
    rows = [
        {"slide": "a", "scan": "a1", "patient": "a", "label": "x", "file": "s 0'é.png"},
        {"slide": "a", "scan": "a1-x", "patient": "a", "label": "x", "file": "copy.png",
         "source_scan": "a1"},
    ]  # fmt: skip
    report = embedding.run(request(table(tmp_path, rows), tmp_path / "data"))
    assert report.failed == ()
    found = bags(tmp_path / "data")
    assert np.array_equal(found["a1"][1], found["a1-x"][1])
    draw(tmp_path / "copy.png", seed=9, side=300)
    report = embedding.run(request(table(tmp_path, rows), tmp_path / "data"))
    assert "300 x 300" in report.failed[0] and set(bags(tmp_path / "data")) == {"a1", "a1-x"}


@pytest.mark.slow
def test_what_is_in_the_data_set_and_not_in_the_table_stays(embedded, tmp_path):
    shutil.copytree(embedded.out, tmp_path / "data")
    draw(tmp_path / "new.png", seed=11)
    rows = [{"slide": "n", "scan": "n", "patient": "pn", "label": "a", "file": "new.png"}]
    embedding.run(request(table(tmp_path, rows), tmp_path / "data"))
    found = bags(tmp_path / "data")
    assert set(found) == {"n", "s 0'é", "s 1'é", "s 2'é"}
    assert set(index.read(tmp_path / "data").cases["patient"]) == {"p0", "p1", "p2", "pn"}


def test_weights_of_another_network_are_refused(embedded, tmp_path):
    wrong = {NAME: weights(tmp_path, OTHER)}
    with pytest.raises(DataError, match="not the weights of encoder 'test_vit'"):
        embedding.run(request(embedded.slides, tmp_path / "data", checkpoints=wrong))


@pytest.mark.slow
def test_a_scan_with_broken_tiles_is_refused_or_loses_them(embedded, tmp_path, monkeypatch):
    read = slides.Slide.read

    def breaks(self, x, y, tiling):
        if self.path.name.startswith("s 1") and (x, y) == tuple(first):
            raise slides.BrokenTileError("broken")
        return read(self, x, y, tiling)

    def all_break(self, x, y, tiling):
        if self.path.name.startswith("s 1"):
            raise slides.BrokenTileError("broken")
        return read(self, x, y, tiling)

    first = bags(embedded.out)["s 1'é"][1][0].tolist()
    monkeypatch.setattr(slides.Slide, "read", breaks)
    report = embedding.run(request(embedded.slides, tmp_path / "strict"))
    assert [line for line in report.failed if "1 of 12 tiles are broken" in line] == list(
        report.failed
    )
    monkeypatch.setattr(slides.Slide, "read", all_break)
    every = CONFIG.model_copy(update={"max_broken": 1.0})
    report = embedding.run(request(embedded.slides, tmp_path / "none", config=every))
    assert len(report.failed) == 1 and "12 of 12 tiles are broken" in report.failed[0]
    assert report.encoders[NAME]["views"] == 2
    monkeypatch.setattr(slides.Slide, "read", breaks)
    lenient = CONFIG.model_copy(update={"max_broken": 0.1})
    report = embedding.run(request(embedded.slides, tmp_path / "lenient", config=lenient))
    assert report.failed == () and "1 of 12 tiles are broken and left out" in report.notes[0]
    found, whole = bags(tmp_path / "lenient")["s 1'é"], bags(embedded.out)["s 1'é"]
    assert np.array_equal(found[2], whole[2][1:]) and np.array_equal(found[1], whole[1][1:])
    np.testing.assert_allclose(found[0], whole[0][1:], rtol=2e-3, atol=2e-3)


@pytest.mark.slow
def test_a_disk_that_is_full_is_named_by_scan_and_the_rest_goes_on(embedded, tmp_path, monkeypatch):
    written = []

    def full(file, *args, **kwargs):
        written.append(file)
        if len(written) == 2:
            raise OSError(28, "No space left on device")
        staging_write(file, *args, **kwargs)

    staging_write = staging.write
    monkeypatch.setattr(staging, "write", full)
    report = embedding.run(request(embedded.slides, tmp_path / "data"))
    assert len(report.failed) == 1 and "No space left" in report.failed[0]
    assert report.encoders[NAME]["views"] == 2
    assert embedding.run(request(embedded.slides, tmp_path / "data")).failed == ()
    found, expected = bags(tmp_path / "data"), bags(embedded.out)
    assert all(np.array_equal(found[view][0], expected[view][0]) for view in expected)


def copied(asked, folder, **changes):
    """The same request, of a copy of its data set."""
    shutil.copytree(asked.out, folder / "data")
    return request(asked.slides, folder / "data", **changes)


def test_a_licence_that_is_given_later_reaches_the_data_set_and_no_slide_is_read(
    embedded, tmp_path, monkeypatch
):
    given = {"encoders": {NAME: {"licence": "for our clinic only"}}}
    config = CONFIG.model_validate({**CONFIG.model_dump(exclude_unset=True), **given})
    monkeypatch.setattr(slides.Slide, "read", None)
    report = embedding.run(copied(embedded, tmp_path, config=config))
    assert report.encoders[NAME] == {"views": 3, "tiles": 36, "licence": "for our clinic only"}


@pytest.mark.slow
def test_a_scan_that_left_the_table_leaves_the_data_set(tmp_path):
    simple(tmp_path, 1)
    rows = [
        {"slide": "a", "scan": name, "patient": "a", "label": "x", "file": "s 0'é.png"}
        for name in ("a1", "a2")
    ]
    embedding.run(request(table(tmp_path, rows), tmp_path / "data"))
    assert set(bags(tmp_path / "data")) == {"a1", "a2"}
    report = embedding.run(request(table(tmp_path, rows[:1]), tmp_path / "data"))
    assert report.num_embedded == 0 and set(bags(tmp_path / "data")) == {"a1"}


def test_bags_that_an_import_put_in_their_place_are_not_taken_for_its_own(embedded, tmp_path):
    asked = copied(embedded, tmp_path)
    dataset = index.read(asked.out)
    names = [field.name for field in dataclasses.fields(View)]
    views = [
        View(**{name: getattr(row, name) for name in names})
        for row in dataset.index.itertuples(index=False)
    ]

    def load(view):
        return Bag(
            embeddings=np.zeros((view.num_tiles, view.dim), np.float16),
            tile=np.arange(view.num_tiles, dtype=np.int32),
            coords=np.zeros((view.num_tiles, 2), np.int32),
        )

    shards.write(asked.out, encoder=NAME, views=views, load=load, cases=dataset.cases)
    assert embedding.run(asked).num_embedded == 36
    found, expected = bags(asked.out), bags(embedded.out)
    assert all(np.array_equal(found[view][0], expected[view][0]) for view in expected)


@pytest.mark.parametrize("moment", ["keep", "clear"])
def test_killed_behind_the_index_the_same_bytes_come(embedded, tmp_path, monkeypatch, moment):
    asked = request(embedded.slides, tmp_path / "data")
    with monkeypatch.context() as patched:

        def kill(*_):
            raise KeyboardInterrupt

        patched.setattr(staging, moment, kill)
        with pytest.raises(KeyboardInterrupt):
            embedding.run(asked)
    assert (asked.out / staging.FOLDER).exists() and (asked.out / "index.parquet").exists()
    report = embedding.run(asked)
    assert (report.num_embedded, report.failed) == (0, ())
    assert bytes_of(asked.out) == bytes_of(embedded.out)
    assert not (asked.out / staging.FOLDER).exists()


@pytest.mark.parametrize("share", [None, (0, 2)])
def test_views_made_otherwise_that_would_stay_are_told_before_a_slide_is_read(
    embedded, tmp_path, monkeypatch, share
):
    draw(tmp_path / "new.png", seed=11)
    rows = [{"slide": "n", "scan": "n", "patient": "pn", "label": "a", "file": "new.png"}]
    smaller = CONFIG.model_copy(
        update={"tiling": CONFIG.tiling.model_copy(update={"tile_px": 32, "mpp": 2.0})}
    )
    asked = dataclasses.replace(
        copied(embedded, tmp_path, config=smaller), slides=table(tmp_path, rows),
        checkpoints={NAME: weights(tmp_path)},
    )  # fmt: skip
    monkeypatch.setattr(slides.Slide, "read", None)
    with pytest.raises(DataError, match="'test_vit' by other tiles, of slides that are not in"):
        embedding.run(asked, share=share)


def test_a_scan_without_a_scale_is_told_which_column_gives_it(tmp_path):
    simple(tmp_path, 1)
    rows = [{"slide": "a", "scan": "a", "patient": "a", "label": "x", "file": "s 0'é.png",
             "mpp": ""}]  # fmt: skip
    report = embedding.run(request(table(tmp_path, rows), tmp_path / "data"))
    assert "scan 'a'" in report.failed[0] and "in the column 'mpp'" in report.failed[0]
    assert (report.num_embedded, report.tiles_per_s) == (0, 0.0)


def test_a_name_may_be_longer_than_names_of_files(tmp_path):
    simple(tmp_path, 1)
    name = "標本" * 60
    rows = [{"slide": name, "scan": name, "patient": name, "label": "x", "file": "s 0'é.png"}]
    report = embedding.run(request(table(tmp_path, rows), tmp_path / "data"))
    assert report.failed == () and set(bags(tmp_path / "data")) == {name}
    drawn = [path.name for path in (tmp_path / "data" / "thumbnails").iterdir()]
    assert len(drawn) == 2 and max(map(len, drawn)) < 200


def test_tiles_of_a_file_that_fails_are_not_counted_as_embedded(embedded, tmp_path, monkeypatch):
    def fails(job, slide):
        raise OSError(5, "Input/output error")

    monkeypatch.setattr(decode, "_decode", fails)
    report = embedding.run(request(embedded.slides, tmp_path / "data", limit=1))
    assert (report.num_embedded, report.tiles_per_s) == (0, 0.0)
    assert "s 0'é.png: [Errno 5]" in report.failed[0]


@pytest.mark.parametrize(
    ("error", "raised", "words"),
    [
        (torch.OutOfMemoryError("CUDA out of memory.\nmore"), DataError, "test_vit: no room"),
        (RuntimeError("Caught RuntimeError in DataLoader worker process 0."), RuntimeError, "ught"),
        (
            RuntimeError("DataLoader worker (pid 7) is killed by signal"),
            DataError,
            "died, near slide",
        ),
    ],
)
def test_memory_that_runs_out_is_told_and_our_bugs_are_not_taken_for_it(
    embedded, tmp_path, monkeypatch, error, raised, words
):
    def fails(self, tiles):
        raise error

    monkeypatch.setattr(encoders.Loaded, "embed", fails)
    with pytest.raises(raised, match=words):
        embedding.run(request(embedded.slides, tmp_path / "data", limit=1))


@pytest.mark.gpu
def test_on_a_gpu_the_embeddings_are_those_of_the_cpu(embedded, tmp_path):
    asked = request(embedded.slides, Path(tmp_path / "data"), device="cuda", workers=2)
    assert embedding.run(asked).failed == ()
    found, expected = bags(tmp_path / "data"), bags(embedded.out)
    for view in expected:
        np.testing.assert_allclose(found[view][0], expected[view][0], rtol=1e-2, atol=1e-2)
