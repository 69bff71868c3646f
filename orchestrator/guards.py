"""What is wrong with a cell, so that it is not averaged unless that is allowed; pure.

A cell is whole when each of its trials is done once, by one commit with one set of packages, on
one kind of device, and each fold on one set of data.
"""

import re
from collections.abc import Hashable, Iterable, Mapping

import pandas as pd

COLUMNS = ("state", "commit", "versions", "device", "fingerprint")
"""What is read of a trial beside its cell, fold and seed."""

_RETIRED = re.compile(r"\d+ retired")
_COUNTS = ["missing", "failed", "retired", "twice"]
_KINDS = ["commit", "versions", "device", "data"]


def marks(rows: pd.DataFrame) -> pd.Series:
    """Say what is wrong with each cell, empty where nothing is.

    Args:
        rows: cell, fold, seed, trial and `COLUMNS`, a row per cell and trial; NaN for a trial
            without a result. A sweep whose trials do not tell their device has one.
    """
    cells = rows.groupby("cell")
    state = rows["state"]
    done = rows[state.eq("done")]
    places = ["cell", "fold", "seed"]
    found = pd.DataFrame(
        {
            "missing": state.isna().groupby(rows["cell"]).sum(),
            "failed": state.eq("failed").groupby(rows["cell"]).sum(),
            "retired": state.eq("retired").groupby(rows["cell"]).sum(),
            "twice": rows.duplicated(places).groupby(rows["cell"]).sum(),
            "data": rows.groupby(["cell", "fold"])["fingerprint"].nunique().groupby("cell").max(),
        },
        index=pd.Index(list(cells.groups), name="cell"),
    )
    by_cell = done.groupby("cell")
    for name in ("commit", "versions", "device"):
        found[name] = by_cell[name].nunique().reindex(found.index, fill_value=0)
    wrong = found[(found[_COUNTS] > 0).any(axis=1) | (found[_KINDS] > 1).any(axis=1)]
    texts = ["; ".join(_texts(row)) for row in wrong.to_dict("records")]
    told = pd.Series(texts, index=wrong.index, dtype="str")
    return told.reindex(found.index, fill_value="")


def faults(marks: pd.Series) -> pd.Series:
    """Keep the marks that say more than that a search retired trials, by cell."""
    return marks[[bool(text) and not _RETIRED.fullmatch(text) for text in marks]]


def count(marks: pd.Series) -> int:
    """Count the cells with which more is wrong than that a search retired trials."""
    return len(faults(marks))


def remarks(table: pd.DataFrame) -> list[str]:
    """Say what a reader must know of cells that a search made; nothing where none did."""
    lines: list[str] = []
    if "search" not in table.columns:
        return lines
    made = table[table["search"] != ""]
    for (arm, kind), cells in made.groupby(["arm", "search"], sort=False):
        text = f"arm {arm}: its settings come from a search ({kind}), not from a grid"
        if dropped := int(cells["retired"].sum()):
            empty = int((cells["retired"] > 0).sum())
            text += f", which retired {dropped:,} trials and left {empty:,} cells without a value"
        lines.append(f"{text}: a comparison of its cells with those of other arms is biased")
    return lines


def _texts(row: Mapping[Hashable, int]) -> Iterable[str]:
    for name in _COUNTS:
        if row[name]:
            yield f"{row[name]} {name}"
    if row["commit"] > 1:
        yield f"{row['commit']} commits"
    if row["versions"] > 1:
        yield f"{row['versions']} sets of packages"
    if row["device"] > 1:
        yield f"{row['device']} kinds of device"
    if row["data"] > 1:
        yield "several sets of data"
