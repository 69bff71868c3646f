"""Small data sets that the tests of the data layer share."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path

import h5py
import numpy as np
import pandas as pd

from training.config import (
    Folds,
    MeanHead,
    Stopping,
    StratifiedFolds,
    Task,
    TrialConfig,
)
from training.data import index, shards, tables
from training.data.bags import Bag
from training.data.shards import View

AWKWARD = (
    "plain",
    "with space",
    'quote\'d "twice"',
    "Größe-切片",
    "comma, semi; colon",
    "new\nline",
)
"""Names that go through every path."""


def scans(
    num_patients: int = 6, *, scanners: Sequence[str] = ("AT2", "GT450"), num_tiles: int = 3
) -> list[View]:
    """One slide per patient, scanned on every scanner; the first scan is the routine one."""
    return [
        View(
            patient=f"patient {number}",
            slide=f"slide {number}",
            scan=f"slide {number}/{scanner}",
            view=f"slide {number}/{scanner}",
            scanner=scanner,
            cohort="A" if number < num_patients // 2 else "B",
            routine=scanner == scanners[0],
            num_tiles=num_tiles + number % 2,
            dim=4,
        )
        for number in range(num_patients)
        for scanner in scanners
    ]


def bag(view: View) -> Bag:
    """A bag that the view's name fixes."""
    generator = np.random.default_rng(list(view.view.encode()))
    return Bag(
        embeddings=generator.normal(size=(view.num_tiles, view.dim)).astype(view.dtype),
        tile=np.arange(view.num_tiles, dtype=np.int32),
        coords=np.full((view.num_tiles, 2), 7, np.int32),
    )


def cases(views: Sequence[View]) -> pd.DataFrame:
    """Two classes in turn."""
    patients = sorted({view.patient for view in views})
    labels = ["ab"[number % 2] for number in range(len(patients))]
    return pd.DataFrame({"patient": patients, "label": labels})


def write(root: Path, views: Sequence[View] | None = None, **changed: object) -> index.Dataset:
    """Write a data set of encoder `one` and read it."""
    views = scans() if views is None else views
    given = {"encoder": "one", "load": bag, "cases": cases(views), **changed}
    shards.write(root, views=views, **given)  # type: ignore[arg-type]  # a test's own mistake shows
    return index.read(root)


def renamed(views: Sequence[View], position: int, **changed: object) -> list[View]:
    """Change one view."""
    found = list(views)
    found[position] = replace(found[position], **changed)  # type: ignore[arg-type]  # as above
    return found


def config(
    folds: Folds | None = None,
    *,
    fold: int = 0,
    validation_share: float = 0.25,
    draw_seed: int = 0,
    encoder: str = "one",
    task: Task | None = None,
) -> TrialConfig:
    """A trial on a data set of these tests."""
    stopping = (
        Stopping(validation_share=validation_share)
        if validation_share
        else Stopping(validation_share=0, epoch="last", threshold="half")
    )
    return TrialConfig(
        encoder=encoder,
        task=task or Task(),
        head=MeanHead(kind="mean"),
        folds=folds or StratifiedFolds(kind="stratified", num_folds=2),
        stopping=stopping,
        fold=fold,
        seed=0,
        draw_seed=draw_seed,
    )


def files(root: Path) -> dict[str, bytes]:
    """Read every file of a folder."""
    found = sorted(path for path in root.rglob("*") if path.is_file())
    return {str(path.relative_to(root)): path.read_bytes() for path in found}


def h5(path: Path, **arrays: np.ndarray) -> Path:
    """Write a feature file."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with h5py.File(path, "w") as file:
        for name, array in arrays.items():
            file[name] = array
    return path


def features(num_tiles: int = 5, dim: int = 4, seed: int = 0) -> np.ndarray:
    """Random float32 features."""
    return np.random.default_rng(seed).normal(size=(num_tiles, dim)).astype(np.float32)


def csv(path: Path, rows: Sequence[Mapping[str, object]], **options: object) -> Path:
    """Write a CSV as a user would."""
    path.parent.mkdir(parents=True, exist_ok=True)
    pd.DataFrame(rows).to_csv(path, index=False, **options)  # type: ignore[call-overload]  # as above
    return path


def made(labels: str, *, cohorts: str = "", held: pd.DataFrame | None = None) -> index.Dataset:
    """Tables of patients with these labels, one slide each; no bags on disk."""
    patients = [f"p{number:03d}" for number in range(len(labels))]
    columns: dict[str, object] = {
        name: "" if kind == "str" else 0 for name, kind in tables.INDEX_TYPES.items()
    }
    views = pd.DataFrame({**columns, "patient": patients}).assign(
        **dict.fromkeys(("slide", "scan", "view"), patients),
        encoder="one",
        routine=True,
        checksum=[f"{number:x}" for number in range(len(labels))],
        cohort=list(cohorts) or "",
    )
    cases = pd.DataFrame({"patient": patients, "label": list(labels)})
    return index.Dataset(root=Path("data"), index=views, cases=cases, folds=held)


def changed(dataset: index.Dataset, column: str, values: dict[int, object]) -> index.Dataset:
    """Change a column of the index in some rows."""
    views = dataset.index.copy()
    for row, value in values.items():
        views.loc[row, column] = value
    return replace(dataset, index=views)


def held_out(*patients: tuple[int, int, str]) -> pd.DataFrame:
    """Given folds: repetition, fold and patient."""
    return pd.DataFrame(list(patients), columns=["repetition", "fold", "patient"])
