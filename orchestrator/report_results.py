"""The sections of results: primary analysis, all cells, differences, robustness and accuracy."""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd

from orchestrator import figures, tradeoff
from orchestrator.aggregate import COUNTS
from orchestrator.canvas import Figure
from orchestrator.evidence import Evidence
from orchestrator.figures import Estimate
from orchestrator.report_material import Material
from orchestrator.report_parts import Section, Table
from orchestrator.report_summary import judged
from orchestrator.wording import label_of

_TEXTS = ("encoder", "arm")


def sections(material: Material) -> list[Section]:
    """Make the sections, in the order of the page."""
    made = [primary(material), _main(material), _differences(material), _both(material)]
    if material.chosen is not None:
        made.append(_chosen(material, material.chosen))
    return made


def primary(material: Material) -> Section:
    """Show the declared contrast before all else."""
    rows = judged(material.cells, material.axes)
    own = rows[rows["primary"].eq(True)]
    notes = material.cells.notes
    if own.empty and not notes.primary:
        return Section(
            anchor="primary",
            title="Primary analysis",
            text=(
                "The spec declares none. A primary analysis (one contrast, metric and margin, "
                "written down before the results are seen) is the only claim that needs no "
                "correction for having looked at many.",
            ),
        )
    return Section(
        anchor="primary",
        title="Primary analysis",
        text=tuple(
            f"{line[:1].upper()}{line[1:]}." for line in (notes.primary, notes.untested) if line
        ),
        tables=()
        if own.empty
        else (_difference_table(material, own, name="primary", caption="Primary contrasts"),),
    )


def _main(material: Material) -> Section:
    """Show every cell with its intervals."""
    return Section(
        anchor="results",
        title="Results",
        text=(
            "A row per cell, over all its folds and seeds; in brackets the interval over patients.",
        ),
        tables=(
            Table(
                name="results",
                caption="Performance and robustness of every cell",
                frame=wide(material.cells.cells, material.axes),
                formats=_formats(material.cells.cells["metric"], "interval"),
                notes=tuple(material.cells.notes.lines()),
            ),
        ),
    )


def wide(cells: pd.DataFrame, axes: Sequence[str]) -> pd.DataFrame:
    """Lay out evidence, a row per cell: its metrics with `_low` and `_high`, then counts."""
    keys = [name for name in ("encoder", "arm", *axes) if name in cells]
    counts = [
        name
        for name in ("patients", "trials", "missing", "failed", "versions", "marks")
        if name in cells and (name in ("patients", "trials") or _matters(cells[name], name))
    ]
    first = cells.drop_duplicates("cell").set_index("cell")
    made = [first[keys]]
    for metric in dict.fromkeys(cells["metric"]):
        own = cells[cells["metric"] == metric].set_index("cell")
        names = {"estimate": metric, "low": f"{metric}_low", "high": f"{metric}_high"}
        made.append(own[list(names)].rename(columns=names))
    return pd.concat([*made, first[counts]], axis=1).reset_index(drop=True)


def _differences(material: Material) -> Section:
    rows = judged(material.cells, material.axes)
    if rows.empty:
        alone = not material.reference or material.joined.cells["arm"].nunique() < 2
        text = (
            "There is no arm to compare with: the sweep has one, or none without losses."
            if alone
            else f"No cell can be compared with {material.reference}: one of the two has no value."
        )
        return Section(anchor="differences", title="Differences", text=(text,))
    metrics = [name for name in (material.quality, "inconsistency") if name]
    drawn = [figure for metric in metrics for figure in _forests(material, rows, metric)]
    return Section(
        anchor="differences",
        title=f"Differences to {material.reference}",
        text=(f"Paired: both arms on the same patients, folds and seeds. {_rule(material.cells)}",),
        figures=tuple(drawn),
        tables=(
            _difference_table(
                material,
                rows,
                name="differences",
                caption=f"Paired differences to {material.reference}",
            ),
            *_control_table(material),
        ),
    )


def _forests(material: Material, rows: pd.DataFrame, metric: str) -> list[Figure]:
    """Draw the differences of every encoder in one metric, on one scale."""
    known = rows[(rows["metric"] == metric) & rows["estimate"].notna()]
    if known.empty:
        return []
    margin = known["margin"] * (1 if metric in material.cells.lower_is_better else -1)
    every = pd.concat([known[["estimate", "low", "high"]], margin], axis=1).to_numpy(float)
    low, high = min(0.0, np.nanmin(every)), max(0.0, np.nanmax(every))
    return [
        figures.forest(
            str(encoder),
            metric,
            _estimates(own),
            reference=material.reference,
            limits=(low, high),
            lower=metric in material.cells.lower_is_better,
        )
        for encoder, own in known.groupby("encoder", sort=False)
    ]


