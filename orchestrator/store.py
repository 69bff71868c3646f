"""Segments and tables of a sweep on disk: they appear whole, by rename, and never change.

A finished pack leaves one immutable segment, a folder renamed into place. This module takes no lock
and deletes nothing but its own temporary folders. pyarrow and pandas are imported where tables are
read or written, so that commands which need no table stay quick.
"""

import logging
import secrets
import shutil
import socket
from collections.abc import Collection, Iterable, Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from orchestrator import events, files
from orchestrator.errors import StoreError
from orchestrator.folder import Folder, folder_mode, write_file

if TYPE_CHECKING:
    import pandas as pd

log = logging.getLogger(__name__)

TABLES = ("trials", "curves", "predictions")

NAMES = ("trial", "patient", "slide", "view", "scanner", "cohort", "part")
"""Text columns of `predictions`."""


def write_segment(
    folder: Folder,
    pack: str,
    attempt: int,
    *,
    tables: Mapping[str, "pd.DataFrame"],
    artefacts: Mapping[str, "Mapping[str, Any] | pd.DataFrame"],
) -> bool:
    """Write a finished pack's results so that they appear whole or not at all.

    Args:
        folder: the sweep.
        pack: the pack's id.
        attempt: which try this is, from 1.
        tables: `trials`, `curves` and `predictions`.
        artefacts: file stem under `artefacts/` to arrays by name, written as safetensors, or to a
            table, written as Parquet.

    Returns:
        False where this segment exists already: an earlier copy of the same attempt counts.
    """
    temporary = folder.segments / f".{pack}-{attempt}-{socket.gethostname()}-{secrets.token_hex(4)}"
    temporary.mkdir(mode=folder_mode(folder.segments))
    try:
        for name in TABLES:
            files.write_frame(tables[name], temporary / f"{name}.parquet")
        if artefacts:
            _write_artefacts(artefacts, temporary / "artefacts")
        files.sync(temporary)
        temporary.rename(folder.segments / f"{pack}-{attempt}")
        files.sync(folder.segments)
    except FileExistsError:
        return False
    except OSError as error:
        if (folder.segments / f"{pack}-{attempt}").is_dir():
            return False
        raise StoreError(f"{temporary.parent}: segment not written: {error}") from error
    finally:
        shutil.rmtree(temporary, ignore_errors=True)
    return True


def adopt(folder: Folder, journal: events.Journal) -> None:
    """Judge the segments whose driver died before it could: their dead lanes become failures.

    One whose content is wrong is set aside: its trials are missing.

    Raises:
        StoreError: One cannot be read now.
    """
    for pack, attempt in events.progress(folder).unjudged:
        name = f"{pack}-{attempt}"
        try:
            trials = files.read_frame(folder.segments / name / "trials.parquet")
            trials = trials[["trial", "state", "failure", "seconds"]]
        except (StoreError, KeyError) as error:
            if not files.is_damaged(error):
                raise
            set_aside(folder, [name])
            log.warning("segment=%s set aside, its trials are missing: %s", name, error)
            continue
        dead = trials[trials["state"] == "failed"]
        pairs = zip(dead["trial"], dead["failure"], strict=True)
        failed = {str(trial): str(failure).partition(":")[0] for trial, failure in pairs}
        retired = trials.loc[trials["state"] == "retired", "trial"].astype(str).to_list()
        seconds = float(trials["seconds"].sum())
        journal.write(
            "accepted", pack=pack, attempt=attempt, failed=failed, retired=retired, seconds=seconds
        )


def write_plan(folder: Folder, plan: "pd.DataFrame") -> None:
    """Replace `plan.parquet` in one step."""
    _replace(folder.plan, plan)


def write_folds(folder: Folder, folds: "pd.DataFrame") -> None:
    """Replace `folds.parquet` in one step."""
    _replace(folder.folds, folds)


def read_folds(folder: Folder) -> "pd.DataFrame | None":
    """Read `folds.parquet`; None where there is none, or none that can be read.

    What it says follows from the data and the plan, so the next launch writes it anew.
    """
    if not folder.folds.is_file():
        return None
    try:
        return files.read_frame(folder.folds)
    except StoreError as error:
        log.warning("%s", error.message)
        return None


def _replace(path: Path, frame: "pd.DataFrame") -> None:
    temporary = path.with_name(f".{path.stem}-{secrets.token_hex(4)}")
    files.write_frame(frame, temporary)
    temporary.rename(path)


def read_plan(folder: Folder, *, whole: bool = False) -> "pd.DataFrame":
    """Read `plan.parquet`.

    Args:
        folder: the sweep.
        whole: also trials that the spec dropped while they trained; they are in no cell (-1).

    Raises:
        StoreError: There is no plan, or it cannot be read.
    """
    folder.require()
    plan = files.read_frame(folder.plan, hint="launch the spec again: it writes the plan anew")
    return plan if whole or "cell" not in plan else plan[plan["cell"] >= 0]


def go_through_plan(folder: Folder, columns: Collection[str]) -> Iterator[dict[str, Any]]:
    """Go through the rows of `plan.parquet`, those of no cell too, without holding them all.

    A column that an older plan lacks is not in the rows.

    Raises:
        StoreError: There is no plan, or it cannot be read.
    """
    folder.require()
    hint = "launch the spec again: it writes the plan anew"
    yield from files.go_through(folder.plan, columns, hint=hint)


