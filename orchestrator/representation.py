"""The table of representations: what embeddings of each cell say of scanner and label; pure.

A cell's value is the mean over folds of the mean over seeds. The encoders' own embeddings, averaged
over a scan's tiles, stand beside the cells as arm `(encoder)`.
"""

import json
from collections.abc import Mapping
from itertools import groupby

import numpy as np
import pandas as pd

from orchestrator.aggregate import COUNTS, Joined
from orchestrator.measure_representation import METRICS, Measures
from orchestrator.representation_kept import Measured
from training import seeds
from training.metrics.information import Averaged, Information, selectivity

ENCODER = "(encoder)"
"""Arm of the rows of encoders."""


def table(joined: Joined, measured: Measured, *, reference: str) -> pd.DataFrame:
    """Make the table: a row per cell in the plan's order, then one per encoder.

    Args:
        joined: plan and results.
        measured: what `representation_kept.measure` gave.
        reference: the arm that others are compared with, empty for none. Where it has several
            cells of an encoder, that counts which agrees with a cell in the most axes; of those the
            first.

    Returns:
        encoder, arm, axes and counts as in the main table; `without`, trials that are done and kept
        no embeddings: their cell has no value unless holes are allowed. `METRICS`. Of scanner and
        label `_entropy`, `_information` (nats), `_null` (its 95 % quantile) and `_p`. Of the
        selectivity against the reference arm and against the encoder the value, the ends of its
        95 % interval, and why it is `_refused`.
    """
    cells = joined.cells
    of = {cell: _folds(joined, measured, cell) for cell in cells.index}
    without = pd.Series({cell: count for cell, (_, count) in of.items()}, dtype=np.int64)
    rows = []
    for cell in cells.index:
        folds = of[cell][0]
        encoder = {
            fold: (measured.encoders[cells.loc[cell, "encoder"], fold],)
            for fold in folds
            if (cells.loc[cell, "encoder"], fold) in measured.encoders
        }
        other = _reference(cells, cell, reference)
        rows.append(
            {
                **cells.loc[cell].to_dict(),
                "without": without[cell],
                **_values(folds),
                **_selectivity("reference", of[other][0] if other in of else {}, folds),
                **_selectivity("encoder", encoder, folds),
            }
        )
    for name in dict.fromkeys(cells["encoder"]):
        folds = {f: (told,) for (encoder, f), told in measured.encoders.items() if encoder == name}
        if folds:
            axes = dict.fromkeys(cells.columns, "")
            counts = {each: 0 for each in (*COUNTS, "without") if each in rows[0]}
            counts["trials"] = len(folds)
            rows.append({**axes, "encoder": name, "arm": ENCODER, **counts, **_values(folds)})
    made = pd.DataFrame(rows)
    refused = [name for name in made.columns if name.endswith("_refused")]
    return made.fillna(dict.fromkeys(refused, ""))


def reference_arm(plan: pd.DataFrame) -> str:
    """Name the first arm that trains on routine scans without a loss; empty where there is none."""
    for row in plan.sort_values("cell").drop_duplicates("arm").itertuples():
        config = json.loads(str(row.config))
        if not config.get("losses") and config.get("views", "routine") == "routine":
            return str(row.arm)
    return ""


def _folds(
    joined: Joined, measured: Measured, cell: int
) -> tuple[dict[int, tuple[Measures, ...]], int]:
    """Give what a cell's trials told by fold, and how many kept no embeddings."""
    rows = joined.rows[joined.rows["cell"] == cell]
    done = rows[rows["trial"].isin(joined.known.index)]
    there = done["trial"].isin(list(measured.trials))
    if cell in joined.holes:
        return {}, 0
    count = int((~there).sum())
    if count and not joined.allow_missing:
        return {}, count
    pairs = zip(done.loc[there, "fold"].tolist(), done.loc[there, "trial"].tolist(), strict=True)
    return {
        fold: tuple(measured.trials[trial] for _, trial in group)
        for fold, group in groupby(pairs, key=lambda pair: pair[0])
    }, count


def _values(folds: Mapping[int, tuple[Measures, ...]]) -> dict[str, float]:
    """Average metrics and information over folds, of the means over seeds."""
    found = {}
    for name in METRICS:
        each = pd.Series(
            {
                f: pd.Series([told.metrics[name] for told in all_]).mean()
                for f, all_ in folds.items()
            },
            dtype=np.float64,
        )
        found[name] = float(each.mean())
    for target in ("scanner", "label"):
        told = _averaged(folds, target)
        null = np.empty(0) if told is None else told.null
        found |= {
            f"{target}_entropy": np.nan if told is None else told.entropy,
            f"{target}_information": np.nan if told is None else told.bound,
            f"{target}_null": float(np.quantile(null, 0.95)) if len(null) else np.nan,
            f"{target}_p": np.nan if told is None else told.p_value,
        }
    return found


def _averaged(folds: Mapping[int, tuple[Measures, ...]], target: str) -> Averaged | None:
    each: list[tuple[Information, ...]] = []
    for all_ in folds.values():
        told = tuple(one.scanner if target == "scanner" else one.label for one in all_)
        if any(one is None for one in told):
            return None
        each.append(tuple(one for one in told if one is not None))
    return Averaged(folds=tuple(each)) if each else None


def _selectivity(
    name: str, before: Mapping[int, tuple[Measures, ...]], after: Mapping[int, tuple[Measures, ...]]
) -> dict[str, float | str]:
    """Compare a cell with what it is measured against; say why not."""
    names = [f"selectivity_{name}", f"selectivity_{name}_low", f"selectivity_{name}_high"]
    refused = f"selectivity_{name}_refused"
    nothing: dict[str, float | str] = dict.fromkeys(names, np.nan)
    if not after:
        return {**nothing, refused: "no embeddings of this cell"}
    if not before:
        return {**nothing, refused: f"no embeddings of the {name}"}
    if before.keys() != after.keys() or any(
        _patients(before[fold]) != _patients(after[fold]) for fold in after
    ):
        return {**nothing, refused: f"the {name} has other folds"}
    scanner = _averaged(before, "scanner"), _averaged(after, "scanner")
    label = _averaged(before, "label"), _averaged(after, "label")
    if scanner[0] is None or scanner[1] is None or label[0] is None or label[1] is None:
        return {**nothing, refused: "the task has no classes"}
    if before is after:
        return {**nothing, refused: f"this is the {name}"}
    found = selectivity(
        scanner=(scanner[0], scanner[1]),
        label=(label[0], label[1]),
        generator=seeds.generator("selectivity"),
    )
    values = dict(zip(names, (found.value, found.low, found.high), strict=True))
    return {**values, refused: found.reason}


def _patients(told: tuple[Measures, ...]) -> set[int]:
    """Collect who was held out."""
    return {patient for each in told for patient in each.scanner.patient.tolist()}


def _reference(cells: pd.DataFrame, cell: int, arm: str) -> int | None:
    """Choose the cell of the reference arm that a cell is compared with."""
    same = cells[(cells["arm"] == arm) & (cells["encoder"] == cells.loc[cell, "encoder"])]
    if same.empty:
        return None
    axes = [name for name in cells.columns if name not in ("encoder", "arm", "search", *COUNTS)]
    agree = (same[axes] == cells.loc[cell, axes]).sum(axis=1).to_numpy()
    return int(same.index[int(agree.argmax())])
