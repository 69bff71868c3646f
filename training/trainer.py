"""Trains trials as lanes of one pack, and a trial alone: `python -m training.trainer`.

`train` gives each trial's result; it writes nothing but a checkpoint. On a CPU the caller sets
`torch.set_num_threads(1)`, which the promise of `training.lanes` needs.
"""

import argparse
import dataclasses
import json
import logging
import math
import os
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np
import pandas as pd
import torch
from safetensors.numpy import save_file

from training import checkpoint as checkpoints
from training import evaluation, lanes
from training.config import TrialConfig, lane_key
from training.data import index
from training.data.index import Dataset
from training.errors import DataError
from training.session import Session

log = logging.getLogger(__name__)


class Stopped(Exception):  # noqa: N818
    """Training was asked to stop; the checkpoint, if there is one, is written."""


@dataclass(frozen=True, slots=True, kw_only=True)
class LaneResult:
    """What training a trial gave.

    Attributes:
        state: failed where a number was not finite; then there are no predictions and weights.
        failure: the reason, empty unless failed.
        epoch: the chosen epoch, from 1; 0 if failed.
        epochs_trained: epochs behind it.
        threshold: decision threshold on the logit; 0 for several classes.
        validation: validation value of the chosen epoch; NaN without validation.
        curves: per epoch: loss, task_loss, each robustness loss by kind, validation_loss,
            validation_auroc, lr.
        predictions: columns patient, slide, view, scanner, cohort, part, held_out, label, score;
            one row per scan of the held-out patients, and per scan of the validation patients on a
            seen scanner; scores in the trial's precision.
        weights: parameters and buffers of the chosen epoch by name, and what moves embeddings
            before the model: see `training.data.input_map`.
    """

    state: Literal["done", "failed"]
    failure: str
    epoch: int
    epochs_trained: int
    threshold: float
    validation: float
    curves: dict[str, np.ndarray]
    predictions: pd.DataFrame
    weights: dict[str, np.ndarray]


def train(
    configs: Sequence[TrialConfig],
    dataset: Dataset,
    *,
    device: str = "cpu",
    checkpoint: Path | None = None,
    on_epoch: Callable[[int, int], None] | None = None,
    stop: Callable[[], bool] | None = None,
    checkpoint_every_s: float = 60.0,
    resident_bytes: int = 2**31,
) -> list[LaneResult]:
    """Train the trials as lanes; a lone one gets a companion.

    Args:
        configs: trials of one `lane_key`.
        dataset: what they read.
        device: a torch device.
        checkpoint: folder to resume from and to write to; the result is the same bits as without a
            stop. A checkpoint of other trials, data or device, or a broken one, is passed over with
            a warning. The caller deletes it.
        on_epoch: called after each epoch with its number and the most there will be.
        stop: asked before each step; true ends training at the epoch before.
        checkpoint_every_s: seconds between checkpoints.
        resident_bytes: bags are kept in memory if they take no more than this.

    Raises:
        DataError: The data do not fit the configuration.
        Stopped: `stop` said so.
    """
    if not configs or len({lane_key(config) for config in configs}) > 1:
        raise ValueError("lanes need trials of one lane key")
    if not lanes.aligned_alike():
        log.warning("MKL_CBWR=AUTO is not in force: equal trials may differ in their last bits")
    companions = [configs[0]] if len(configs) == 1 else []
    session = Session(
        [*configs, *companions],
        dataset,
        device=torch.device(device),
        resident_bytes=resident_bytes,
    )
    if checkpoint is not None:
        _resume(session, checkpoint)
    epochs = session.shared.optim.epochs
    written = time.monotonic()
    while session.epoch < epochs and session.training:
        before = session.snapshot() if checkpoint is not None and stop is not None else None
        if not session.run_epoch(stop):
            if checkpoint is not None and before is not None:
                checkpoints.write(checkpoint, *before)
            raise Stopped(f"after epoch {session.epoch - 1} of {epochs}")
        if checkpoint is not None and time.monotonic() - written >= checkpoint_every_s:
            checkpoints.write(checkpoint, *session.snapshot())
            written = time.monotonic()
        if on_epoch is not None:
            on_epoch(session.epoch, epochs)
    return _results(session)[: len(configs)]


