"""Writes the Parquet file of an archive from the segments that count, a part at a time."""

import base64
import itertools
import os
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from orchestrator import archive_rows, files, store
from orchestrator.errors import SweepError
from orchestrator.events import Progress
from orchestrator.folder import Folder

if TYPE_CHECKING:
    import pandas as pd
    import pyarrow as pa

ROW_GROUP = 1_000_000
"""Rows of predictions after which a row group of the archive ends."""
FOLDS = b"sweep.folds.parquet"
"""Key in the file's metadata under which `folds.parquet` is kept as it is, in base64."""


def write(path: Path, folder: Folder, plan: "pd.DataFrame", state: Progress) -> None:
    """Write the rows of a sweep's trials to a new file; segments are never split over row groups.

    Raises:
        SweepError: No trial has a result.
        StoreError: A segment that counts cannot be read.
    """
    import pyarrow.parquet as pq

    parts = _parts(folder, plan, state)
    first = next(parts)
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    with os.fdopen(descriptor, "wb") as file:
        with pq.ParquetWriter(file, first.schema, compression="zstd") as writer:
            for part in itertools.chain([first], parts):
                writer.write_table(part, row_group_size=max(len(part), 1))
            if folder.folds.is_file():
                writer.add_key_value_metadata({FOLDS: base64.b64encode(folder.folds.read_bytes())})
        file.flush()
        os.fsync(file.fileno())


def folds_of(metadata: Mapping[bytes, bytes] | None) -> bytes | None:
    """Return the `folds.parquet` that the metadata of an archive hold; None in older archives."""
    kept = (metadata or {}).get(FOLDS)
    return None if kept is None else base64.b64decode(kept)


def _parts(folder: Folder, plan: "pd.DataFrame", state: Progress) -> Iterator["pa.Table"]:
    """Make the archive's rows by segment, about `ROW_GROUP` predictions at a time."""
    import pyarrow as pa

    counting = {**{t: state.dead[t] for t in state.failed if t in state.dead}, **state.accepted}
    members: dict[tuple[str, int], list[str]] = {}
    for trial, (pack, attempt) in sorted(counting.items()):
        members.setdefault((pack, attempt), []).append(trial)
    if not members:
        raise SweepError(f"{folder.root}: no trial has a result yet; there is nothing to archive")
    schemas = _schemas(folder, list(members))
    held: dict[str, list[pa.Table]] = {name: [] for name in schemas}
    trials: list[str] = []
    rest = [t for t in dict.fromkeys([*state.trials, *plan["trial"]]) if t not in counting]
    for segment in [*sorted(members), None]:
        over = sum(len(table) for table in held["predictions"]) >= ROW_GROUP
        if trials and (over or segment is None):
            yield _rows(plan, held, schemas, trials, state)
            held, trials = {name: [] for name in schemas}, []
        if segment is not None:
            trials += members[segment]
            for name, schema in schemas.items():
                held[name].append(_conform(_read(folder, segment, name), schema))
    if rest:
        yield _rows(plan, held, schemas, rest, state)


def _rows(
    plan: "pd.DataFrame",
    held: Mapping[str, list["pa.Table"]],
    schemas: Mapping[str, "pa.Schema"],
    trials: Sequence[str],
    state: Progress,
) -> "pa.Table":
    import pyarrow as pa

    tables = {
        name: pa.concat_tables([schema.empty_table(), *held[name]])
        for name, schema in schemas.items()
    }
    rows = archive_rows.segment_rows(plan, tables, trials)
    outcomes = [
        "done" if t in state.accepted else "failed" if t in state.failed else "missing"
        for t in trials
    ]
    classes = [None if t in state.accepted else state.failed.get(t) for t in trials]
    rows = rows.append_column("outcome", pa.array(outcomes, pa.string()))
    return rows.append_column("failure_class", pa.array(classes, pa.string()))


def _schemas(folder: Folder, keys: Sequence[tuple[str, int]]) -> dict[str, "pa.Schema"]:
    """Find types that hold the tables of all segments: a newer one may have a further column."""
    import pyarrow as pa

    return {
        name: pa.unify_schemas(
            [_read(folder, key, name, rows=False).schema for key in keys],
            promote_options="permissive",
        ).remove_metadata()
        for name in store.TABLES
    }


def _conform(table: "pa.Table", schema: "pa.Schema") -> "pa.Table":
    import pyarrow as pa

    columns = [
        table[field.name].cast(field.type)
        if field.name in table.column_names
        else pa.nulls(len(table), field.type)
        for field in schema
    ]
    return pa.table(columns, schema=schema)


def _read(folder: Folder, key: tuple[str, int], name: str, *, rows: bool = True) -> "pa.Table":
    import pyarrow.parquet as pq

    path = folder.segments / f"{key[0]}-{key[1]}" / f"{name}.parquet"
    with files.readable(path):
        return files.read_table(path) if rows else pq.read_schema(path).empty_table()
