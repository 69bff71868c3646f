"""What `sweep index` is given and cannot use; nothing is left of a data folder that was begun."""

import pickle
from collections.abc import Callable
from pathlib import Path

import h5py
import numpy as np
import pytest
import torch

from tests.bad_inputs import command

SLIDES = "slide,patient,label\ns1,p1,a\ns2,p2,b\n"
INSTANCES = "bag,label,x,y\nb1,a,0.5,1\nb1,a,1.5,2\nb2,b,3,4\n"
GOOD = np.arange(12, dtype=np.float32).reshape(3, 4)

TABLES: dict[str, tuple[bytes, str]] = {
    "empty": (b"", "slides.csv: has no rows"),
    "a header alone": (b"slide,patient\n", "slides.csv: has no rows below"),
    "binary": (bytes(range(128, 256)), "slides.csv: is not UTF-8"),
    "nul bytes": (b"slide,patient\ns1\0,p1\n", "slides.csv:2: a cell holds a NUL"),
    "an open quote": (b'slide,patient\n"s1,p1\n', "slides.csv"),
    "no patient": (b"slide,pateint\ns1,p1\ns2,p2\n", "no column 'patient'; is it 'pateint'?"),
    "a column twice": (b"slide,patient,patient\ns1,p1,p1\n", "a column name occurs twice"),
    "a short row": (b"slide,patient,label\ns1,p1,a\ns2\n", "slides.csv:3: 1 cells"),
    "a row without a patient": (b"slide,patient\ns1,p1\ns2,\n", "slides.csv:3: no patient"),
    "a scan twice": (b"slide,patient\ns1,p1\ns1,p1\n", "slides.csv:3: scan 's1' again"),
    "two labels": (
        b"slide,patient,label\ns1,p1,a\ns2,p1,b\n", "slides.csv:3: label of patient 'p1'"),
    "two patients": (
        b"slide,scan,patient\ns1,s1,p1\ns1,s2,p2\n", "slide 's1': belongs to several patients"),
    "routine maybe": (b"slide,patient,routine\ns1,p1,maybe\ns2,p2,1\n", ":2: routine is 'maybe'"),
    "files that are missing": (
        b"slide,patient\ns1,p1\ns3,p2\n", "s3.h5 (or .pt): missing, for scan"),
    "a file of two scans": (
        b"slide,patient,file\ns1,p1,s1.h5\ns2,p2,s1.h5\n", "is the file of scans 's1' and 's2'"),
    "another kind of file": (b"slide,patient,file\ns1,p1,s1.txt\ns2,p2,s2.h5\n", "s1.txt"),
    "a file elsewhere": (b"slide,patient,file\ns1,p1,/etc/passwd\ns2,p2,\n", "/etc/passwd"),
    "a scan like a path": (b"slide,patient\n../../x,p1\ns2,p2\n", "missing, for scan '../../x'"),
    "a scan with a newline": (b'slide,patient\n"a\nb",p1\ns2,p2\n', "missing, for scan 'a\\nb'"),
}  # fmt: skip