def _both(material: Material) -> Section:
    """Set robustness beside accuracy."""
    made = material.tradeoff
    compared = [name for name in tradeoff.COMPARED if name in made]
    formats = dict.fromkeys(compared, "beside")
    lines = list(tradeoff.curves(made, material.axes))
    drawn = figures.fronts(made, reference=material.reference)
    curves = figures.weights(lines, made, reference=material.reference)
    several = (
        "How quality and inconsistency change with the weight of a loss is drawn below."
        if lines
        else "No arm was trained with several weights of a loss, so there is no curve over weights."
    )
    return Section(
        anchor="tradeoff",
        title="Robustness beside accuracy",
        text=(
            "A model that scores every slide alike is consistent and useless: read both. Worst "
            "and unseen scanner: the least good of the scanners in training, and those kept out.",
            several,
        ),
        figures=(*drawn, *curves),
        tables=(
            Table(
                name="tradeoff",
                caption="Both families of metrics, with differences to the reference arm",
                frame=_shown(made, compared, material.axes),
                formats={**formats, "front": "flag", "trials": "count"},
                notes=(
                    "Point estimates, in brackets the difference to the reference arm. On the "
                    "front no other cell of the encoder is as good in one and better in the other; "
                    "chance puts cells on a front, too.",
                ),
            ),
        ),
    )


def _shown(made: pd.DataFrame, compared: Sequence[str], axes: Sequence[str]) -> pd.DataFrame:
    """Put first what tells cells apart, and counts last, where they say something."""
    both = [name for each in compared for name in (each, f"{each}_difference")]
    counts = [name for name in COUNTS if name in made and _matters(made[name], name)]
    keys = [name for name in made if name in ("encoder", "arm", *axes, "search")]
    return made[[*keys, "front", *both, "trials", *[c for c in counts if c != "trials"]]]


def _chosen(material: Material, chosen: Evidence) -> Section:
    cells = chosen.cells
    frame = wide(cells, material.axes)
    if "optimism" in cells:
        own = cells[cells["metric"] == material.quality].drop_duplicates("cell")
        frame["optimism"] = own["optimism"].to_numpy() if len(own) == len(frame) else np.nan
    tables = [
        Table(
            name="selected",
            caption="One setting per encoder, arm and fold",
            frame=frame,
            formats={**_formats(cells["metric"], "interval"), "optimism": "signed"},
            notes=(
                chosen.notes.selection,
                *_about(material),
                "Optimism: how much better the value is on the patients that it was chosen by.",
            ),
        )
    ]
    rows = judged(chosen, material.axes)
    if len(rows):
        caption = f"Chosen settings, paired differences to {material.reference}"
        tables.append(
            _difference_table(material, rows, name="selected-differences", caption=caption)
        )
    return Section(
        anchor="selected",
        title="Settings chosen on validation patients",
        text=("No setting is reported here on the patients that it was chosen on.",),
        tables=tuple(tables),
    )


def _control_table(material: Material) -> Iterable[Table]:
    if material.against_control is None or material.against_control.differences.empty:
        return ()
    rows = judged(material.against_control, material.axes)
    caption = f"Paired differences to {material.control}: the same scans, no loss"
    return (_difference_table(material, rows, name="differences-control", caption=caption),)


def _difference_table(material: Material, rows: pd.DataFrame, *, name: str, caption: str) -> Table:
    axes = [each for each in material.axes if each in rows and (rows[each] != "").any()]
    margins = ["margin", "noninferior"] if rows["margin"].notna().any() else []
    keys = [each for each in ("encoder", "arm", *axes, "metric") if each in rows]
    tests = ["estimate", "low", "high", "p", "p_adjusted", "adjustment", "effect_size"]
    marks = ["marks"] if rows["marks"].astype(bool).any() else []
    shown = rows[[*keys, *tests, *margins]].assign(verdict=rows["verdict"].map(_WORDS))
    shown[marks] = rows[marks]
    if rows["primary"].eq(True).any():
        shown["primary"] = rows["primary"].eq(True)
    return Table(
        name=name,
        caption=caption,
        frame=shown.reset_index(drop=True),
        formats={
            "metric": "metric", "estimate": "signed_interval", "p": "p", "p_adjusted": "p",
            "effect_size": "signed", "margin": "number", "noninferior": "flag", "primary": "flag",
        },
        notes=(*_about(material), material.cells.notes.multiplicity, _rule(material.cells)),
    )  # fmt: skip


_WORDS = {
    "better": "better",
    "worse": "worse",
    "unclear": "not told apart",
    "untested": "not tested",
}


def _about(material: Material) -> tuple[str, ...]:
    """Say what intervals are about, under every table that has them."""
    return (material.cells.notes.estimand, material.cells.notes.interval)


def _rule(evidence: Evidence) -> str:
    lower = ", ".join(label_of(name) for name in sorted(evidence.lower_is_better))
    text = "Better or worse: the interval leaves out zero and the adjusted p is below 0.05."
    return f"{text} Less is better in {lower}." if lower else text


def _estimates(rows: pd.DataFrame) -> list[Estimate]:
    return [
        Estimate(
            name=f"{row['name']} (primary)" if row["primary"] else str(row["name"]),
            value=float(row["estimate"]),
            low=float(row["low"]),
            high=float(row["high"]),
            told=row["verdict"] in ("better", "worse"),
            primary=bool(row["primary"]),
            margin=float(row["margin"]),
        )
        for _, row in rows.iterrows()
    ]


def _formats(metrics: Iterable[str], form: str) -> Mapping[str, str]:
    return dict.fromkeys(metrics, form)


def _matters(values: "pd.Series[Any]", name: str) -> bool:
    """Tell whether a count says more than that all is well."""
    if name == "marks":
        return bool(values.astype(bool).any())
    return bool((values > (1 if name == "versions" else 0)).any())
