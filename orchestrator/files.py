"""Parquet and safetensors files: written durably, and read with errors that name them.

pyarrow and safetensors are imported where a file is written or read, so that commands which need no
table stay quick.
"""

import contextlib
import errno
import os
from collections.abc import Collection, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

from orchestrator.errors import StoreError
from orchestrator.folder import file_mode

if TYPE_CHECKING:
    import pandas as pd
    import pyarrow as pa

_ROWS = 2048
"""Of a table that is gone through, in memory at once."""


def write_frame(frame: "pd.DataFrame", path: Path) -> None:
    """Write a frame as a Parquet file with checksums of its pages."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    table = pa.Table.from_pandas(frame, preserve_index=False).replace_schema_metadata(None)
    with path.open("wb") as file:
        os.fchmod(file.fileno(), file_mode(path.parent))
        pq.write_table(table, file, compression="zstd", write_page_checksum=True)
        file.flush()
        os.fsync(file.fileno())


@contextlib.contextmanager
def readable(path: Path, *, hint: str = "") -> Iterator[None]:
    """Turn what goes wrong while a Parquet file is read into an error that names it.

    Raises:
        StoreError: It cannot be read.
    """
    import pyarrow as pa

    try:
        yield
    except (OSError, pa.ArrowException) as error:
        reason = " ".join(str(error).split())
        hint = hint or _way_out(path.absolute().parent, error)
        raise StoreError(f"{path}: cannot be read: {reason}", hint=hint) from error


def is_damaged(error: Exception) -> bool:
    """Tell whether a file's content is wrong, or gone, and not only out of reach for now."""
    return _is_content(error.__cause__)


def _is_content(error: BaseException | None) -> bool:
    # Arrow tells wrong content as its own errors and as OSErrors without a number.
    return not isinstance(error, OSError) or error.errno in (None, errno.ENOENT)


def _way_out(folder: Path, error: Exception) -> str:
    """Tell what helps where a table in this folder cannot be read: of a segment, to train it."""
    if folder.parent.name != "segments" or isinstance(error, PermissionError):
        return ""
    name = folder.parents[1].name
    if _is_content(error):
        return f"sweep resume {name} --retry damaged trains it again"
    return f"try again; where it stays so, move {folder} away: sweep resume {name} trains it again"


def read_table(path: Path, *, names: tuple[str, ...] = ()) -> "pa.Table":
    """Read a Parquet file and check its pages; earlier versions wrote none to check.

    Args:
        path: of the file.
        names: text columns that are read as numbers of few distinct values.
    """
    import pyarrow.parquet as pq

    # Without threads, and without the data sets of `read_table`: files are small and many.
    with pq.ParquetFile(path, page_checksum_verification=True, read_dictionary=list(names)) as file:
        return file.read(use_threads=False)


def join(tables: "list[pa.Table]", *, name: str, categories: Collection[str]) -> "pd.DataFrame":
    """Join tables with a column `trial`, and order the rows by it; the list is emptied.

    Args:
        tables: of the segments.
        name: of the files, for errors.
        categories: columns that become categories, in sorted order.

    Raises:
        StoreError: A column is of types that do not go together.
    """
    import pandas as pd
    import pyarrow as pa

    if not tables:
        return pd.DataFrame({"trial": pd.Series(dtype="str")})
    try:
        alike = _lists_alike(tables)
        table = pa.concat_tables(alike, promote_options="permissive").unify_dictionaries()
        del alike
    except pa.ArrowTypeError as error:
        raise StoreError(f"{name}.parquet: segments differ in a type: {error}") from error
    tables.clear()
    joined: pd.DataFrame = table.combine_chunks().to_pandas(split_blocks=True, self_destruct=True)
    for column in categories:
        if column in joined:
            own = joined[column].astype("category").cat
            joined[column] = own.reorder_categories(sorted(own.categories))
    if not joined["trial"].is_monotonic_increasing:
        joined = joined.sort_values("trial", kind="stable", ignore_index=True)
    return joined


def _lists_alike(tables: "list[pa.Table]") -> "list[pa.Table]":
    """Make lists of one of plain numbers where other tables have lists in that column.

    Segments differ so in a sweep with a task of two classes and one of more.
    """
    import pyarrow as pa

    def lists(table: pa.Table) -> set[str]:
        return {field.name for field in table.schema if pa.types.is_list(field.type)}

    every, made = set().union(*map(lists, tables)), []
    for table in tables:
        for name in sorted((every & set(table.column_names)) - lists(table)):
            values = table[name].combine_chunks()
            ends = pa.array(range(len(values) + 1), pa.int32())
            place = table.column_names.index(name)
            table = table.set_column(place, name, pa.ListArray.from_arrays(ends, values))
        made.append(table)
    return made


def read_frame(path: Path, *, hint: str = "") -> "pd.DataFrame":
    """Read a Parquet file as a frame.

    Raises:
        StoreError: It cannot be read.
    """
    with readable(path, hint=hint):
        frame: pd.DataFrame = read_table(path).to_pandas()
    return frame


def go_through(path: Path, columns: Collection[str], *, hint: str = "") -> Iterator[dict[str, Any]]:
    """Go through the rows of a Parquet file, in parts: those of these columns that it has.

    Raises:
        StoreError: It cannot be read.
    """
    import pyarrow.parquet as pq

    with (
        readable(path, hint=hint),
        pq.ParquetFile(path, page_checksum_verification=True) as file,
    ):
        there = [name for name in file.schema_arrow.names if name in columns]
        for batch in file.iter_batches(batch_size=_ROWS, columns=there):
            yield from batch.to_pylist()


@contextlib.contextmanager
def tensors(path: Path) -> Iterator[Any]:
    """Open a safetensors file for `keys` and `get_tensor`, which gives arrays.

    Raises:
        StoreError: It cannot be read.
    """
    from safetensors import SafetensorError, safe_open

    try:
        with safe_open(path, framework="numpy") as file:
            yield file
    except (OSError, SafetensorError) as error:
        raise StoreError(f"{path}: cannot be read: {error}") from error


def sync(folder: Path) -> None:
    """Make renames in a folder durable."""
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
