"""The rows of an archive: a plan and the tables of segments as one row per trial, and back; pure.

A trial's curves and predictions become lists of structs in its row. Going there and back gives
equal tables: the order of the rows of a trial and every type are kept. A trial that stands in
several cells has the first in its row and the others in `further`.
"""

from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import pandas as pd
    import pyarrow as pa

NESTED = ("curves", "predictions")
OF_TRIAL = ("trial", "config", "fingerprint", "pack_family")
"""Columns of a plan that are equal in all rows of a trial."""
NUMBERS = ["row", "cell", "fold", "seed", "priority"]


def planned(plan: "pd.DataFrame", trials: Sequence[str]) -> "pa.Table":
    """Give each of these trials its row of the plan, `row` its number; nulls where it has none."""
    import pandas as pd

    numbered = plan.reset_index(drop=True).rename_axis("row").reset_index()
    again = numbered["trial"].duplicated()
    first = numbered[~again].set_index("trial").reindex(pd.Index(trials, name="trial"))
    table = _typed(first.reset_index())
    own = [name for name in numbered.columns if name not in OF_TRIAL or name == "trial"]
    return table.append_column("further", nest(_typed(numbered.loc[again, own]), trials))


def _typed(frame: "pd.DataFrame") -> "pa.Table":
    import pyarrow as pa

    kinds = {name: pa.int64() if name in NUMBERS else pa.string() for name in frame.columns}
    for name in frame.columns.intersection(NUMBERS):
        frame = frame.assign(**{name: frame[name].astype("Int64")})
    schema = pa.schema(list(kinds.items()))
    table: pa.Table = pa.Table.from_pandas(frame, schema=schema, preserve_index=False)
    return table.replace_schema_metadata(None)


def plan_of(rows: "pa.Table") -> "pd.DataFrame":
    """Rebuild the plan from the archive's rows."""
    import pandas as pd

    names = rows.column_names
    own = names[: names.index("further")]
    flat = rows.select(own).to_pandas()
    flat = flat[flat["row"].notna()]
    further = unnest(rows, "further").to_pandas()
    shared = flat[list(OF_TRIAL)]
    joined = pd.concat([flat, further.merge(shared, on="trial")[own]], ignore_index=True)
    joined = joined.sort_values("row", ignore_index=True)
    for name in joined.columns.intersection(NUMBERS):
        joined[name] = joined[name].astype("int64")
    columns = [name for name in own if name not in ("row", "trial")]
    ordered: pd.DataFrame = joined[[columns[0], "trial", *columns[1:]]]
    return ordered


def nest(table: "pa.Table", trials: Sequence[str]) -> "pa.Array":
    """Gather the rows of each trial in a list of structs; rows of other trials are left out."""
    import numpy as np
    import pyarrow as pa
    import pyarrow.compute as pc

    value_set = pa.array(trials, type=table.schema.field("trial").type)
    found = pc.fill_null(pc.index_in(table["trial"], value_set=value_set), -1)
    places = found.combine_chunks().to_numpy(zero_copy_only=False)
    order = np.argsort(places, kind="stable")[int((places < 0).sum()) :]
    counts = np.bincount(places[places >= 0], minlength=len(trials))
    inner = table.drop_columns(["trial"]).take(pa.array(order)).combine_chunks()
    columns = [inner[name].combine_chunks() for name in inner.column_names]
    offsets = pa.array(np.concatenate([[0], np.cumsum(counts)]).astype("int32"))
    return pa.ListArray.from_arrays(
        offsets, pa.StructArray.from_arrays(columns, fields=inner.schema)
    )


def unnest(rows: "pa.Table", name: str) -> "pa.Table":
    """Take the lists of a column apart: a row for each struct, `trial` first."""
    import pyarrow as pa
    import pyarrow.compute as pc

    lists = rows[name].combine_chunks()
    inner = pa.Table.from_struct_array(pc.list_flatten(lists))
    owners = rows["trial"].combine_chunks().take(pc.list_parent_indices(lists))
    return inner.add_column(0, "trial", owners)


def segment_rows(
    plan: "pd.DataFrame", tables: Mapping[str, "pa.Table"], trials: Sequence[str]
) -> "pa.Table":
    """Make the archive's rows of trials from the joined tables of their segments."""
    import pyarrow as pa
    import pyarrow.compute as pc

    results = tables["trials"]
    value_set = pa.array(trials, type=results.schema.field("trial").type)
    places = pc.index_in(value_set, value_set=results["trial"].combine_chunks())
    rows = planned(plan, trials)
    for name in results.column_names:
        if name != "trial":
            rows = rows.append_column(name, results[name].take(places))
    for name in NESTED:
        rows = rows.append_column(name, nest(tables[name], trials))
    return rows


def segments(rows: "pa.Table") -> Iterator[tuple[tuple[str, int], dict[str, "pa.Table"]]]:
    """Take the archive's rows apart again: the tables of each segment that they came from."""
    import pyarrow as pa
    import pyarrow.compute as pc

    names = rows.column_names
    own = names[names.index("further") + 1 : names.index(NESTED[0])]
    keys = zip(rows["pack"].to_pylist(), rows["attempt"].to_pylist(), strict=True)
    for pack, attempt in dict.fromkeys(keys):
        here = rows.filter(
            pc.and_(pc.equal(rows["pack"], pack), pc.equal(rows["attempt"], attempt))
        )
        order = pc.sort_indices(here["lane"])
        here = here.take(order)
        trials = pa.table({name: here[name] for name in ("trial", *own)})
        yield (pack, attempt), {"trials": trials, **{name: unnest(here, name) for name in NESTED}}
