"""What a report says first, in sentences that follow from the evidence; pure.

Two things must agree before a cell is called better or worse: its interval leaves out zero, and its
adjusted p is below 0.05. All others are *not told apart*, which is not called equal; without an
interval they are *not tested*. A loss that does not win is said so; nothing is said of cells that
have no value.
"""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

import pandas as pd

from orchestrator import figures, guards
from orchestrator.evidence import Evidence
from orchestrator.report_material import Material
from orchestrator.report_parts import Finding, Verdict
from orchestrator.wording import chance, counted, joined, label_of, number, signed

ALPHA = 0.05
ENCODERS_MAX = 8
"""Encoders that the summary tells of one by one."""
RECONSTRUCTION = (
    "The robustness losses are a reconstruction: the paper's equations (arXiv 2602.22347) could "
    "not be had, only its abstract and references. Nothing here is a result of that paper."
)


def verdict(row: Mapping[Any, Any], lower_is_better: Iterable[str]) -> Verdict:
    """Tell what a row of differences allows to say."""
    low, high, p = (float(row[name]) for name in ("low", "high", "p_adjusted"))
    if p != p:
        return "untested"
    if not (p < ALPHA and (low > 0 or high < 0)):
        return "unclear"
    return "better" if (low > 0) != (row["metric"] in lower_is_better) else "worse"


def judged(evidence: Evidence, axes: Sequence[str]) -> pd.DataFrame:
    """Give the differences with `verdict` and the `name` of the cell within its encoder."""
    rows = evidence.differences
    said = [verdict(row, evidence.lower_is_better) for row in rows.to_dict("records")]
    return rows.assign(verdict=said, name=figures.names(rows, axes))


def findings(material: Material) -> tuple[Finding, ...]:
    """Say what came out, the primary analysis first."""
    found = [*_holes(material), *_searches(material), *_primary(material)]
    rows = judged(material.cells, material.axes)
    metrics = [name for name in (material.quality, "inconsistency") if name]
    for encoder in _first(rows["encoder"]):
        for metric in metrics:
            own = rows[(rows["encoder"] == encoder) & (rows["metric"] == metric)]
            own = own[~own["primary"].eq(True)]
            found += _compared(own, encoder, metric, material.reference)
    found += _against_control(material, metrics)
    found += [*_fronts(material), *_more_encoders(rows)]
    if any("(most " in each.text for each in found):
        found.append(
            Finding(
                verdict="note",
                lead="The largest of several differences looks larger than it is:",
                text="it was picked on the patients that it is measured on.",
            )
        )
    return (*found, *_limits(material))


def _holes(material: Material) -> Iterator[Finding]:
    marks = material.joined.marks
    wrong = guards.faults(marks)
    if len(wrong):
        be, have = ("is", "has") if len(wrong) == 1 else ("are", "have")
        kept = material.joined.allow_missing
        value = f"{be} averaged over what there is" if kept else f"{have} no value"
        kinds = list(dict.fromkeys(part for mark in wrong for part in mark.split("; ")))
        absent = any(kind.endswith(("missing", "failed")) for kind in kinds)
        mend = f" sweep resume {material.folder.name} trains what is missing." if absent else ""
        yield Finding(
            verdict="warning",
            lead=f"{len(wrong):,} of {counted(len(marks), 'cell')} {be} not whole",
            text=f"({joined(kinds, most=4)}) and {value}.{mend}",
        )


def _searches(material: Material) -> Iterator[Finding]:
    for line in guards.remarks(material.joined.cells):
        yield _warning(line)


def _primary(material: Material) -> Iterator[Finding]:
    rows = judged(material.cells, material.axes)
    primary = rows[rows["primary"].eq(True)]
    if material.cells.notes.untested:
        yield _warning(material.cells.notes.untested)
    elif primary.empty:
        yield Finding(
            verdict="note",
            lead="No primary analysis was declared",
            text="in the spec before the results were seen: everything below is exploratory.",
        )
    for row in primary.to_dict("records"):
        where = f"{row['encoder']}, " if "encoder" in row else ""
        yield Finding(
            verdict=row["verdict"],
            lead=f"Primary analysis ({where}{label_of(row['metric'])}): {row['name']} is "
            f"{_word(row['verdict'])} {row['against']}:",
            text=f"{_difference(row)}{_margin(row)}.",
        )


def _compared(rows: pd.DataFrame, encoder: str, metric: str, against: str) -> Iterator[Finding]:
    rows = rows[rows["estimate"].notna()]
    if rows.empty:
        return
    better, worse, untested = (
        rows[rows["verdict"] == word] for word in ("better", "worse", "untested")
    )
    rest = len(rows) - len(better) - len(worse) - len(untested)
    parts = []
    for word, own in (("better", better), ("worse", worse)):
        if len(own):
            most = max(own.to_dict("records"), key=lambda row: abs(row["estimate"]))
            which = "" if len(own) == 1 else "most "
            parts.append(f"{len(own)} {word} ({which}{most['name']} {_difference(most)})")
    if rest:
        parts.append(f"{rest} not told apart from it")
    if len(untested):
        parts.append(f"{len(untested)} not tested")
    yield Finding(
        verdict=_both(len(better), len(worse), rest),
        lead=f"{encoder}, {label_of(metric)}:",
        text=f"of {counted(len(rows), 'cell')} compared with {against}, {joined(parts)}.",
    )


