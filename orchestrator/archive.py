"""A sweep as one Parquet file and a manifest, for scratch file systems that are purged; and back.

The Parquet has a row per trial, and who was in which fold in its metadata; the manifest beside it
has the spec, versions, events and the checksum, and appears last. A Parquet without a manifest is
of a command that was interrupted: the same rows take its place, nothing else. A restored sweep
gives the same tables, byte for byte, and can be resumed. Kept weights and other artefacts are not
archived.
"""

import hashlib
import json
import re
import secrets
import shutil
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from orchestrator import archive_parts, archive_rows, events, jobs, licences, render, store
from orchestrator.errors import StoreError, SweepError
from orchestrator.events import Progress
from orchestrator.folder import Folder, write_file
from orchestrator.render import Mode

FORMAT, VERSION = "sweep-archive", 1
NOT_KEPT = ("launching", "launched", "alive", "submitting", "submitted")
"""Events that name processes and jobs, which mean nothing, or something else, elsewhere."""
NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}")


def write(folder: Folder, out: Path, *, mode: Mode) -> int:
    """Archive a sweep to `out` and `out`.manifest.json, and say what was written.

    Raises:
        SweepError: There is no such sweep, or a file of this name is there.
        StoreError: The sweep trains and is not done, or a segment cannot be read.
    """
    folder.require()
    if _manifest(out).exists():
        raise _taken(out if out.exists() else _manifest(out))
    state = _settled(folder)
    plan = store.read_plan(folder)
    content: dict[str, Any] = {
        "format": FORMAT, "version": VERSION, "sweep": folder.name, "created": events.now(),
        "counts": _counts(state), "spec": folder.spec.read_text(encoding="utf-8"),
        "code": _code(folder),
        "licences": licences.read(folder, set(plan["encoder"])), "left_out": _left_out(folder),
        "restore": f"sweep archive {out.name} --restore",
    }  # fmt: skip
    kept = [event for event in events.read_events(folder) if event["event"] not in NOT_KEPT]
    partial = out.with_name(f".{out.name}-{secrets.token_hex(4)}")
    try:
        archive_parts.write(partial, folder, plan, state)
        content["parquet"] = {
            "name": out.name, "bytes": partial.stat().st_size, "sha256": _sha256(partial)
        }  # fmt: skip
        if out.exists() and _sha256(out) != content["parquet"]["sha256"]:
            raise _taken(out)
        text = json.dumps({**content, "events": kept}, ensure_ascii=False, indent=1)
        # Before the Parquet has its name: a disk that is full leaves neither.
        write_file(_manifest(partial), text.encode(), mode=0o600)
        partial.rename(out)
        _manifest(partial).rename(_manifest(out))
    finally:
        partial.unlink(missing_ok=True)
        _manifest(partial).unlink(missing_ok=True)
    _tell(content, files=[out, _manifest(out)], mode=mode)
    return 0


def restore(file: Path, results: Path, *, mode: Mode) -> int:
    """Rebuild `results/<sweep>` from an archive whose checksum is right.

    Raises:
        SweepError: There is no such archive, or a sweep of this name is there.
        StoreError: The archive is damaged.
    """
    import pyarrow.parquet as pq

    content = _read_manifest(file)
    folder = Folder(results / content["sweep"])
    if folder.root.exists():
        raise SweepError(
            f"{folder.root}: exists already", hint="move it away, or restore to another --results"
        )
    if (found := _sha256(file)) != (expected := content["parquet"]["sha256"]):
        raise StoreError(f"{file}: damaged: its SHA-256 is {found}; expected {expected}")
    partial = Folder(results / f".{folder.name}-{secrets.token_hex(4)}")
    partial.create()
    try:
        archived = pq.ParquetFile(file)
        names = [n for n in archived.schema_arrow.names if n not in archive_rows.NESTED]
        store.write_plan(partial, archive_rows.plan_of(archived.read(columns=names)))
        for number in range(archived.num_row_groups):
            for (pack, attempt), tables in archive_rows.segments(archived.read_row_group(number)):
                frames = {name: table.to_pandas() for name, table in tables.items()}
                store.write_segment(partial, pack, attempt, tables=frames, artefacts={})
        if (folds := archive_parts.folds_of(archived.metadata.metadata)) is not None:
            write_file(partial.folds, folds)
        write_file(partial.spec, content["spec"].encode())
        write_file(partial.code, json.dumps(content["code"], indent=1).encode())
        lines = [json.dumps(event, ensure_ascii=False) for event in content["events"]]
        write_file(partial.events / "archive.jsonl", "".join(f"{x}\n" for x in lines).encode())
        partial.root.rename(folder.root)
    finally:
        shutil.rmtree(partial.root, ignore_errors=True)
    _tell(content, files=[folder.root], mode=mode)
    return 0