def _resume(session: Session, checkpoint: Path) -> None:
    """Go on from the checkpoint, if there is one that fits."""
    found = checkpoints.read(checkpoint)
    if found is None:
        return
    try:
        session.restore(*found)
    except ValueError as error:
        log.warning("%s: checkpoint not used, training starts anew: %s", checkpoint, error)


def _results(session: Session) -> list[LaneResult]:
    """Evaluate the chosen epoch of every lane on whole bags."""
    test = session.scans.of("test", seen_only=False)
    seen = session.scans.of("validation", seen_only=True)
    rows = np.concatenate([test, seen])
    stack = session.lanes
    stack.put(*session.chosen)
    scores = evaluation.score(stack, session.loader, rows, session.num_tiles)
    return [
        _result(session, lane, rows, lane_scores, num_test=len(test))
        for lane, lane_scores in enumerate(scores)
    ]


def _result(
    session: Session, lane: int, rows: np.ndarray, scores: np.ndarray, *, num_test: int
) -> LaneResult:
    progress = session.progress[lane]
    failure = progress.failure
    if not failure and not np.isfinite(scores).all():
        failure = "numeric: scores are not finite"
    if session.configs[lane].test_time == "mean_over_scans":
        scores = evaluation.mean_over_scans(session.scans, rows, scores)
    weights, threshold = {}, 0.0
    if failure:
        rows, scores = rows[:0], scores[:0]
    else:
        chosen = session.lanes.named(session.chosen[0][lane], session.chosen[1][lane])
        weights = {
            name.removeprefix("model."): tensor.cpu().numpy() for name, tensor in chosen.items()
        }
        if session.loader.input_map is not None:
            weights |= session.loader.input_map.weights()
        if session.validation is not None:
            rule = session.shared.stopping.threshold
            threshold = session.validation.threshold(scores[num_test:], rule)
    return LaneResult(
        state="failed" if failure else "done",
        failure=failure,
        epoch=0 if failure else progress.epoch,
        epochs_trained=progress.epochs_trained,
        threshold=threshold,
        validation=math.nan if failure else progress.validation,
        curves={name: np.array(values) for name, values in progress.curves.items()},
        predictions=evaluation.predictions(session.scans, rows, scores),
        weights=weights,
    )


def main(arguments: Sequence[str] | None = None) -> int:
    """Train the trial of a JSON file alone and write its result; exit code 1 if it fails."""
    parser = argparse.ArgumentParser(prog="python -m training.trainer", description=main.__doc__)
    parser.add_argument("trial", type=Path, help="JSON of a TrialConfig")
    parser.add_argument("--data", type=Path, required=True, help="folder of the data set")
    parser.add_argument("--out", type=Path, required=True, help="folder for the result")
    parser.add_argument("--device", default="cpu", help="torch device")
    options = parser.parse_args(arguments)
    torch.set_num_threads(1)
    try:
        config = TrialConfig.model_validate_json(options.trial.read_text())
        (result,) = train([config], index.read(options.data), device=options.device)
    except (DataError, OSError, ValueError) as error:
        hint = f"\nhint: {error.hint}" if isinstance(error, DataError) and error.hint else ""
        sys.stderr.write(f"error: {error}{hint}\n")
        return 2
    _write(result, options.out)
    sys.stderr.write(f"{result.failure or result.state}: {options.out / 'result.json'}\n")
    return int(result.state == "failed")


def _write(result: LaneResult, out: Path) -> None:
    """Write predictions, curves, weights and, last, result.json; each appears whole."""
    out.mkdir(parents=True, exist_ok=True)
    curves = pd.DataFrame(result.curves)
    curves.insert(0, "epoch", np.arange(1, len(curves) + 1))
    kept = ("curves", "predictions", "weights")
    rest = {
        each.name: getattr(result, each.name)
        for each in dataclasses.fields(result)
        if each.name not in kept
    }
    if math.isnan(result.validation):
        rest["validation"] = None
    files: dict[str, Callable[[Path], object]] = {
        "predictions.parquet": lambda path: result.predictions.to_parquet(path, index=False),
        "curves.parquet": lambda path: curves.to_parquet(path, index=False),
        "weights.safetensors": lambda path: save_file(result.weights, path),
        "result.json": lambda path: path.write_text(json.dumps(rest, indent=2) + "\n"),
    }
    for name, write in files.items():
        temporary = out / f".{name}.{os.getpid()}"
        write(temporary)
        temporary.replace(out / name)


if __name__ == "__main__":
    sys.exit(main())