def _against_control(material: Material, metrics: Sequence[str]) -> Iterator[Finding]:
    """Say whether losses add to what the paired scans do without them."""
    if material.against_control is None:
        return
    rows = judged(material.against_control, material.axes)
    with_loss = [
        arm
        for arm, kinds in material.losses.items()
        if kinds and material.settings[arm]["views"] == "all"
    ]
    rows = rows[rows["arm"].isin(with_loss) & rows["verdict"].ne("untested")]
    for metric in metrics:
        own = rows[rows["metric"] == metric]
        if own.empty:
            continue
        count = own["verdict"].value_counts()
        better, worse = int(count.get("better", 0)), int(count.get("worse", 0))
        wins = [
            f"{r['encoder']}/{r['name']}" for _, r in own[own["verdict"] == "better"].iterrows()
        ]
        none = f"No loss is better than {material.control}" if not better else ""
        yield Finding(
            verdict=_both(better, worse, len(own) - better - worse),
            lead=f"{none or 'Losses beyond the scans themselves'} ({label_of(metric)}):",
            text=f"against {material.control}, which has the same paired scans and no loss, of "
            f"{counted(len(own), 'cell')} with losses {better} better"
            + (f" ({joined(wins, most=5)})" if wins else "")
            + f", {worse} worse, {len(own) - better - worse} not told apart.",
        )


def _fronts(material: Material) -> Iterator[Finding]:
    """Name the cells that no other beats, where that says something."""
    made = material.tradeoff
    parts = []
    for encoder in _first(made["encoder"]):
        own = made[made["encoder"] == encoder]
        names = figures.names(own[own["front"]], material.axes)
        if 0 < len(names) < len(own):
            parts.append(f"{encoder}: {joined(names, most=5)}")
    if parts:
        yield Finding(
            verdict="note",
            lead="Not beaten in both quality and inconsistency, by point estimates:",
            text=f"{'; '.join(parts)}.",
        )


def _more_encoders(rows: pd.DataFrame) -> Iterator[Finding]:
    further = rows["encoder"].nunique() - ENCODERS_MAX
    if further > 0:
        text = f"{'is' if further == 1 else 'are'} in the tables and figures below."
        yield Finding(verdict="note", lead=counted(further, "further encoder"), text=text)


def _limits(material: Material) -> Iterator[Finding]:
    if any(material.losses.values()):
        lead, _, rest = RECONSTRUCTION.partition(": ")
        yield Finding(verdict="note", lead=f"{lead}:", text=rest)
    if material.spec is not None and material.spec.simulation is not None:
        yield Finding(
            verdict="note",
            lead="The cohort is simulated:",
            text="this illustrates the method and is no evidence about real slides or scanners.",
        )
    if material.cells.differences["p_adjusted"].notna().any():
        yield Finding(
            verdict="note",
            lead="“Not told apart” is not “equal”:",
            text="the sweep may be too small to see a difference; the interval says how large it "
            "may be. Intervals and p are about other patients for these fitted models; how much "
            "training again would change is not in them.",
        )


def _warning(line: str) -> Finding:
    lead, _, text = line.partition(": ")
    return Finding(verdict="warning", lead=f"{lead[:1].upper()}{lead[1:]}:", text=f"{text}.")


def _both(better: int, worse: int, rest: int) -> Verdict:
    if better and worse:
        return "mixed"
    return "better" if better else "worse" if worse else "unclear" if rest else "untested"


def _first(encoders: "pd.Series[str]") -> list[str]:
    return list(dict.fromkeys(encoders))[:ENCODERS_MAX]


def _word(said: Verdict) -> str:
    words: dict[Verdict, str] = {
        "better": "better than",
        "worse": "worse than",
        "untested": "not tested against",
    }
    return words.get(said, "not told apart from")


def _difference(row: Mapping[Any, Any]) -> str:
    value, low, high = (float(row[name]) for name in ("estimate", "low", "high"))
    return (
        f"{signed(value)} [{signed(low)}, {signed(high)}], adjusted p {_equals(row['p_adjusted'])}"
    )


def _equals(p: float) -> str:
    text = chance(p)
    return text if text.startswith("<") else f"= {text}"


def _margin(row: Mapping[Any, Any]) -> str:
    if row["noninferior"] is None or row["noninferior"] != row["noninferior"]:
        return ""
    size = number(abs(float(row["margin"])))
    shown = "non-inferior" if row["noninferior"] else "non-inferiority is not shown"
    return f"; {shown} at the declared margin of {size}"
