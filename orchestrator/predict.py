"""What `sweep predict` does: kept models of a sweep applied to the scans of other data.

Nothing is fitted or chosen, and no label of the data is read. Models meet no patient whom the sweep
knows, unless that is asked for and marked.
"""

import dataclasses
import hashlib
import shlex
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pandas as pd

from orchestrator import (
    applied,
    guards,
    kept_models,
    licences,
    predict_check,
    predict_rows,
    provenance,
    render,
)
from orchestrator.errors import SweepError
from orchestrator.folder import Folder, folder_mode
from orchestrator.kept_models import Chosen
from orchestrator.predict_check import Given
from orchestrator.render import Mode

_NAME_MAX = 60
"""Letters of the name of the data in that of a file."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Asked:
    """The flags; see the command.

    Attributes:
        data: folder of the scans.
        where: conditions on cells.
        cells: their numbers.
        ensemble: a row per cell and scan, not per model.
        allow_missing: ensembles of incomplete and mixed cells, too.
        allow_seen: patients whom the sweep knows, marked.
        out: Parquet file to write; None for one in the folder of the sweep.
    """

    data: Path
    where: tuple[str, ...] = ()
    cells: tuple[int, ...] = ()
    ensemble: bool = False
    allow_missing: bool = False
    allow_seen: bool = False
    out: Path | None = None


def predict(folder: Folder, asked: Asked, *, mode: Mode) -> int:
    """Write the table of scores; 1 where a chosen cell is incomplete or mixed.

    Raises:
        SweepError: There are no such models, or the sweep knows patients of the data.
        DataError: The data are wrong, or do not go with the models.
        StoreError: Results or weights cannot be read.
    """
    import torch

    torch.set_num_threads(1)
    chosen = kept_models.choose(folder, where=asked.where, cells=asked.cells)
    chosen, left_out = _whole(chosen, asked)
    given = predict_check.check(folder, chosen, asked.data, allow_seen=asked.allow_seen)
    about = _about(folder, asked, given, left_out)
    path = asked.out or _place(folder, asked, about)
    applied.require_ours(path)
    made = predict_rows.scores(given, render.now_and_then(mode, "{:,} of {:,} scores made".format))
    path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
    if asked.out is None:
        path.parent.chmod(folder_mode(folder.root))
    frames = predict_rows.frames(given, made, ensemble=asked.ensemble)
    paths = applied.write(path, frames, about)
    _show(folder, paths, about, mode)
    wrong = guards.count(pd.Series(dict(chosen.marks) | left_out, dtype="str"))
    return 1 if wrong and not asked.allow_missing else 0


def _whole(chosen: Chosen, asked: Asked) -> tuple[Chosen, dict[int, str]]:
    """Leave cells out of which no ensemble is made; say which, and why.

    Raises:
        SweepError: None is left.
    """
    wrong = {cell: mark for cell, mark in chosen.marks.items() if mark}
    if not asked.ensemble or asked.allow_missing or not wrong:
        return chosen, {}
    models = chosen.models[~chosen.models["cell"].isin(list(wrong))]
    if models.empty:
        cell, mark = next(iter(wrong.items()))
        raise SweepError(
            f"no ensemble: each chosen cell is incomplete or mixed, cell {cell}: {mark}",
            hint="sweep resume trains what is missing; or --allow-missing, or --no-ensemble",
        )
    marks = {cell: mark for cell, mark in chosen.marks.items() if not mark}
    return dataclasses.replace(chosen, models=models.reset_index(drop=True), marks=marks), wrong


def _about(
    folder: Folder, asked: Asked, given: Given, left_out: Mapping[int, str]
) -> dict[str, Any]:
    """Describe the table: what made it, of what, under which terms."""
    models, encoders = given.chosen.models, list(given.scans)
    first = models.drop_duplicates("cell")
    cells = [
        {
            **{name: row[name] for name in ("encoder", "arm", *given.chosen.axes)},
            "cell": int(row["cell"]),
            "trials": list(models.loc[models["cell"] == row["cell"], "trial"]),
            "marks": given.chosen.marks[int(row["cell"])],
        }
        for row in first.to_dict("records")
    ]
    here = {
        encoder: sorted({str(each) or licences.UNKNOWN for each in own["licence"]})
        for encoder, own in given.scans.items()
    }
    terms = {"trained_on": licences.read(folder, encoders), "applied_to": here}
    return {
        "sweep": folder.name,
        "kind": applied.ENSEMBLE if asked.ensemble else "models",
        "command": _command(folder, asked),
        "spec": folder.spec.read_text("utf-8", "replace") if folder.spec.is_file() else "",
        "cells": cells,
        "left_out": {str(cell): mark for cell, mark in left_out.items()},
        "classes": {
            str(row["cell"]): _listed(given.classes[row["trial"]])
            for row in first.to_dict("records")
        },
        "trained_by": kept_models.trained_by(models),
        "applied_by": provenance.code(),
        "data": str(asked.data.resolve()),
        "data_fingerprint": given.fingerprint,
        "scans": {encoder: len(own) for encoder, own in given.scans.items()},
        "licences": terms,
        "notes": [*given.notes, *_remarks(terms), *_known(given)],
    }


def _listed(names: Sequence[str] | None) -> list[str] | None:
    return None if names is None else list(names)


def _remarks(terms: Mapping[str, Mapping[str, Sequence[str]]]) -> list[str]:
    """Say which licences may forbid passing on what is made here, of both data."""
    every: dict[str, list[str]] = {}
    for own in terms.values():
        for encoder, names in own.items():
            every[encoder] = list(dict.fromkeys([*every.get(encoder, ()), *names]))
    return licences.remarks(every)


def _known(given: Given) -> list[str]:
    met = {name for own in given.seen.values() for name in own}
    text = f"the sweep knows {render.many(len(met), 'patient')}: see column seen"
    return [text] if met else []


def _command(folder: Folder, asked: Asked) -> str:
    words = ["sweep", "predict", folder.name, "--data", str(asked.data)]
    for name, values in (("where", asked.where), ("cell", asked.cells)):
        words += [word for each in values for word in (f"--{name}", str(each))]
    flags = ("ensemble", "allow_missing", "allow_seen")
    words += [f"--{name.replace('_', '-')}" for name in flags if getattr(asked, name)]
    return shlex.join([*words, *(["--out", str(asked.out)] if asked.out else [])])


def _place(folder: Folder, asked: Asked, about: Mapping[str, Any]) -> Path:
    """Name the table by data and models, so that no other is replaced."""
    models = [(each["cell"], each["trials"]) for each in about["cells"]]
    parts = repr((about["data_fingerprint"], about["kind"], models))
    mark = hashlib.sha256(parts.encode()).hexdigest()[:8]
    return folder.predictions / f"{asked.data.resolve().name[:_NAME_MAX]}-{mark}.parquet"


def _show(folder: Folder, paths: Sequence[Path], about: Mapping[str, Any], mode: Mode) -> None:
    num_models = sum(len(each["trials"]) for each in about["cells"])
    if mode == "json":
        keys = ("sweep", "kind", "cells", "left_out", "scans", "licences", "notes")
        value = {name: about[name] for name in keys}
        render.value({**value, "files": [str(path) for path in paths]})
    elif mode == "quiet":
        render.lines([str(path) for path in paths])
    else:
        scans = ", ".join(f"{number:,} of {name}" for name, number in about["scans"].items())
        render.facts(
            [
                ("models", f"{num_models:,} of {render.many(len(about['cells']), 'cell')}"),
                ("scans", scans),
                ("table", str(paths[0])),
            ]
        )
        for line in about["notes"]:
            render.note(line, kind="warning")
        _warn(folder, about)
        words = ["sweep", "aggregate", folder.name, "--cohort", str(paths[0])]
        render.next_command(shlex.join(words))


def _warn(folder: Folder, about: Mapping[str, Any]) -> None:
    wrong = {each["cell"]: each["marks"] for each in about["cells"] if each["marks"]}
    wrong |= about["left_out"]
    for cell, mark in wrong.items():
        out = ": no ensemble is made of it" if cell in about["left_out"] else ""
        render.note(f"cell {cell}: {mark}{out}", kind="warning")
    if wrong:
        render.note(f"hint: sweep resume {folder.name}; or --allow-missing")