def _taken(path: Path) -> SweepError:
    return SweepError(f"{path}: exists already", hint="give another name: --out FILE")


def _settled(folder: Folder) -> Progress:
    """Fold the sweep once no result of it is in the air."""
    state = events.progress(folder)
    if jobs.running(state, jobs.ask(state)):
        if state.to_train:
            raise StoreError(
                f"{folder.root}: this sweep is training",
                hint=f"wait for its end: sweep status {folder.name}; or sweep cancel {folder.name}",
            )
        render.note("every trial is done; the driver is still ending", kind="note")
    elif state.unjudged:
        store.adopt(folder, events.Journal(folder, "archive"))
        state = events.progress(folder)
    return state


def _read_manifest(file: Path) -> dict[str, Any]:
    path = _manifest(file)
    if not file.is_file() or not path.is_file():
        raise SweepError(
            f"{file}: no archive: it and {path.name} beside it are needed",
            hint="give the .parquet file that sweep archive wrote",
        )
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
        sound = content["format"] == FORMAT and NAME.fullmatch(content["sweep"])
        sound = sound and isinstance(content["spec"], str) and isinstance(content["code"], dict)
        sound = sound and all("event" in event and "time" in event for event in content["events"])
        sound = sound and isinstance(content["parquet"]["sha256"], str)
        version = content["version"]
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise StoreError(f"{path}: not the manifest of an archive: {error}") from error
    if not sound or version != VERSION:
        raise StoreError(
            f"{path}: not the manifest of an archive of version {VERSION}",
            hint="restore it with the version of sweep that wrote it" if sound else "",
        )
    return dict(content)


def _manifest(file: Path) -> Path:
    return file.with_name(f"{file.name}.manifest.json")


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _code(folder: Folder) -> dict[str, Any]:
    """Read commit and versions; nothing where their file cannot be read, which no result needs."""
    try:
        return dict(json.loads(folder.code.read_text(encoding="utf-8")))
    except (OSError, ValueError, TypeError) as error:
        render.note(f"{folder.code}: cannot be read, and is left out: {error}", kind="warning")
        return {}


def _counts(state: Progress) -> dict[str, int]:
    trials, done, failed = len(state.trials), len(state.done), len(state.given_up)
    return {
        "trials": trials, "cells": state.cells, "done": done, "failed": failed,
        "missing": trials - done - failed,
    }  # fmt: skip


def _left_out(folder: Folder) -> dict[str, int]:
    """Count the artefacts, weights among them, which stay where they are."""
    files = list(folder.segments.glob("[!.]*/artefacts/*"))
    return {"weights_files": len(files), "weights_bytes": sum(f.stat().st_size for f in files)}


def _tell(content: Mapping[str, Any], *, files: Sequence[Path], mode: Mode) -> None:
    counts, left_out = content["counts"], content["left_out"]
    paths = [str(path) for path in files]
    if mode == "json":
        keys = ("sweep", "created", "counts", "parquet", "left_out")
        render.value({**{key: content[key] for key in keys}, "files": paths})
    elif mode == "quiet":
        render.lines(paths)
    else:
        text = ", ".join(f"{counts[key]:,} {key}" for key in ("done", "failed", "missing"))
        size = f"{content['parquet']['bytes'] / 1e6:.1f} MB"
        render.facts([(content["sweep"], f"{text}; {size}"), ("wrote", "\n".join(paths))])
    if left_out["weights_files"]:
        size = f"{left_out['weights_bytes'] / 1e6:.1f} MB"
        render.note(f"{left_out['weights_files']:,} artefacts ({size}) are not in the archive")
