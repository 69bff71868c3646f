"""Robustness beside accuracy: what a cell gains and pays against the reference arm; pure.

A cell is compared with the cell of the reference arm on the same encoder and axes, where there is
just one; an axis that the reference does not have fits any value. A cell is on the *front* of its
encoder where no other is as good in quality and as consistent, and better in one; cells of another
task, other folds or other unseen scanners have a front of their own. A front is drawn through point
estimates: that a cell lies on it is no test.
"""

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd

from orchestrator.aggregate import COUNTS, Joined

QUALITY = ("auroc", "concordance", "accuracy")
"""What a front sets against `inconsistency`: the first of these that the sweep has."""

COMPARED = (
    "auroc", "balanced_accuracy", "accuracy", "concordance", "uno_concordance", "brier",
    "inconsistency", "flip_rate", "icc_agreement", "rmsd", "worst_scanner_auroc",
    "unseen_scanner_auroc", "worst_scanner_concordance", "unseen_scanner_concordance",
    "worst_group_accuracy",
)  # fmt: skip
"""Metrics that stand with their difference to the reference, where the sweep has them."""

_AT_ONCE = 256
"""Cells that are looked up at once, to bound memory."""

_ASKED = ("task", "folds", "unseen_scanners")
"""First words of the axes that say on what a cell is measured."""

_WEIGHT = re.compile(r"losses\.(.+)\.weight")


@dataclass(frozen=True, slots=True, kw_only=True)
class Curve:
    """Cells of one encoder and arm that differ in one loss weight only.

    Attributes:
        encoder: of all of them.
        arm: of all of them.
        axis: the weight that they differ in.
        rest: the other axes, as text; empty where there are none.
        rows: of the table, by rising weight.
        weights: of the rows.
    """

    encoder: str
    arm: str
    axis: str
    rest: str
    rows: pd.DataFrame
    weights: np.ndarray


def table(
    joined: Joined, main: pd.DataFrame, robustness: pd.DataFrame | None, *, reference: str
) -> pd.DataFrame:
    """Make the table, a row per cell in the plan's order.

    Args:
        joined: plan and results.
        main: the main table.
        robustness: the table of robustness; None where no trial has two scanners.
        reference: the arm that others are compared with; empty for none.

    Returns:
        encoder, arm, axes and counts as in the main table; of `COMPARED` what the sweep has, each
        followed by `<metric>_difference` to the reference; `front`.
    """
    names = [name for name in joined.cells.columns if name in main]
    made = main[names].copy()
    known = main if robustness is None else main.join(robustness[_further(main, robustness)])
    cells = joined.cells
    place = _references(cells, reference)
    for name in COMPARED:
        if name not in known or known[name].isna().all():
            continue
        values = known[name].to_numpy(np.float64)
        against = np.where(place < 0, np.nan, values[place])
        made[name] = values
        made[f"{name}_difference"] = np.where(
            place == np.arange(len(made)), np.nan, values - against
        )
    made["front"] = front(made)
    return made


def quality(table: pd.DataFrame) -> str:
    """Name the metric that robustness is set against; empty where there is none."""
    return next((name for name in QUALITY if name in table and table[name].notna().any()), "")


def front(table: pd.DataFrame) -> np.ndarray:
    """Tell which cells no other cell of their encoder beats; False where a value is missing."""
    best, found = quality(table), np.zeros(len(table), bool)
    if not best or "inconsistency" not in table:
        return found
    for _, rows in competing(table.reset_index(drop=True)):
        both = rows[[best, "inconsistency"]].dropna()
        # The lowest inconsistency at each quality, and at any higher one.
        own = both.groupby(best)["inconsistency"].min().sort_index(ascending=False)
        higher = own.cummin().shift(fill_value=np.inf)
        at, value = both[best], both["inconsistency"].to_numpy()
        found[both.index] = (value == own[at].to_numpy()) & (value < higher[at].to_numpy())
    return found


def competing(table: pd.DataFrame) -> Iterator[tuple[str, pd.DataFrame]]:
    """Part a table into cells that a front is drawn through: the encoder, and what is asked."""
    asked = [str(name) for name in table.columns if str(name).split(".")[0] in _ASKED]
    for key, rows in table.groupby(["encoder", *asked], sort=False):
        told = [f"{name}={value}" for name, value in zip(asked, key[1:], strict=True) if value]
        yield ", ".join([str(key[0]), *told]), rows


def curves(table: pd.DataFrame, axes: Sequence[str]) -> Iterator[Curve]:
    """Find what was trained with several weights of a loss, in the order of the table."""
    weights = [name for name in axes if _WEIGHT.fullmatch(name)]
    for axis in weights:
        rest = [name for name in axes if name != axis]
        value = pd.to_numeric(table[axis], errors="coerce")
        for key, rows in table[value.notna()].groupby(["encoder", "arm", *rest], sort=False):
            at = value[rows.index].sort_values(kind="stable")
            if at.nunique() > 1:
                told = [f"{n}={v}" for n, v in zip(rest, key[2:], strict=True) if v != ""]
                yield Curve(
                    encoder=str(key[0]), arm=str(key[1]), axis=axis, rest=", ".join(told),
                    rows=rows.loc[at.index], weights=at.to_numpy(np.float64),
                )  # fmt: skip


def _references(cells: pd.DataFrame, arm: str) -> np.ndarray:
    """Give the place of the cell that each is compared with; -1 where there is not just one."""
    axes = [name for name in cells.columns if name not in ("encoder", "arm", "search", *COUNTS)]
    values, empty = np.zeros((len(axes), len(cells)), np.int64), np.full(len(axes), -1)
    for place, name in enumerate(axes):
        values[place], known = pd.factorize(cells[name].to_numpy(str))
        empty[place] = next(iter(np.flatnonzero(known == "")), -1)
    found, there = np.full(len(cells), -1), (cells["arm"] == arm).to_numpy()
    encoder, _ = pd.factorize(cells["encoder"].to_numpy(str))
    for number in range(int(encoder.max(initial=-1)) + 1):
        rows = np.flatnonzero(encoder == number)
        own = rows[there[rows]]
        for start in range(0, len(rows) if len(own) else 0, _AT_ONCE):
            part = rows[start : start + _AT_ONCE]
            of_arm, of_part = values[:, None, own], values[:, part, None]
            fits = ((of_arm == of_part) | (of_arm == empty[:, None, None])).all(0)
            one = fits.sum(1) == 1
            found[part[one]] = own[fits[one].argmax(1)]
    return found


def _further(main: pd.DataFrame, robustness: pd.DataFrame) -> list[str]:
    known = {*main.columns, *COUNTS}
    return [str(name) for name in robustness.columns if name not in known]
