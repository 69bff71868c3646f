"""What `aggregate` does and shows."""

import time
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from orchestrator import render
from orchestrator.errors import SweepError
from orchestrator.folder import Folder
from orchestrator.render import PLAIN_PROGRESS_S, Mode

if TYPE_CHECKING:
    import pandas as pd

    from orchestrator.aggregate import Joined


def aggregate(
    folder: Folder, *, allow_missing: bool, representation: bool, reference: str | None, mode: Mode
) -> int:
    """Write the tables of a sweep and show the main one; 1 where a cell is incomplete."""
    from orchestrator import aggregate as tables
    from orchestrator import robustness, store

    plan = store.read_plan(folder)
    results = store.read_results(folder)
    joined = tables.join(
        plan, results["trials"], results["predictions"], axes=tables.axes(plan),
        allow_missing=allow_missing,
    )  # fmt: skip
    made = {"main": tables.main(joined)}
    for name, table in (
        ("robustness", robustness.cells(joined)),
        ("scanners", robustness.scanners(joined)),
    ):
        made |= {} if table is None else {name: table}
    if representation:
        made["representation"] = _representation(
            folder, plan, results["predictions"], joined, reference=reference, mode=mode
        )
    paths = [path for name in made for path in tables.write(made[name], folder.tables, name)]
    main = made["main"]
    incomplete = int((main["missing"] + main["failed"] > 0).sum())
    if mode == "json":
        more = {name: _records(table) for name, table in made.items() if name != "main"}
        files = [str(path) for path in paths]
        render.value({"sweep": folder.name, "cells": _records(main), **more, "files": files})
    elif mode == "quiet":
        render.lines([str(path) for path in paths])
    else:
        _show_table(main)
        render.note(f"wrote {', '.join(made)} (.csv, .parquet) to {folder.tables}")
        if incomplete:
            render.note(
                f"{incomplete} of {len(main)} cells miss trials",
                hint=f"sweep resume {folder.name}; or --allow-missing",
                kind="warning",
            )
    return 1 if incomplete and not allow_missing else 0


def _representation(
    folder: Folder,
    plan: "pd.DataFrame",
    predictions: "pd.DataFrame",
    joined: "Joined",
    *,
    reference: str | None,
    mode: Mode,
) -> "pd.DataFrame":
    """Measure embeddings, and say how far it is and what is left out."""
    from orchestrator import inputs, representation_kept, spec
    from orchestrator import representation as representations
    from training.data import index

    arms = list(dict.fromkeys(plan["arm"]))
    if reference is not None and reference not in arms:
        raise SweepError(f"arm {reference!r} is not in this sweep", hint=f"arms: {', '.join(arms)}")
    against = representations.reference_arm(plan) if reference is None else reference
    if not against:
        render.note("no arm trains without losses: give one with --reference", kind="warning")
    data = inputs.path(spec.read(folder.spec), folder.root.parent)
    if not data.is_dir():
        render.note(f"{data} is not there: the encoders' own embeddings are left out")
    measured = representation_kept.measure(
        folder,
        plan,
        predictions,
        joined=joined,
        dataset=index.read(data) if data.is_dir() else None,
        report=_now_and_then(mode),
    )
    return representations.table(joined, measured, reference=against)


def _now_and_then(mode: Mode) -> Callable[[int, int], None]:
    """Say on stderr how many sets of embeddings are measured."""
    last = time.monotonic()

    def report(done: int, total: int) -> None:
        nonlocal last
        if mode == "text" and time.monotonic() - last > PLAIN_PROGRESS_S:
            last = time.monotonic()
            render.note(f"{done:,} of {total:,} sets of embeddings measured")

    return report


def _records(made: "pd.DataFrame") -> list[dict[str, Any]]:
    return [
        {str(k): (None if v != v else v) for k, v in row.items()} for row in made.to_dict("records")
    ]


def _show_table(made: "pd.DataFrame") -> None:
    """Show what most readers want; the files have every column."""
    from orchestrator import measure_scanners

    hidden = {"folds", *measure_scanners.METRICS}
    hidden |= {name for name in made.columns if str(name).endswith("_sd")}
    if (made["auroc_folds"] == made["folds"]).all():
        hidden.add("auroc_folds")
    if (made["versions"] <= 1).all():
        hidden.add("versions")
    if not (made["missing"] + made["failed"]).any():
        hidden |= {"missing", "failed"}
    shown = [str(c) for c in made.columns if c not in hidden and not made[c].isna().all()]
    metrics = [name for name in shown if made[name].dtype.kind == "f"]
    left = [name for name in shown if name not in metrics]
    rows = [
        [str(row[name]) for name in left] + [render.number(row[name]) for name in metrics]
        for _, row in made.iterrows()
    ]
    render.table([*left, *metrics], rows, numeric=len(metrics))
