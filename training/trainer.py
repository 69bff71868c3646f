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
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Literal

import numpy as np
import pandas as pd
import torch
from safetensors.numpy import save_file

from training import checkpoint as checkpoints
from training import evaluation, lanes, memory, view_shift
from training.artefacts import NOTHING, Collector, Keep, Kept
from training.config import TrialConfig, lane_key
from training.data import index
from training.data.index import Dataset
from training.errors import DataError
from training.session import Session

log = logging.getLogger(__name__)


Retire = Callable[[int, Mapping[int, float]], Collection[int]]
"""Given the epoch and the validation value that each trial in training would have, by its position,
says which of them end."""


class Stopped(Exception):  # noqa: N818
    """Training was asked to stop; the checkpoint, if there is one, is written."""


@dataclass(frozen=True, slots=True, kw_only=True)
class LaneResult:
    """What training a trial gave.

    Attributes:
        state: failed where a number was not finite; then there are no predictions and weights.
            retired where the caller ended it before its time; it has what it had come to.
        failure: the reason, empty unless failed.
        epoch: the chosen epoch, from 1; 0 if failed.
        epochs_trained: epochs behind it.
        threshold: decision threshold on the logit; 0 but for a binary task.
        validation: validation value of the chosen epoch; NaN without validation.
        curves: per epoch: loss, task_loss, each robustness loss by kind, validation_loss,
            validation_auroc (of a survival task validation_concordance), validation_inconsistency
            where the rule of the epoch reads it, lr.
        predictions: columns patient, slide, view, scanner, cohort, part, held_out, label, score,
            and for a survival task those that `evaluation.predictions` adds; one row per scan of
            the held-out patients, per scan of the validation patients that may validate, and per
            scan of external patients (part `external`, not held out: they are in no fold); scores
            in the trial's precision.
        weights: parameters and buffers of the chosen epoch by name, and what moves embeddings
            before the model: see `training.data.input_map`.
        kept: what else was asked for; None if failed, or where nothing was.
    """

    state: Literal["done", "retired", "failed"]
    failure: str
    epoch: int
    epochs_trained: int
    threshold: float
    validation: float
    curves: dict[str, np.ndarray]
    predictions: pd.DataFrame
    weights: dict[str, np.ndarray]
    kept: Kept | None = None


def train(
    configs: Sequence[TrialConfig],
    dataset: Dataset,
    *,
    device: str = "cpu",
    checkpoint: Path | None = None,
    on_epoch: Callable[[int, int], None] | None = None,
    stop: Callable[[], bool] | None = None,
    retire: Retire | None = None,
    checkpoint_every_s: float = 60.0,
    resident_bytes: int = 2**31,
    keep: Keep = NOTHING,
    gpu_share: float = 1.0,
) -> list[LaneResult]:
    """Train the trials as lanes; a lone one gets a companion.

    Args:
        configs: trials of one `lane_key`.
        dataset: what they read.
        device: a torch device.
        checkpoint: folder to resume from and to write to, which the caller deletes; the result is
            the same bits as without a stop. One of other trials, data or device, or a broken one,
            is passed over with a warning.
        on_epoch: called after each epoch with its number and the most there will be.
        stop: asked before each step; true ends training at the epoch before.
        retire: asked after each epoch but the last which trials end now.
        checkpoint_every_s: seconds between checkpoints.
        resident_bytes: bags are kept in memory if they take no more than this.
        keep: what to leave of the held-out scans beside their predictions.
        gpu_share: how much of the GPU's memory is this process's, 0 to 1.

    Raises:
        DataError: The data do not fit the configuration.
        Stopped: `stop` said so.
    """
    if not configs or len({lane_key(config) for config in configs}) > 1:
        raise ValueError("lanes need trials of one lane key")
    if not lanes.aligned_alike():
        log.warning("MKL_CBWR=AUTO is not in force: equal trials may differ in their last bits")
    session = Session(
        configs if len(configs) > 1 else [*configs] * 2, dataset, device=torch.device(device),
        resident_bytes=resident_bytes, held_out_views=keep.views, gpu_share=gpu_share,
    )  # fmt: skip
    _resume(session, checkpoint)
    epochs, written = session.shared.optim.epochs, time.monotonic()
    stops = checkpoint is not None and stop is not None
    while session.epoch < epochs and session.training:
        before = session.snapshot() if stops or device != "cpu" else None
        if not memory.fitting(session, partial(session.run_epoch, stop), before, checkpoint):
            checkpoints.leave(checkpoint, before)
            raise Stopped(f"after epoch {session.epoch - 1} of {epochs}")
        _retire(session, retire, num_trials=len(configs))
        if checkpoint is not None and time.monotonic() - written >= checkpoint_every_s:
            checkpoints.write(checkpoint, *session.snapshot())
            written = time.monotonic()
        if on_epoch is not None:
            on_epoch(session.epoch, epochs)
    before = session.snapshot() if stops or device != "cpu" else None
    found = memory.fitting(session, partial(_results, session, keep), before, checkpoint)
    return found[: len(configs)]