FEATURES: dict[str, tuple[Callable[[Path], object], str]] = {
    "empty": (lambda path: path.write_bytes(b""), "s1.h5: cannot be read"),
    "text": (lambda path: path.write_text("hello"), "s1.h5: cannot be read"),
    "a folder": (lambda path: (path.unlink(), path.mkdir()), "s1.h5"),
    "truncated": (lambda path: path.write_bytes(path.read_bytes()[:900]), "s1.h5: cannot be read"),
    "no features": (lambda path: h5(path, other=GOOD), "expected exactly one of"),
    "two features": (lambda path: h5(path, features=GOOD, feats=GOOD), "expected exactly one"),
    "one axis": (lambda path: h5(path, features=GOOD[0]), "expected floating point [tiles, dim]"),
    "whole numbers": (lambda path: h5(path, features=GOOD.astype("int32")), "is int32"),
    "text features": (lambda path: h5(path, features=np.full((3, 4), b"x")), "s1.h5"),
    "no tiles": (lambda path: h5(path, features=GOOD[:0]), "has no tiles"),
    "no width": (lambda path: h5(path, features=GOOD[:, :0]), "has no tiles"),
    "NaN": (lambda path: h5(path, features=GOOD * np.nan), "3 tiles hold NaN or infinity"),
    "infinite": (lambda path: h5(path, features=GOOD + np.inf), "tiles hold NaN or infinity"),
    "beyond float32": (
        lambda path: h5(path, features=GOOD.astype("float64") * 1e300), "beyond float32"),
    "another width": (lambda path: h5(path, features=GOOD[:, :2]), "2 wide, those of most files 4"),
    "coordinates of others": (
        lambda path: h5(path, features=GOOD, coords=np.zeros((2, 2))), "'coords' is (2, 2)"),
    "coordinates NaN": (
        lambda path: h5(path, features=GOOD, coords=np.full((3, 2), np.nan)), "fit 32 bits"),
    "coordinates too large": (
        lambda path: h5(path, features=GOOD, coords=np.full((3, 2), 1e12)), "fit 32 bits"),
    "a tile twice": (
        lambda path: h5(path, features=GOOD, tile=np.zeros(3, "int32")), "are not distinct"),
    "negative tiles": (
        lambda path: h5(path, features=GOOD, tile=np.array([-1, 0, 1])), "'tile'"),
    "a pickle": (lambda path: swap(path, pickle.dumps({"features": GOOD})), "s1.pt"),
    "a tensor cut short": (lambda path: swap(path, saved(path)[:200]), "s1.pt: cannot be read"),
    "complex numbers": (lambda path: swap(path, saved(path, torch.complex64)), "is complex64"),
}  # fmt: skip

ROWS = {
    "empty": ("", "cannot be read"),
    "a header alone": ("bag,label,x\n", "has no rows"),
    "no bag": ("bagg,label,x\nb1,a,1\n", "no column 'bag'; is it 'bagg'?"),
    "no embedding": ("bag,label\nb1,a\nb2,b\n", "no columns beside bag"),
    "text": ("bag,label,x\nb1,a,hello\nb2,b,2\n", "column 'x': 1 cells are no finite number"),
    "NaN": ("bag,label,x\nb1,a,nan\nb2,b,2\n", "column 'x': 1 cells are no finite number"),
    "infinite": ("bag,label,x\nb1,a,inf\nb2,b,1e999\n", "column 'x': 2 cells"),
    "beyond float32": ("bag,label,x\nb1,a,1e300\nb2,b,2\n", "column 'x': 1 cells"),
    "a bag without a name": ("bag,label,x\n,a,1\nb2,b,2\n", "row 1 has no bag"),
    "a bag of two labels": ("bag,label,x\nb1,a,1\nb1,b,2\n", "has several values"),
    "a row too long": ("bag,label,x\nb1,a,1,2\nb2,b,2\n", "cannot be read"),
}

FOLDS = {
    "empty": ("", "folds.csv: has no rows"),
    "no folds": ("patient\np1\n", "no column 'fold'"),
    "strangers": ("fold,patient\n0,p9\n1,p2\n", "folds.csv:2: patient 'p9' is not in the data"),
    "negative": ("fold,patient\n-1,p1\n0,p2\n", "folds.csv:2: repetition and fold must be"),
    "from one": ("fold,patient\n1,p1\n2,p2\n", "has folds [1, 2], expected 0 to n - 1"),
    "huge": ("fold,patient\n99999999999999999999,p1\n0,p2\n", "folds.csv:2: repetition or fold"),
    "held out twice": ("fold,patient\n0,p1\n1,p1\n", "folds.csv:3: patient 'p1' is held out"),
}


def h5(path: Path, **arrays: np.ndarray) -> None:
    with h5py.File(path, "w") as file:
        for name, array in arrays.items():
            file[name] = array


def saved(path: Path, dtype: torch.dtype = torch.float32) -> bytes:
    torch.save(torch.ones(30, 4, dtype=dtype), path)
    return path.read_bytes()


def swap(path: Path, content: bytes) -> None:
    """Put a .pt file in the place of the .h5 file."""
    path.unlink(missing_ok=True)
    path.with_suffix(".pt").write_bytes(content)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    for name in ("s1", "s2", "s4"):
        (tmp_path / "features").mkdir(exist_ok=True)
        h5(tmp_path / "features" / f"{name}.h5", features=GOOD)
    (tmp_path / "slides.csv").write_text(SLIDES)
    return tmp_path