def read_results(folder: Folder, names: Collection[str] = TABLES) -> dict[str, "pd.DataFrame"]:
    """Read the tables of the results that count, one row set per trial.

    Returns:
        `trials`, `curves` and `predictions`, or those named, each ordered by trial id.

    Raises:
        StoreError: A segment that counts cannot be read; the message names it.
    """
    import pandas as pd

    parts: dict[str, list[pd.DataFrame]] = {name: [] for name in names}
    for segment, ids in counting(folder).items():
        for name in names:
            frame = files.read_frame(segment / f"{name}.parquet")
            parts[name].append(frame[frame["trial"].isin(ids)])
    return {name: _joined(frames) for name, frames in parts.items()}


def read_compact(folder: Folder) -> dict[str, "pd.DataFrame"]:
    """Read `trials` and `predictions` of the results that count, in a tenth of the memory.

    As `read_results`, but without the curves, and names in the predictions are categories, in
    sorted order.

    Raises:
        StoreError: A segment that counts cannot be read; the message names it.
    """
    import pyarrow as pa
    import pyarrow.compute as pc

    texts = {"trials": (), "predictions": NAMES}
    parts: dict[str, list[pa.Table]] = {name: [] for name in texts}
    for segment, ids in counting(folder).items():
        others = False
        for name, tables in parts.items():
            path = segment / f"{name}.parquet"
            with files.readable(path):
                table = files.read_table(path, names=texts[name])
                if name == "trials":
                    others = not ids.issuperset(table["trial"].to_pylist())
                if others:
                    table = table.filter(pc.is_in(table["trial"], pa.array(sorted(ids))))
            tables.append(table)
    return {name: files.join(parts[name], name=name, categories=own) for name, own in texts.items()}


def counting(folder: Folder) -> dict[Path, set[str]]:
    """Return the trials whose result counts, failed ones too, by the segment that holds it."""
    state = events.progress(folder)
    dead = {trial: state.dead[trial] for trial in state.failed if trial in state.dead}
    results = {**dead, **state.accepted}
    found: dict[tuple[str, int], set[str]] = {}
    for trial in state.trials:
        if trial in results:
            found.setdefault(results[trial], set()).add(trial)
    return {folder.segments / f"{pack}-{number}": ids for (pack, number), ids in found.items()}


def read_validation(folder: Folder, trials: Collection[str]) -> dict[str, float]:
    """Read the validation values of trials that are done; NaN where one is not defined.

    Raises:
        StoreError: A segment that counts cannot be read; the message names it.
    """
    state = events.progress(folder)
    wanted = sorted({state.accepted[trial] for trial in trials if trial in state.accepted})
    found: dict[str, float] = {}
    for result in wanted:
        name = "-".join(map(str, result))
        frame = files.read_frame(folder.segments / name / "trials.parquet")
        pairs = zip(frame["trial"].astype(str), frame["validation"].astype(float), strict=True)
        found |= {trial: v for trial, v in pairs if state.accepted.get(trial) == result}
    return {trial: value for trial, value in found.items() if trial in set(trials)}


def damaged(folder: Folder) -> dict[str, str]:
    """Read every segment that counts, whole; return what is wrong by `<pack>-<attempt>`.

    Raises:
        StoreError: One cannot be read now.
    """
    state = events.progress(folder)
    wanted: dict[tuple[str, int], set[str]] = {}
    for trial, result in state.accepted.items():
        wanted.setdefault(result, set()).add(trial)
    found = {}
    for (pack, attempt), trials in sorted(wanted.items()):
        name = f"{pack}-{attempt}"
        if reason := _damage(folder.segments / name, trials):
            found[name] = reason
    return found


def set_aside(folder: Folder, names: Iterable[str]) -> None:
    """Rename segments so that they count no more and nothing is lost; their trials are missing."""
    for name in names:
        mark = f".damaged-{name}-{secrets.token_hex(2)}"
        (folder.segments / name).rename(folder.segments / mark)
    files.sync(folder.segments)


def _damage(segment: Path, trials: set[str]) -> str:
    """Tell what is wrong with a segment that should hold results of these trials; else empty."""
    try:
        tables = {name: files.read_frame(segment / f"{name}.parquet") for name in TABLES}
    except StoreError as error:
        if not files.is_damaged(error):
            raise
        return error.message
    for name in ("trials", "predictions"):
        missing = trials - set(tables[name]["trial"]) if "trial" in tables[name] else trials
        if missing:
            return f"{segment / name}.parquet: no rows of trial {min(missing)}"
    return ""


def _joined(frames: list["pd.DataFrame"]) -> "pd.DataFrame":
    import pandas as pd

    if not frames:
        return pd.DataFrame({"trial": pd.Series(dtype="str")})
    joined = pd.concat(frames, ignore_index=True)
    return joined.sort_values("trial", kind="stable", ignore_index=True)


def _write_artefacts(
    artefacts: Mapping[str, "Mapping[str, Any] | pd.DataFrame"], folder: Path
) -> None:
    import pandas as pd
    from safetensors.numpy import save

    folder.mkdir(mode=folder_mode(folder.parent))
    for stem, content in artefacts.items():
        if isinstance(content, pd.DataFrame):
            files.write_frame(content, folder / f"{stem}.parquet")
        else:
            write_file(folder / f"{stem}.safetensors", save(dict(content)))
    files.sync(folder)