def _retire(
    session: Session,
    retire: Retire | None,
    *,
    num_trials: int,
) -> None:
    """Ask which trials end after this epoch; the companion of a lone one ends with it."""
    if retire is None or session.epoch == session.shared.optim.epochs:
        return
    training = [session.slots[place] for place in session.training]
    values = {lane: session.progress[lane].validation for lane in training if lane < num_trials}
    chosen = set(retire(session.epoch, values)) if values else set()
    if chosen:
        session.retire([lane for lane in training if {lane, lane - num_trials} & chosen])


def _resume(session: Session, checkpoint: Path | None) -> None:
    """Go on from the checkpoint, if there is one that fits."""
    found = checkpoints.read(checkpoint) if checkpoint is not None else None
    if found is None:
        return
    try:
        session.restore(*found)
    except ValueError as error:
        log.warning("%s: checkpoint not used, training starts anew: %s", checkpoint, error)


def _results(session: Session, keep: Keep) -> list[LaneResult]:
    """Evaluate the chosen epoch of every lane on whole bags."""
    test = session.scans.of("test", seen_only=False)
    seen = session.scans.of("validation", seen_only=True)
    rows = np.concatenate([test, seen])
    stack = session.lanes
    stack.put(session.choice.flat, session.choice.state, session.kinds)
    collector = _collector(session, keep, rows) if keep != NOTHING else None
    scores = evaluation.score(stack, session.loader, rows, session.num_tiles, observe=collector)
    validation = slice(len(test), len(rows))
    external = session.scans.of("external", seen_only=False)
    if len(external):  # apart, so that no bit of the others depends on them
        more = evaluation.score(stack, session.loader, external, session.num_tiles)
        rows, scores = np.concatenate([rows, external]), np.concatenate([scores, more], axis=1)
    found = [
        _result(session, lane, rows, lane_scores, validation=validation)
        for lane, lane_scores in enumerate(scores)
    ]
    if collector is None:
        return found
    kept = collector.finish(stack, [result.state == "done" for result in found])
    if keep.views:
        kept = view_shift.added(session, kept, test, scores[:, : len(test)])
    return [dataclasses.replace(one, kept=its) for one, its in zip(found, kept, strict=True)]


def _collector(session: Session, keep: Keep, rows: np.ndarray) -> Collector:
    part = session.scans.table["part"].to_numpy()[rows]
    return Collector(
        keep,
        session.scans,
        session.loader,
        num_lanes=len(session.lanes),
        head=session.shared.head.kind,
        rows=rows,
        held_out=(part != "train") & (part != "validation"),
    )


def _result(
    session: Session, lane: int, rows: np.ndarray, scores: np.ndarray, *, validation: slice
) -> LaneResult:
    progress = session.progress[lane]
    failure = progress.failure
    if not failure and not np.isfinite(scores).all():
        failure = "numeric: scores are not finite"
    if session.scans.outcomes is not None:
        scores = evaluation.risks(scores)
    if session.configs[lane].test_time == "mean_over_scans":
        scores = evaluation.mean_over_scans(session.scans, rows, scores)
    weights, threshold = {}, 0.0
    if failure:
        rows, scores = rows[:0], scores[:0]
    else:
        its = session.choice.flat[lane], session.choice.state[lane]
        chosen = session.lanes.named(*its, kind=session.kinds[lane])
        weights = {
            name.removeprefix("model."): tensor.cpu().numpy() for name, tensor in chosen.items()
        }
        if session.loader.input_map is not None:
            weights |= session.loader.input_map.weights()
        if session.validation is not None:
            rule = session.shared.stopping.threshold
            threshold = session.validation.threshold(scores[validation], rule)
    return LaneResult(
        state="failed" if failure else "retired" if progress.state == "retired" else "done",
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
    kept = ("curves", "predictions", "weights", "kept")
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
