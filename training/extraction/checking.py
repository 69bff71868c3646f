"""Refuses what is wrong with a request before anything is opened or fetched; without torch."""

from collections.abc import Iterator

import pandas as pd

from training.data import joining
from training.errors import DataError
from training.extraction import encoder_table, slide_table
from training.extraction.requests import Request
from training.extraction.slide_table import Table


def check(request: Request) -> Table:
    """Read the table of slides, and compare it with the request and the data set that is there.

    Raises:
        DataError: All problems at once.
    """
    problems: list[str] = []
    table = slide_table.read(request.slides, problems, limit=request.limit, folds=request.folds)
    for name in request.encoders:
        try:
            encoder_table.find(name)
        except DataError as error:
            problems.append(error.message)
    named = {**{k: v.checkpoint for k, v in request.config.encoders.items()}, **request.checkpoints}
    for name, path in named.items():
        if name not in request.encoders:
            problems.append(f"encoder {name!r}: has settings or a checkpoint, but is not asked for")
        elif path is not None and not path.is_file():
            problems.append(f"{path}: no such file, the checkpoint of encoder {name!r}")
    problems += _missing_references(request)
    problems += _conflicts(request, table)
    if problems:
        raise DataError("\n".join(dict.fromkeys(problems)))
    return table


def _missing_references(request: Request) -> Iterator[str]:
    for view in request.config.views:
        for step in view.steps:
            path = getattr(step, "reference", None)
            if path is not None and not path.is_file():
                yield f"{path}: no such file, the reference of view {view.name!r}"


def _conflicts(request: Request, table: Table) -> list[str]:
    """Compare the table with itself and with the data set that is there."""
    rows = table.rows.assign(view=table.rows["scan"])
    scans = rows[rows["source_scan"] == ""]
    for view in request.config.views:
        made = [view.of(name) for name in scans["scan"]]
        shown = scans.assign(view=made, scan=made, source_scan=scans["scan"], routine=False)
        rows = pd.concat([rows, shown], ignore_index=True)
    rows = rows.assign(encoder=request.encoders[0])
    rows = rows.assign(num_tiles=1, dim=1, dtype="float16")  # not known before slides are read
    try:
        before = joining.existing(request.out)
        if rows.empty:
            return []
        joining.join(before, rows, table.cases, table.folds, replacing=request.encoders)
    except DataError as error:
        return [f"{request.slides}: {line}" for line in error.message.splitlines()]
    return []
