"""The figures of results: differences to the reference, weights, the front, training curves; pure.

Every function returns panels, in the order of the sweep. What is too much for a panel is left out
and its caption says so.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd

from orchestrator import canvas, tradeoff
from orchestrator.canvas import FAINT, INK, SOFT, Figure
from orchestrator.wording import counted, label_of, short

if TYPE_CHECKING:
    from orchestrator.canvas import Axes

ROWS_MAX = 60
"""Cells of a forest plot."""
LINES_MAX = 14
"""Lines of a panel; so many are still told apart by colour, marker and dashes."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Estimate:
    """A difference to the reference with its interval.

    Attributes:
        name: of the cell.
        value: the difference.
        low: lower end of the interval; NaN without one.
        high: upper end.
        told: whether the adjusted test tells it from zero.
        primary: whether it is the declared primary contrast.
        margin: that it may lose; NaN without one.
    """

    name: str
    value: float
    low: float
    high: float
    told: bool
    primary: bool = False
    margin: float = float("nan")


def forest(
    encoder: str,
    metric: str,
    rows: Sequence[Estimate],
    *,
    reference: str,
    limits: tuple[float, float],
    lower: bool,
) -> Figure:
    """Draw the differences of an encoder's cells to the reference in one metric.

    Args:
        encoder: of the cells.
        metric: that is compared.
        rows: the differences.
        reference: the arm that they are compared with.
        limits: of the scale, the same for all encoders.
        lower: whether less is better.
    """
    shown = rows[:ROWS_MAX]
    label = label_of(metric)
    left = f" The first {ROWS_MAX} of {len(rows):,} cells." if len(rows) > ROWS_MAX else ""
    room = 0.04 * (limits[1] - limits[0]) or 1.0

    def plot(axes: "Axes") -> None:
        axes.axvline(0, color=SOFT, linewidth=0.9)
        for place, row in enumerate(shown):
            tint = canvas.colour(0) if row.told else SOFT
            axes.plot([row.low, row.high], [place, place], color=tint, solid_capstyle="butt")
            face = tint if row.told else "white"
            shape = "D" if row.primary else "o"
            axes.plot([row.value], [place], shape, color=tint, markerfacecolor=face)
            axes.plot([row.margin if lower else -row.margin], [place], "|", color=INK, markersize=9)
        axes.set_yticks(range(len(shown)), [short(row.name, 34) for row in shown])
        axes.set_ylim(len(shown) - 0.4, -0.6)
        axes.set_xlim(limits[0] - room, limits[1] + room)
        axes.grid(axis="x", color=FAINT, linewidth=0.6)
        axes.set_axisbelow(True)
        axes.set_xlabel(f"{label}: difference to {short(reference, 20)}")
        axes.set_title(short(f"{encoder}: {label}", 44))

    told = sum(row.told for row in rows)
    primary = " A diamond is the primary contrast." if any(r.primary for r in rows) else ""
    margin = " A bar is the declared margin." if any(r.margin == r.margin for r in rows) else ""
    return Figure(
        name=canvas.file_name("forest", metric, encoder),
        caption=f"{encoder}: paired difference in {label} to {reference} with its interval; "
        f"further {'left' if lower else 'right'} is better. Filled and blue: told from zero after "
        f"adjustment.{primary}{margin}{left}",
        alt=f"Forest plot of {counted(len(shown), 'cell')} of {encoder} against {reference} in "
        f"{label}; {told} of them told from zero.",
        plot=plot,
        height=min(14.0, 1.1 + 0.26 * len(shown)),
    )


def weights(
    curves: Sequence[tradeoff.Curve], table: pd.DataFrame, *, reference: str
) -> list[Figure]:
    """Draw quality and inconsistency over the weight of a loss, two panels per encoder and loss."""
    quality = tradeoff.quality(table)
    grouped: dict[tuple[str, str], list[tradeoff.Curve]] = {}
    for curve in curves:
        grouped.setdefault((curve.encoder, curve.axis), []).append(curve)
    return [
        _weights(encoder, axis, metric, own, _level(table, encoder, reference, metric), reference)
        for (encoder, axis), own in grouped.items()
        for metric in (quality, "inconsistency")
        if metric in table and any(curve.rows[metric].notna().any() for curve in own)
    ]


