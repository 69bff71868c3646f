"""Adding an encoder to a data set: what is there already, what must agree, and the commit.

Shards are written elsewhere, under names that the present index does not use. `commit` renames
index.parquet last; before that rename the old tables are valid, after it the new ones.
"""

import itertools
import math
import re
from collections.abc import Collection, Set
from dataclasses import dataclass
from pathlib import Path

import pandas as pd

from training.data import tables
from training.errors import DataError


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Existing:
    """The tables of a data set that is there."""

    index: pd.DataFrame
    cases: pd.DataFrame
    folds: pd.DataFrame | None


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Joined:
    """The tables to be, but for where the new views lie.

    Args:
        kept: index rows of the other encoders.
        added: index rows of the encoder that is written.
        cases: one row per patient.
        bridge: cases that serve both the old index and the new one.
        folds: held-out patients; None: there are none.
        shards: paths that the present index uses.
    """

    kept: pd.DataFrame
    added: pd.DataFrame
    cases: pd.DataFrame
    bridge: pd.DataFrame
    folds: pd.DataFrame | None
    shards: Set[str]


def version(root: Path) -> tuple[int, ...]:
    """Tell versions of the index apart: each is another file, renamed into place."""
    try:
        found = (root / "index.parquet").stat()
    except OSError:
        return ()
    return found.st_ino, found.st_mtime_ns, found.st_size


def existing(root: Path) -> Existing | None:
    """Read the data set that is there, if any.

    Raises:
        DataError: The folder holds something else.
    """
    try:
        if (root / "index.parquet").exists():
            index, cases, folds = tables.read(root)
            return Existing(index=index, cases=cases, folds=folds)
        if not root.exists():
            return None
        if not root.is_dir():
            raise DataError(f"{root}: is a file, expected a folder")
        names = {path.name for path in root.iterdir() if not path.name.endswith(".partial")}
    except OSError as error:
        raise DataError(f"{root}: cannot be read: {error}") from error
    ours = {"shards", "cases.parquet", "folds.parquet", "thumbnails"}  # before the first index
    foreign = sorted(names - ours)
    if foreign:
        raise DataError(
            f"{root}: holds {tables.joined(foreign[:3])} and no index.parquet, so it is not a data "
            "set",
            hint="give a new folder",
        )
    return None


def join(
    old: Existing | None,
    added: pd.DataFrame,
    cases: pd.DataFrame,
    folds: pd.DataFrame | None,
    *,
    replacing: Collection[str] = (),
) -> Joined:
    """Put new views beside those of the other encoders.

    Args:
        old: what is there.
        added: index rows of one encoder.
        cases: one row per patient of these.
        folds: held-out patients.
        replacing: encoders whose views are written next: what is there of them need not agree.

    Raises:
        DataError: They contradict themselves or each other; all contradictions at once.
    """
    if added.empty or "view" not in added:
        raise DataError("no views to write")
    if "patient" not in cases:
        raise DataError("cases have no column 'patient'")
    encoder = str(added["encoder"].iloc[0])
    lines = _wrong_names(encoder, added)
    cases = cases.fillna("").astype("str")
    kept = _no_rows() if old is None else old.index[old.index["encoder"] != encoder]
    merged = bridge = cases.sort_values("patient", ignore_index=True)
    lines += tables.repeated_patients(cases)
    if old is not None:
        before = old.cases[old.cases["patient"].isin(set(kept["patient"]))]
        agreeing = set(kept["patient"][~kept["encoder"].isin(replacing)])
        lines += _changed(before[before["patient"].isin(agreeing)], cases)
        merged = _overlay(before, cases)
        bridge = _overlay(old.cases, cases)
    shared = [*tables.VIEW_STRINGS, "encoder", "routine", "num_tiles", "dim"]
    others = kept[~kept["encoder"].isin(replacing)]
    views = added[shared] if others.empty else pd.concat([others[shared], added[shared]])
    lines += tables.contradictions(views, merged)
    if folds is None:
        folds = None if old is None else old.folds
    else:
        folds = folds.astype(tables.FOLD_TYPES)[list(tables.FOLD_TYPES)]
        folds = folds.sort_values(list(tables.FOLD_TYPES), ignore_index=True)
        lines += [
            f"patient {patient!r}: in the folds and not in the cases"
            for patient in sorted(set(folds["patient"]) - set(merged["patient"]))
        ]
    if lines:
        raise DataError("\n".join(lines))
    shards = set() if old is None else set(old.index["shard"])
    return Joined(kept=kept, added=added, cases=merged, bridge=bridge, folds=folds, shards=shards)


