"""From the results of a pack's lanes to the tables of its segment."""

import json
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import pandas as pd

if TYPE_CHECKING:
    from training.trainer import LaneResult


def tables(
    trials: Sequence[str], results: Sequence["LaneResult"], shared: Mapping[str, Any]
) -> dict[str, pd.DataFrame]:
    """Make the tables `trials`, `curves` and `predictions`.

    Args:
        trials: trial ids, one per lane.
        results: what the lanes came to.
        shared: columns of `trials` that all lanes have in common.
    """
    pairs = list(zip(trials, results, strict=True))
    rows = [
        {
            "trial": trial, "lane": lane, "state": result.state, "failure": result.failure,
            "epoch": result.epoch, "epochs_trained": result.epochs_trained,
            "threshold": result.threshold, "validation": result.validation, **shared,
        }
        for lane, (trial, result) in enumerate(pairs)
    ]  # fmt: skip
    curves = [
        (trial, epoch, quantity, float(value))
        for trial, result in pairs
        for quantity, values in result.curves.items()
        for epoch, value in enumerate(values, 1)
    ]
    predictions = [result.predictions.assign(trial=trial) for trial, result in pairs]
    joined = pd.concat([frame for frame in predictions if len(frame)] or predictions[:1])
    return {
        "trials": pd.DataFrame(rows),
        "curves": _curves(curves),
        "predictions": joined[["trial", *joined.columns.drop("trial")]].reset_index(drop=True),
    }


def version(code: str) -> dict[str, str]:
    """Return the columns `commit` and `versions` from the JSON of `provenance.code()`."""
    versions = json.loads(code or "{}")
    changes = "" if versions.pop("clean", True) else "+changes"
    commit = f"{versions.pop('commit', '')}{changes}"
    return {"commit": commit, "versions": json.dumps(versions, sort_keys=True)}


def weights(trials: Sequence[str], results: Sequence["LaneResult"]) -> dict[str, Any]:
    """Return the chosen weights of lanes that are done, by the stem of their file."""
    return {
        f"weights-{trial}": result.weights
        for trial, result in zip(trials, results, strict=True)
        if result.state == "done"
    }


def _curves(rows: Sequence[tuple[str, int, str, float]]) -> pd.DataFrame:
    frame = pd.DataFrame(rows, columns=["trial", "epoch", "quantity", "value"])
    return frame.astype({"trial": "str", "epoch": "int64", "quantity": "str", "value": "float64"})
