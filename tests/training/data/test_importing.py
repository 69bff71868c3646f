import os
import subprocess
import sys
from pathlib import Path

import h5py
import numpy as np
import pandas as pd
import pytest

from tests.training.data import examples
from training.config import GivenFolds, Task
from training.data import folds, importing, index
from training.data.bags import BagReader
from training.errors import DataError

ROOT = Path(__file__).parents[3]


@pytest.fixture(scope="session")
def real_data() -> Path:
    found = Path(os.environ.get("SWEEP_TEST_DATA", ROOT / ".." / "shared" / "data"))
    if not found.is_dir():
        pytest.skip(f"no real data at {found}; set SWEEP_TEST_DATA")
    return found.resolve()


@pytest.fixture(scope="session")
def classic(real_data: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("classic")
    command = [sys.executable, "-m", "tests.classic_mil", real_data / "mil-classic", out]
    subprocess.run(command, check=True, cwd=ROOT)
    return out


def cohort(folder: Path, names: tuple[str, ...] = ("p1", "p2", "p3", "p4")) -> Path:
    """Write feature files and a slide table: a slide per patient on two scanners."""
    coords = np.arange(10).reshape(5, 2)
    rows = []
    for number, name in enumerate(names):
        for scanner in ("AT2", "GT"):
            scan = f"{name} {scanner}"
            features = examples.features(seed=number)
            examples.h5(folder / f"{number} {scanner}.h5", feats=features, coords=coords)
            rows.append(
                {"slide": f"slide {name}", "patient": name, "scan": scan, "scanner": scanner}
            )
            rows[-1] |= {"label": str(number % 2), "file": f"{number} {scanner}.h5"}
    return examples.csv(folder / "slides.csv", rows)


def message(*args: Path, **given: object) -> list[str]:
    with pytest.raises(DataError) as error:
        importing.import_features(*args, **given)  # type: ignore[arg-type]  # a test's own mistake shows
    return error.value.message.splitlines()


def test_a_folder_of_features_becomes_a_sound_data_set(tmp_path: Path) -> None:
    table = cohort(tmp_path / "in", examples.AWKWARD)
    seen: list[tuple[int, int]] = []
    report = importing.import_features(
        tmp_path / "in",
        table,
        out=tmp_path / "out",
        encoder="uni",
        licence="CC BY 4.0",
        progress=lambda done, total: seen.append((done, total)),
    )
    dataset = index.read(tmp_path / "out")
    assert index.check(dataset, encoders=["uni"], task=Task(), num_checksums=99) == []
    assert seen == [(number, 24) for number in range(1, 25)]
    assert (report.num_patients, report.num_scans, report.num_tiles) == (6, 12, 60)
    assert (report.num_matched, report.num_float32, report.notes) == (6, 0, ())
    assert set(dataset.cases["patient"]) == set(examples.AWKWARD)
    assert set(dataset.index["licence"]) == {"CC BY 4.0"}
    row = dataset.index.set_index("scan").loc["new\nline GT"]
    np.testing.assert_array_equal(
        BagReader(dataset.root).embeddings(row), examples.features(seed=5).astype(np.float16)
    )


def test_the_same_import_gives_the_same_bytes(tmp_path: Path) -> None:
    table = cohort(tmp_path / "in")
    for out in ("one", "two"):
        importing.import_features(tmp_path / "in", table, out=tmp_path / out, encoder="uni")
    assert examples.files(tmp_path / "one") == examples.files(tmp_path / "two")


def test_one_slide_is_enough_and_scan_and_file_have_defaults(tmp_path: Path) -> None:
    examples.h5(tmp_path / "a slide.h5", features=examples.features() * 1e6)
    table = examples.csv(tmp_path / "slides.csv", [{"slide": "a slide", "patient": "p"}])
    report = importing.import_features(tmp_path, table, out=tmp_path / "out", encoder="uni")
    assert (report.num_scans, report.num_float32, report.dim) == (1, 1, 4)
    row = index.read(tmp_path / "out").index.iloc[0]
    assert (row["scan"], row["view"], row["dtype"], row["routine"]) == (
        *("a slide", "a slide"),
        *("float32", True),
    )


def test_everything_wrong_is_reported_at_once_and_nothing_is_left(tmp_path: Path) -> None:
    folder = tmp_path / "in"
    table = cohort(folder)
    rows = pd.read_csv(table, dtype="str")
    rows.loc[1, "patient"] = "p4"
    rows.loc[2, "label"] = "9"
    rows.loc[3, "scan"] = rows.loc[2, "scan"]
    rows.to_csv(table, index=False)
    (folder / "0 AT2.h5").unlink()
    (folder / "0 GT.h5").write_bytes(b"")
    examples.h5(folder / "2 AT2.h5", wrong=examples.features())
    examples.h5(folder / "2 GT.h5", feats=examples.features()[:0])
    examples.h5(folder / "3 AT2.h5", feats=examples.features() * np.nan)
    examples.h5(folder / "3 GT.h5", feats=examples.features(dim=9))
    held = tmp_path / "folds.csv"
    held.write_text("fold,patient\n0,p1\n1,p9\n")
    found = message(folder, table, out=tmp_path / "out", encoder="uni", folds=held)
    for expected in (
        f"{table}:5: scan 'p2 AT2' again, first in line 4",
        f"{table}:5: label of patient 'p2' is '1', and '9' in an earlier line",
        f"{held}:3: patient 'p9' is not in the data",
        f"{table}: slide 'slide p1': belongs to several patients: 'p1', 'p4'",
        f"{folder / '0 AT2.h5'}: missing, for scan 'p1 AT2'",
        f"{folder / '0 GT.h5'}: cannot be read",
        f"{folder / '2 AT2.h5'}: has 'wrong', expected exactly one of",
        f"{folder / '2 GT.h5'}: has no tiles",
        f"{folder / '3 AT2.h5'}: 5 tiles hold NaN or infinity",
        f"{folder / '3 GT.h5'}: features are 9 wide",
    ):
        assert any(line.startswith(expected) for line in found), (expected, found)
    assert not (tmp_path / "out").exists()


def test_a_second_encoder_is_added_beside_the_first(tmp_path: Path) -> None:
    table = cohort(tmp_path / "in")
    for encoder in ("uni", "virchow2"):
        importing.import_features(tmp_path / "in", table, out=tmp_path / "out", encoder=encoder)
    dataset = index.read(tmp_path / "out")
    encoders = ["uni", "virchow2"]
    assert index.missing_encoders(dataset, encoders) == []
    assert index.check(dataset, encoders=encoders, task=Task()) == []


def test_a_second_encoder_whose_table_disagrees_is_refused_before_reading(tmp_path: Path) -> None:
    table = cohort(tmp_path / "in")
    importing.import_features(tmp_path / "in", table, out=tmp_path / "out", encoder="uni")
    before = examples.files(tmp_path / "out")
    text = table.read_text(encoding="utf-8").replace("p1 GT,GT,0", "p1 GT,P1000,0")
    table.write_text(text.replace("AT2,1,", "AT2,0,").replace("GT,1,", "GT,0,"), encoding="utf-8")
    found = message(tmp_path / "in", table, out=tmp_path / "out", encoder="two")
    assert f"{table}: view 'p1 GT': scanner differs between rows: 'GT', 'P1000'" in found
    assert any("patient 'p2': label is '0', but '1' in the data set" in line for line in found)
    assert examples.files(tmp_path / "out") == before


def test_a_foreign_or_impossible_output_folder_is_refused(tmp_path: Path) -> None:
    table = cohort(tmp_path / "in")
    found = message(tmp_path / "in", table, out=tmp_path / "in", encoder="uni")
    assert "and no index.parquet, so it is not a data set" in found[0]
    found = message(tmp_path / "in", table, out=table / "deep", encoder="uni")
    assert "cannot be written" in found[0]


def test_notes_tell_of_unused_files_and_unmatched_slides(tmp_path: Path) -> None:
    table = cohort(tmp_path / "in")
    with h5py.File(tmp_path / "in" / "0 GT.h5", "r+") as file:
        file["coords"][0] = 77
    examples.h5(tmp_path / "in" / "spare.h5", feats=examples.features())
    report = importing.import_features(tmp_path / "in", table, out=tmp_path / "o", encoder="uni")
    assert report.num_matched == 3
    assert report.notes == (
        f"1 files in {tmp_path / 'in'} are not in slides.csv: 'spare.h5'",
        "1 slides have several scans whose tiles cannot be matched: 'slide p1'",
    )


def instances(folder: Path, **columns: object) -> Path:
    frame = pd.DataFrame({"bag": list("aabbb"), "label": [1, 1, 0, 0, 0], "f": range(5), "g": 0.5})
    folder.mkdir(exist_ok=True)
    frame.assign(**columns).to_csv(folder / "t.csv", index=False, encoding="utf-8-sig")
    return folder / "t.csv"


def test_a_table_of_instances_becomes_a_data_set(tmp_path: Path) -> None:
    table = instances(tmp_path, bag=list("ababb"), label=[1, 0, 1, 0, 0])
    held = tmp_path / "folds.csv"
    held.write_text("fold,bag\n0,a\n1,b\n")
    report = importing.import_instances(table, out=tmp_path / "out", encoder="raw", folds=held)
    dataset = index.read(tmp_path / "out")
    assert index.check(dataset, encoders=["raw"], task=Task()) == []
    assert (report.num_scans, report.num_tiles, report.dim, report.num_float32) == (2, 5, 2, 2)
    reader = BagReader(dataset.root)
    assert reader.embeddings(dataset.index.iloc[0]).tolist() == [[0, 0.5], [2, 0.5]]
    assert dataset.folds is not None
    assert dataset.folds["patient"].tolist() == ["a", "b"]


def test_bags_may_belong_to_patients(tmp_path: Path) -> None:
    table = instances(tmp_path, case=["x", "x", "x", "x", "x"], label="1")
    importing.import_instances(table, out=tmp_path / "out", encoder="raw", patient="case")
    dataset = index.read(tmp_path / "out")
    assert dataset.cases.to_dict("records") == [{"patient": "x", "label": "1"}]


def test_wrong_instances_are_reported_at_once(tmp_path: Path) -> None:
    table = instances(
        tmp_path, bag=["a", "a", "b", "b", ""], label=[1, 0, 0, 0, 1], g=["1", "", "x", "2", "3"]
    )
    with pytest.raises(DataError) as error:
        importing.import_instances(table, out=tmp_path / "out", encoder="raw")
    assert error.value.message.splitlines() == [
        f"{table}: column 'g': 2 cells are no finite number, the first is '' in row 2",
        f"{table}: row 5 has no bag or no patient",
        f"{table}: label of patient 'a' has several values: '0', '1'",
    ]
    assert not (tmp_path / "out").exists()


def test_a_table_without_features_is_refused(tmp_path: Path) -> None:
    table = tmp_path / "t.csv"
    table.write_text("bag,label\na,1\n")
    with pytest.raises(DataError, match="no columns beside bag, label and patient"):
        importing.import_instances(table, out=tmp_path / "out", encoder="raw")


def test_patients_in_no_fold_are_counted(tmp_path: Path) -> None:
    rows = [{"bag": f"b{n}", "label": n % 2, "x": n, "y": 0.5} for n in range(6)]
    table = examples.csv(tmp_path / "bags.csv", rows)
    held = [{"bag": f"b{n}", "fold": n % 2, "repetition": r} for r in (0, 1) for n in range(4 + r)]
    given = {"out": tmp_path / "out", "encoder": "raw"}
    folds_csv = examples.csv(tmp_path / "folds.csv", held)
    report = importing.import_instances(table, folds=folds_csv, **given)
    assert report.notes == (
        "2 patients are in no fold of some repetition and take no part there: 'b4', 'b5'",
    )
    examples.csv(folds_csv, [{"bag": f"b{n}", "fold": n % 2} for n in range(5)])
    report = importing.import_instances(table, folds=folds_csv, **given)
    assert report.notes == ("1 patients are in no fold and take no part there: 'b5'",)
    examples.csv(folds_csv, [{"bag": f"b{n}", "fold": n % 2} for n in range(6)])
    assert importing.import_instances(table, folds=folds_csv, **given).notes == ()
    assert importing.import_instances(table, **given).notes == ()


def test_the_real_feature_file_goes_through(real_data: Path, tmp_path: Path) -> None:
    name = "TCGA-AD-6964-01Z-00-DX1"
    row = {"slide": name, "patient": name[:12], "site": "AD", "label": "1"}
    table = examples.csv(tmp_path / "slides.csv", [row])
    out = tmp_path / "out"
    report = importing.import_features(real_data / "features", table, out=out, encoder="ctp")
    assert (report.num_tiles, report.dim, report.num_float32) == (777, 512, 0)
    reader, found = BagReader(out), index.read(out).index.iloc[0]
    with h5py.File(real_data / "features" / f"{name}.h5") as file:
        np.testing.assert_allclose(
            reader.embeddings(found), file["feats"][()], rtol=1e-3, atol=1e-6
        )
        np.testing.assert_array_equal(reader.coords(found), file["coords"][()])


@pytest.mark.parametrize(
    ("name", "bags", "tiles", "dim"), [("musk1", 92, 476, 166), ("elephant", 200, 1391, 230)]
)
def test_the_classic_sets_go_through_with_their_folds(
    classic: Path, tmp_path: Path, name: str, bags: int, tiles: int, dim: int
) -> None:
    report = importing.import_instances(
        classic / f"{name}.parquet",
        out=tmp_path,
        encoder="given",
        folds=classic / f"{name}-folds.csv",
    )
    assert (report.num_patients, report.num_tiles, report.dim) == (bags, tiles, dim)
    dataset = index.read(tmp_path)
    assert index.check(dataset, encoders=["given"], task=Task(), num_checksums=bags) == []
    kind = GivenFolds(kind="given", num_folds=10, repetitions=5)
    tested: list[str] = []
    for fold in range(50):
        config = examples.config(kind, fold=fold, encoder="given")
        tested += folds.split(dataset, config).test
    assert sorted(tested) == sorted(dataset.cases["patient"].tolist() * 5)


def test_augmented_views_are_imported_with_their_scan(tmp_path: Path) -> None:
    rows = []
    for name, source in (("restained", "plain"), ("plain", ""), ("other", "")):
        examples.h5(
            tmp_path / f"{name}.h5", feats=examples.features(), coords=np.arange(10).reshape(5, 2)
        )
        rows.append({"slide": "s", "scan": name, "patient": "p", "source_scan": source})
    table = examples.csv(tmp_path / "slides.csv", rows)
    report = importing.import_features(tmp_path, table, out=tmp_path / "out", encoder="uni")
    assert (report.num_scans, report.num_matched, report.notes) == (2, 1, ())
    found = index.read(tmp_path / "out").index.set_index("view")
    assert found["source_scan"].to_dict() == {"restained": "plain", "plain": "", "other": ""}
    assert found["routine"].to_dict() == {"restained": False, "plain": True, "other": False}
    reader = BagReader(tmp_path / "out")
    tiles = {row.Index: reader.tiles(row).tolist() for row in found.assign(view="x").itertuples()}
    assert tiles["restained"] == tiles["plain"]
    wrong = [{**rows[0], "source_scan": "gone"}, *rows[1:]]
    table = examples.csv(tmp_path / "slides.csv", wrong)
    lines = message(tmp_path, table, out=tmp_path / "two", encoder="uni")
    assert lines == [f"{table}: view 'restained': source_scan 'gone' does not exist"]