def fronts(table: pd.DataFrame, *, reference: str) -> list[Figure]:
    """Draw quality against inconsistency, a panel per encoder and question."""
    quality = tradeoff.quality(table)
    if not quality or "inconsistency" not in table:
        return []
    arms = {arm: place for place, arm in enumerate(dict.fromkeys(table["arm"]))}
    both = table.dropna(subset=[quality, "inconsistency"])
    groups = tradeoff.competing(both)
    return [_front(name, rows, quality, arms, reference) for name, rows in groups]


def training(
    curves: pd.DataFrame, arms: pd.DataFrame, *, quantities: Sequence[str]
) -> list[Figure]:
    """Draw what was followed in training, a panel per encoder and quantity.

    Args:
        curves: trial, epoch, quantity, value.
        arms: trial, encoder, arm; a trial may stand in several.
        quantities: the ones to draw.
    """
    wanted = curves[curves["quantity"].isin(quantities)]
    rows = wanted.merge(arms.drop_duplicates(), on="trial")
    keys = ["encoder", "quantity", "arm", "epoch"]
    found = (
        rows.groupby(keys, sort=False)["value"].agg(["mean", "min", "max", "size"]).reset_index()
    )
    places = {arm: place for place, arm in enumerate(dict.fromkeys(arms["arm"]))}
    return [
        _training(encoder, quantity, own, places)
        for encoder in dict.fromkeys(arms["encoder"])
        for quantity in quantities
        if len(own := found[(found["encoder"] == encoder) & (found["quantity"] == quantity)])
    ]


def legend(axes: "Axes") -> None:
    """Put the legend below a panel, where it hides nothing."""
    handles, labels = axes.get_legend_handles_labels()
    sheet = axes.get_figure(root=True)
    if handles and sheet is not None:
        columns = 1 if max(map(len, labels)) > 24 else 2
        sheet.legend(handles, labels, loc="outside lower left", ncols=columns)