def refused(folder: Path, says: str, *more: object, out: str = "out") -> None:
    command.refused(
        folder, "index", "features", folder / "features", folder / "slides.csv",
        "--encoder", "one", "--out", folder / out, *more,
        code=command.SPEC_ERROR, says=[says],
    )  # fmt: skip


@pytest.mark.parametrize(("content", "says"), TABLES.values(), ids=TABLES)
def test_a_wrong_slide_table_is_refused(folder: Path, content: bytes, says: str) -> None:
    (folder / "slides.csv").write_bytes(content)
    refused(folder, says)


@pytest.mark.parametrize(("change", "says"), FEATURES.values(), ids=FEATURES)
def test_a_wrong_feature_file_is_refused(
    folder: Path, change: Callable[[Path], object], says: str
) -> None:
    (folder / "slides.csv").write_text(SLIDES + "s4,p4,a\n")
    change(folder / "features" / "s1.h5")
    refused(folder, says)


@pytest.mark.parametrize(("text", "says"), FOLDS.values(), ids=FOLDS)
def test_wrong_folds_are_refused(folder: Path, text: str, says: str) -> None:
    (folder / "folds.csv").write_text(text)
    refused(folder, says, "--folds", folder / "folds.csv")


@pytest.mark.parametrize(("text", "says"), ROWS.values(), ids=ROWS)
def test_a_wrong_table_of_instances_is_refused(tmp_path: Path, text: str, says: str) -> None:
    (tmp_path / "bags.csv").write_text(text)
    command.refused(
        tmp_path, "index", "instances", tmp_path / "bags.csv", "--encoder", "one",
        "--out", tmp_path / "out", code=command.SPEC_ERROR, says=["bags.csv", says],
    )  # fmt: skip


@pytest.mark.parametrize("name", ["", "a b", "../x", "a/b", "ä", ".hidden", 'q"uote'])
def test_an_encoder_needs_a_name_that_is_a_file_name(folder: Path, name: str) -> None:
    command.refused(
        folder, "index", "features", folder / "features", folder / "slides.csv",
        f"--encoder={name}", "--out", folder / "out",
        code=command.SPEC_ERROR, says=[f"encoder {name!r}: only letters"],
    )  # fmt: skip


def test_places_that_do_not_exist_are_named(folder: Path) -> None:
    for features, slides in (("nowhere", "slides.csv"), ("slides.csv", "slides.csv"),
                             ("features", "nowhere.csv"), ("features", "features")):  # fmt: skip
        command.refused(
            folder, "index", "features", folder / features, folder / slides,
            "--encoder", "one",
        "--out", folder / "out", code=command.SPEC_ERROR, says=[str(folder)],
        )  # fmt: skip


def test_a_folder_of_something_else_is_not_written_into(folder: Path) -> None:
    (folder / "thesis").mkdir()
    (folder / "thesis" / "final.tex").write_text("mine")
    refused(folder, "holds 'final.tex'", out="thesis")
    refused(folder, "is a file, expected a folder", out="slides.csv")


def test_an_encoder_that_contradicts_the_data_set_changes_nothing(data: Path) -> None:
    folder = data.parent
    (folder / "features").mkdir()
    h5(folder / "features" / "x.h5", features=GOOD)
    (folder / "slides.csv").write_text("slide,patient,label,file\nslide 0,patient 0,b,x.h5\n")
    command.refused(
        folder, "index", "features", folder / "features", folder / "slides.csv",
        "--encoder", "two", "--out", data,
        code=command.SPEC_ERROR, says=["patient 'patient 0': label is 'b', but 'a'"],
    )  # fmt: skip


def test_every_problem_of_an_import_is_in_one_message(folder: Path) -> None:
    (folder / "slides.csv").write_text("slide,patient\ns1,p1\ns2,\ns9,p9\n")
    h5(folder / "features" / "s1.h5", features=GOOD * np.nan)
    for says in ("slides.csv:3: no patient", "s9.h5", "tiles hold NaN"):
        refused(folder, says)


def test_sound_files_are_imported(folder: Path) -> None:
    arguments = ["index", "features", folder / "features", folder / "slides.csv"]
    answer = command.sweep(*arguments, "--encoder", "one", "--out", folder / "out")
    assert answer.code == 0, answer