def places(joined: Joined, shard_bytes: int) -> pd.DataFrame:
    """Put the added views into shards: in order, one stored type each, up to the size.

    Shards are named apart from those that the present index uses.

    Returns:
        The added views in shard order with `shard` and `row_start`.
    """
    encoder = joined.added["encoder"].iloc[0]
    names = (f"shards/{encoder}-{number:03d}.h5" for number in itertools.count())
    free = (name for name in names if name not in joined.shards)
    ordered = joined.added.sort_values("dtype", kind="stable", ignore_index=True)
    shards, starts = [], []
    name, size, start, last = "", math.inf, 0, ""
    for row in ordered[["dtype", "num_tiles", "dim"]].itertuples(index=False):
        dtype, num_tiles, dim = row
        bag = num_tiles * (dim * (2 if dtype == "float16" else 4) + 12)
        if dtype != last or size + bag > shard_bytes:
            name, size, start, last = next(free), 0, 0, dtype
        shards.append(name)
        starts.append(start)
        size, start = size + bag, start + num_tiles
    return ordered.assign(shard=shards, row_start=starts)


def commit(root: Path, joined: Joined, added: pd.DataFrame) -> None:
    """Write the tables; the added rows count from the rename of index.parquet on.

    Raises:
        DataError: The present index uses shards of the added rows: the encoder was written twice.
    """
    if twice := joined.shards & set(added["shard"]):
        raise DataError(
            f"{root}: another import of this encoder came first: it wrote {min(twice)}",
            hint="import it again",
        )
    columns = list(tables.INDEX_TYPES)
    index = added[columns] if joined.kept.empty else pd.concat([joined.kept, added])[columns]
    index = index.astype(tables.INDEX_TYPES).sort_values(["encoder", "view"], ignore_index=True)
    tables.write(joined.bridge, root / "cases.parquet")
    if joined.folds is not None:
        tables.write(joined.folds, root / "folds.parquet")
    tables.write(index, root / "index.parquet")
    if not joined.bridge.equals(joined.cases):
        tables.write(joined.cases, root / "cases.parquet")


def tidy(root: Path, encoder: str) -> None:
    """Delete what a writer of this encoder left and the index does not use."""
    if not root.is_dir():
        return
    written = (root / "index.parquet").exists()
    used = set(tables.read(root)[0]["shard"]) if written else set()
    pattern = re.compile(rf"\.?{re.escape(encoder)}-\d+\.h5(\.partial)?")
    left = [
        path
        for path in (root / "shards").glob("*")
        if pattern.fullmatch(path.name) and f"shards/{path.name}" not in used
    ]
    for name in ("index", "cases", "folds"):
        left.append(root / f".{name}.parquet.partial")
        if not written:
            left.append(root / f"{name}.parquet")
    for path in left:
        path.unlink(missing_ok=True)


def _no_rows() -> pd.DataFrame:
    return pd.DataFrame({name: pd.Series(dtype=kind) for name, kind in tables.INDEX_TYPES.items()})


def _wrong_names(encoder: str, added: pd.DataFrame) -> list[str]:
    lines = []
    if not re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9._-]*", encoder):
        lines.append(f"encoder {encoder!r}: only letters, digits and ._- may be in the name")
    types = zip(added["view"], added["dtype"], strict=True)
    return lines + [
        f"view {view!r}: type {dtype!r}, expected float16 or float32"
        for view, dtype in types
        if dtype not in ("float16", "float32")
    ]


def _changed(before: pd.DataFrame, cases: pd.DataFrame) -> list[str]:
    """Find patients of other encoders whose label or covariate would change."""
    both = before.merge(cases, on="patient", suffixes=("", " (new)"))
    return [
        f"patient {row['patient']!r}: {name} is {row[f'{name} (new)']!r}, but {row[name]!r} in the "
        "data set, where another encoder uses it"
        for name in cases.columns.intersection(before.columns).drop("patient")
        for _, row in both[both[name].astype("str") != both[f"{name} (new)"]].iterrows()
    ]


def _overlay(before: pd.DataFrame, cases: pd.DataFrame) -> pd.DataFrame:
    """Put the rows and columns of `cases` over those of `before`."""
    columns = list(dict.fromkeys([*before.columns, *cases.columns]))
    over = cases.drop_duplicates("patient").set_index("patient")
    both = over.combine_first(before.astype("str").set_index("patient")).fillna("")
    return both.reset_index()[columns].sort_values("patient", ignore_index=True)