def taller(lines: int) -> float:
    """Return the height of a panel with so many lines in its legend, in inches."""
    return canvas.HEIGHT_IN + 0.17 * ((lines + 1) // 2)


def _weights(
    encoder: str,
    axis: str,
    metric: str,
    curves: Sequence[tradeoff.Curve],
    level: float,
    reference: str,
) -> Figure:
    label, loss = label_of(metric), axis.removeprefix("losses.").removesuffix(".weight")
    shown = curves[:LINES_MAX]
    left = f" The first {LINES_MAX} of {len(curves):,} lines." if len(curves) > LINES_MAX else ""

    def plot(axes: "Axes") -> None:
        if np.isfinite(level):
            axes.axhline(level, color=INK, linewidth=1.0, linestyle=":", label=short(reference, 22))
        for place, curve in enumerate(shown):
            name = f"{curve.arm} ({curve.rest})" if curve.rest else curve.arm
            axes.plot(
                curve.weights, curve.rows[metric].to_numpy(), label=short(name, 30),
                color=canvas.colour(place), linestyle=canvas.dashes(place),
                marker=canvas.marker(place),
            )  # fmt: skip
        positive = np.concatenate([curve.weights for curve in shown])
        if positive.min() > 0 and positive.max() / positive.min() > 20:
            axes.set_xscale("log")
        axes.set_xlabel(f"weight of {short(loss, 24)}")
        axes.set_ylabel(label)
        axes.grid(color=FAINT, linewidth=0.6)
        axes.set_title(short(encoder, 40))
        legend(axes)

    return Figure(
        name=canvas.file_name("weights", loss, metric, encoder),
        caption=f"{encoder}: {label} over the weight of the loss {loss}; dotted: "
        f"{reference}.{left}",
        alt=f"Line plot of {label} over the weight of {loss} on {encoder}, {len(shown)} lines.",
        plot=plot,
        height=taller(len(shown) + 1),
    )


def _front(
    encoder: str, rows: pd.DataFrame, quality: str, arms: Mapping[str, int], reference: str
) -> Figure:
    label = label_of(quality)
    best = rows[rows["front"]].sort_values("inconsistency")
    told = list(dict.fromkeys(rows["arm"]))

    def plot(axes: "Axes") -> None:
        axes.step(
            best["inconsistency"], best[quality], where="post", color=SOFT, linewidth=1.0, zorder=1
        )
        for arm in told:
            own, place = rows[rows["arm"] == arm], arms[arm]
            tint = INK if arm == reference else canvas.colour(place)
            on = own["front"].to_numpy()
            for part, face in ((own[~on], "white"), (own[on], tint)):
                axes.plot(
                    part["inconsistency"], part[quality], canvas.marker(place), color=tint,
                    markerfacecolor=face, linestyle="none",
                )  # fmt: skip
            axes.plot([], [], canvas.marker(place), color=tint, label=short(arm, 26))
        axes.set_xlabel("inconsistency between scanners (less is better)")
        axes.set_ylabel(label)
        axes.grid(color=FAINT, linewidth=0.6)
        axes.set_axisbelow(True)
        axes.set_title(short(encoder, 40))
        legend(axes)

    names = ", ".join(dict.fromkeys(best["arm"]))
    return Figure(
        name=canvas.file_name("front", quality, encoder),
        caption=f"{encoder}: {label} against inconsistency, a mark per cell. Filled marks on the "
        "grey line form the front: no other cell is as good in one and better in the other.",
        alt=f"Scatter plot of {len(rows)} cells of {encoder}; on the front: {names}.",
        plot=plot,
        height=taller(len(told)),
    )


def _training(encoder: str, quantity: str, rows: pd.DataFrame, places: Mapping[str, int]) -> Figure:
    arms = sorted(set(rows["arm"]), key=lambda arm: places[arm])
    shown = arms[:LINES_MAX]
    left = f" The first {LINES_MAX} of {len(arms)} arms." if len(arms) > LINES_MAX else ""
    part, _, rest = quantity.partition("_")
    label = f"{part} {label_of(rest)}"

    def plot(axes: "Axes") -> None:
        for arm in shown:
            own, place = rows[rows["arm"] == arm].sort_values("epoch"), places[arm]
            tint = canvas.colour(place)
            axes.fill_between(own["epoch"], own["min"], own["max"], color=tint, alpha=0.1, lw=0)
            axes.plot(
                own["epoch"], own["mean"], canvas.dashes(place), color=tint, label=short(arm, 26)
            )
        axes.set_xlabel("epoch")
        axes.set_ylabel(label)
        axes.grid(color=FAINT, linewidth=0.6)
        axes.set_title(short(encoder, 40))
        legend(axes)

    return Figure(
        name=canvas.file_name("training", quantity, encoder),
        caption=f"{encoder}: {label} by epoch; line: mean over the trials of an arm, band: lowest "
        f"to highest. Trials that stopped early are in the mean as long as they trained.{left}",
        alt=f"Line plot of {label} by epoch on {encoder} for {len(shown)} arms.",
        plot=plot,
        height=taller(len(shown)),
    )


def _level(table: pd.DataFrame, encoder: str, reference: str, metric: str) -> float:
    """Average a metric over the reference's cells of an encoder."""
    own = table[(table["encoder"] == encoder) & (table["arm"] == reference)]
    return float(own[metric].mean()) if len(own) else float("nan")


def names(cells: pd.DataFrame, axes: Iterable[str]) -> list[str]:
    """Name cells within an encoder: the arm, and the axes that it has."""
    wanted = [name for name in axes if name in cells]
    found = []
    for row in cells.to_dict("records"):
        own = [f"{name.removeprefix('losses.')}={row[name]}" for name in wanted if row[name] != ""]
        found.append(" ".join([str(row["arm"]), *own]))
    return found
