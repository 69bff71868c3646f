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
    folder: Folder,
    *,
    allow_missing: bool,
    select: str | None,
    margin: float | None,
    representation: bool,
    reference: str | None,
    mode: Mode,
) -> int:
    """Write the tables of a sweep and show them; 1 where a cell is incomplete.

    Args:
        folder: the sweep.
        allow_missing: average what there is in incomplete cells.
        select: rule of selection; default: the spec's, if it has one.
        margin: of that rule.
        representation: measure kept embeddings, too.
        reference: arm that these are compared with; default: the first without losses.
        mode: how to show them.
    """
    from orchestrator import aggregate as tables
    from orchestrator import robustness, selected, store

    plan, results = store.read_plan(folder), store.read_results(folder)
    given, axes = (plan, results["trials"], results["predictions"]), tables.axes(plan)
    joined = tables.join(*given, axes=axes, allow_missing=allow_missing)
    tabled = {
        "main": tables.main(joined),
        "robustness": robustness.cells(joined),
        "scanners": robustness.scanners(joined),
    }
    made = {name: table for name, table in tabled.items() if table is not None}
    if representation:
        made["representation"] = _representation(
            folder, plan, results["predictions"], joined, reference=reference, mode=mode
        )
    paths = [path for name in made for path in tables.write(made[name], folder.tables, name)]
    if rule := selected.rule_of(folder, select, margin):
        chosen = selected.select(*given, axes=axes, rule=rule, allow_missing=allow_missing)
        paths += selected.write(chosen, folder.tables)
        made["selected"] = chosen.table
    main = made["main"]
    incomplete = int((main["missing"] + main["failed"] > 0).sum())
    if mode == "json":
        more = {name: _records(table) for name, table in made.items() if name != "main"}
        files, notes = [str(path) for path in paths], remarks(main)
        cells = {"sweep": folder.name, "cells": _records(main), **more}
        render.value({**cells, "files": files, "notes": notes})
    elif mode == "quiet":
        render.lines([str(path) for path in paths])
    else:
        _show(made, folder, rule=str(rule or ""), incomplete=incomplete)
    return 1 if incomplete and not allow_missing else 0


def _show(made: "dict[str, pd.DataFrame]", folder: Folder, *, rule: str, incomplete: int) -> None:
    _show_table(made["main"])
    for line in remarks(made["main"]):
        render.note(line, kind="warning")
    if "selected" in made:
        render.note(f"chosen by {rule} on the validation patients of each fold:")
        _show_table(made["selected"].drop(columns=["rule", "margin"]))
    render.note(f"wrote {', '.join(made)} (.csv, .parquet) to {folder.tables}")
    if incomplete:
        render.note(
            f"{incomplete} of {len(made['main'])} cells miss trials",
            hint=f"sweep resume {folder.name}; or --allow-missing",
            kind="warning",
        )


def remarks(table: "pd.DataFrame") -> list[str]:
    """Say what a reader must know of cells that a search made; nothing where none did."""
    lines: list[str] = []
    if "search" not in table.columns:
        return lines
    made = table[table["search"] != ""]
    for (arm, kind), cells in made.groupby(["arm", "search"], sort=False):
        text = f"arm {arm}: its settings come from a search ({kind}), not from a grid"
        if dropped := int(cells["retired"].sum()):
            empty = int((cells["retired"] > 0).sum())
            text += f", which retired {dropped:,} trials and left {empty:,} cells without a value"
        lines.append(f"{text}: a comparison of its cells with those of other arms is biased")
    return lines


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
    for name in {"auroc_folds", "concordance_folds"} & set(made.columns):
        if (made[name] == made["folds"]).all():
            hidden.add(name)
    if (made["versions"] <= 1).all():
        hidden.add("versions")
    if not (made["missing"] + made["failed"]).any():
        hidden |= {"missing", "failed"}
    if "retired" in made and not made["retired"].any():
        hidden.add("retired")
    shown = [str(c) for c in made.columns if c not in hidden and not made[c].isna().all()]
    metrics = [name for name in shown if made[name].dtype.kind == "f"]
    left = [name for name in shown if name not in metrics]
    rows = [
        [str(row[name]) for name in left] + [render.number(row[name]) for name in metrics]
        for _, row in made.iterrows()
    ]
    render.table([*left, *metrics], rows, numeric=len(metrics))
