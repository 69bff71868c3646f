"""What trained models say of other scans, as a tidy table on disk.

A row per model, or ensemble, and scan:

    cell, encoder, arm, axes   as in the plan, axes as people write them
    trial, models              id of the trial, or `ensemble`, and of how many models
    fold, seed                 of the trial; an ensemble has none
    patient slide view scanner cohort   the scan, as its data name it
    seen                       the part that the patient has in the sweep: train, validation or test
                               of this model (of an ensemble: of any of its models), external, or
                               empty: this model has not seen the patient
    score                      logit of the second class, or the risk; `score_<class>` of several
    probability                of the second class; `probability_<class>` of several
    threshold, predicted       class by the threshold on the score that was fixed in training, or
                               the largest of several scores; a risk has none

**An ensemble is the mean of its models' scores**: logits, or risks. So a patient's score stays the
mean over scans, the decision is that of the mean distance to the models' own thresholds (its
threshold is their mean), and no new patient is needed to fix it. For classes this is the
logarithmic opinion pool (Genest and Zidek, Statistical Science 1986), whose probabilities are the
normalised geometric mean.

`<name>.parquet` has all digits, `<name>.csv` nine, `<name>.json` says what made them. The same
models and scans give the same bytes.
"""

import hashlib
import json
import os
import secrets
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, TextIO

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq

from orchestrator import files
from orchestrator.errors import StoreError, SweepError
from orchestrator.folder import file_mode, write_file
from training.config import Task
from training.data import folds
from training.metrics.calibration import probability

ENSEMBLE = "ensemble"
SCANS = ("patient", "slide", "view", "scanner", "cohort")
_NAMES = ("encoder", "arm", "trial", *SCANS, "seen", "predicted")
_ENDS = (".parquet", ".csv", ".json")
"""Of the three files of a table."""
_ROWS = 100_000
"""Rows written at once, about."""


def score_columns(classes: Sequence[str]) -> list[str]:
    """Name the columns of the scores of a task; `classes` is empty unless there are several."""
    return [f"score_{name}" for name in classes] or ["score"]


def told(scores: np.ndarray, threshold: float, task: Task, classes: Sequence[str]) -> pd.DataFrame:
    """Tell scores, probabilities and classes of scans.

    Args:
        scores: [scan, class].
        threshold: on the score of a binary task.
        task: of the model.
        classes: names, or numbers as text where these are not known.
    """
    wide = scores.astype(np.float64)
    score, cut, none = wide[:, 0], np.full(len(wide), threshold), np.full(len(wide), np.nan)
    if task.kind == "survival":
        return pd.DataFrame({"score": score, "threshold": none, "predicted": ""})
    if task.kind == "binary":
        said = np.where(score >= cut, classes[1], classes[0])
        columns = {"score": score, "probability": probability(score)}
        return pd.DataFrame({**columns, "threshold": cut, "predicted": said})
    chance = np.exp(wide - np.logaddexp.reduce(wide, axis=1, keepdims=True))
    named = dict(zip(score_columns(classes), wide.T, strict=True))
    named |= {f"probability_{name}": each for name, each in zip(classes, chance.T, strict=True)}
    said = np.array(classes)[wide.argmax(1)]
    return pd.DataFrame({**named, "threshold": none, "predicted": said})


def fingerprint(scans: Mapping[str, pd.DataFrame]) -> str:
    """Hash which scans these are and what is in their bags, wherever they lie; by encoder."""
    digest = hashlib.sha256()
    for encoder, own in sorted(scans.items()):
        digest.update(f"{encoder}\x01".encode())
        for name in folds.READ:
            digest.update(("\x00".join(own[name].astype("str")) + "\x01").encode())
    return digest.hexdigest()[:16]


def write(path: Path, frames: Iterable[pd.DataFrame], about: Mapping[str, Any]) -> list[Path]:
    """Write the three files, each by rename, the description last.

    Args:
        path: of the Parquet file.
        frames: of the same columns, at least one; they are not held together.
        about: the description.
    """
    paths = [path.with_suffix(end) for end in _ENDS]
    scratch = [each.with_name(f".{each.name}-{secrets.token_hex(4)}") for each in paths[:2]]
    try:
        with scratch[1].open("w", encoding="utf-8", errors="surrogateescape", newline="") as text:
            _write(scratch[0], text, frames)
        for temporary, final in zip(scratch, paths, strict=False):
            temporary.chmod(file_mode(path.parent))
            temporary.replace(final)
    finally:
        for temporary in scratch:
            temporary.unlink(missing_ok=True)
    plain = json.dumps(about, indent=1, ensure_ascii=False, sort_keys=True)
    write_file(paths[2], f"{plain}\n".encode())
    return paths


def _write(path: Path, text: TextIO, frames: Iterable[pd.DataFrame]) -> None:
    writer: pq.ParquetWriter | None = None
    with path.open("wb") as file:
        for part in _joined(frames):
            part.to_csv(text, index=False, header=writer is None, float_format="%.9g",
                        lineterminator="\r\n")  # fmt: skip
            table = pa.Table.from_pandas(part, preserve_index=False).replace_schema_metadata(None)
            if writer is None:
                writer = pq.ParquetWriter(
                    file, table.schema, compression="zstd", write_page_checksum=True
                )
            writer.write_table(table)
        assert writer is not None, "a table has rows"
        writer.close()
        for each in (file, text):
            each.flush()
            os.fsync(each.fileno())


def _joined(frames: Iterable[pd.DataFrame]) -> Iterator[pd.DataFrame]:
    """Join small frames, so that each part has many rows."""
    waiting: list[pd.DataFrame] = []
    for frame in frames:
        waiting.append(frame)
        if sum(map(len, waiting)) >= _ROWS:
            yield pd.concat(waiting, ignore_index=True)
            waiting = []
    if waiting:
        yield pd.concat(waiting, ignore_index=True)


def require_ours(path: Path) -> None:
    """Refuse to replace any of three files that are no such table.

    Args:
        path: of the Parquet file.

    Raises:
        SweepError: One is there without a description of such a table.
    """
    there = [each for end in _ENDS if (each := path.with_suffix(end)).exists()]
    if there and not _is_ours(path.with_suffix(".json")):
        raise SweepError(
            f"{there[0]}: is there and was not written by sweep predict", hint="give another --out"
        )


def _is_ours(path: Path) -> bool:
    try:
        return bool(_described(path))
    except StoreError:
        return False


def read(path: Path) -> tuple[pd.DataFrame, dict[str, Any]]:
    """Read a table, ordered by trial, and its description; names are categories.

    Args:
        path: of any of the three files.

    Raises:
        StoreError: It cannot be read.
    """
    about, path = _described(path.with_suffix(".json")), path.with_suffix(".parquet")
    with files.readable(path, hint="sweep predict writes it anew"):
        table = files.read_table(path, names=_NAMES)
    return files.join([table], name=path.stem, categories=_NAMES), about


def _described(path: Path) -> dict[str, Any]:
    try:
        found = json.loads(path.read_text("utf-8"))
    except (OSError, ValueError) as error:
        raise StoreError(
            f"{path}: cannot be read: {error}", hint="it is what sweep predict writes"
        ) from error
    needed = {"sweep", "kind", "data", "data_fingerprint", "classes"}
    if not isinstance(found, dict) or not needed <= found.keys():
        raise StoreError(f"{path}: is no description that sweep predict writes")
    return dict(found)
