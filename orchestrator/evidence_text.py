"""Evidence for readers: rows of text, and the files that papers and people use.

`files` writes each table as CSV and Parquet (tidy, all columns), and as LaTeX (booktabs) and
Markdown (what readers want, with the notes under it). Equal evidence gives equal bytes.
"""

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import pandas as pd

from orchestrator import aggregate, render
from orchestrator.evidence import Evidence
from orchestrator.folder import write_file

_LATEX = {
    "\\": r"\textbackslash{}", "{": r"\{", "}": r"\}", "$": r"\$", "&": r"\&", "#": r"\#",
    "_": r"\_", "%": r"\%", "~": r"\textasciitilde{}", "^": r"\textasciicircum{}",
    "<": r"\textless{}", ">": r"\textgreater{}", "|": r"\textbar{}", '"': r"\textquotedbl{}",
}  # fmt: skip
_UNUSUAL = {"−": "$-$", "Δ": r"$\Delta$", "×": r"$\times$", "±": r"$\pm$", "–": "--"}
_MARKDOWN = re.compile(r"([\\`*_{}\[\]<>|#~&])")


@dataclass(frozen=True, slots=True, kw_only=True)
class Shown:
    """A table as text; this many columns from the right are numbers."""

    columns: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]
    numeric: int


def estimates(evidence: Evidence) -> Shown:
    """Show a row per row, and a column per metric: 0.871 [0.848, 0.893]."""
    cells = evidence.cells
    metrics = list(dict.fromkeys(cells["metric"]))
    own = list(cells.columns[1 : list(cells.columns).index("metric")])
    first = cells[cells["metric"] == metrics[0]] if metrics else cells
    marked = [name for name in ("marks",) if (first[name] != "").any()]
    left = [*own, "trials", "patients", *marked]
    values = [
        [_interval(row) for _, row in cells[cells["metric"] == metric].iterrows()]
        for metric in metrics
    ]
    rows = [
        (*(str(row[name]) for name in left), *(column[place] for column in values))
        for place, (_, row) in enumerate(first.iterrows())
    ]
    return Shown(columns=(*left, *metrics), rows=tuple(rows), numeric=len(metrics))


def differences(evidence: Evidence) -> Shown:
    """Show a row per comparison, the primary ones first."""
    table = evidence.differences
    own = list(table.columns[1 : list(table.columns).index("against")])
    marked = [name for name in ("marks",) if (table[name].fillna("") != "").any()]
    left = [*own, "against", "metric", "analysis", *marked]
    judged = table["noninferior"].notna().any()
    columns = (
        *left,
        "difference",
        "p",
        "p_adjusted",
        "effect",
        *(["not_inferior"] if judged else []),
    )
    rows = []
    for _, row in table.iterrows():
        kind = "primary" if row["primary"] else "exploratory"
        texts = {**{name: str(row[name]) for name in [*own, "against", "metric", *marked]},
                 "analysis": kind}  # fmt: skip
        numbers = [
            _interval(row, sign=True), *(_p(row[name]) for name in ("p", "p_adjusted")),
            render.number(row["effect_size"], digits=2),
        ]  # fmt: skip
        if judged:
            numbers.append({True: "yes", False: "no"}.get(row["noninferior"], ""))
        rows.append((*(texts[name] for name in left), *numbers))
    return Shown(columns=columns, rows=tuple(rows), numeric=len(columns) - len(left))


def markdown(shown: Shown, notes: Sequence[str]) -> str:
    """Write a table for GitHub and notebooks, the notes as a list under it."""
    names = [_cell(name.replace("_", " ")) for name in shown.columns]
    rule = ["---"] * (len(names) - shown.numeric) + ["---:"] * shown.numeric
    rows = [[_cell(text) for text in row] for row in shown.rows]
    lines = [f"| {' | '.join(row)} |" for row in (names, rule, *rows)]
    return "\n".join([*lines, "", *(f"- {_cell(note)}" for note in notes)]) + "\n"


def latex(shown: Shown, notes: Sequence[str]) -> str:
    r"""Write a table for `\input`; needs booktabs, and T1 fonts for straight quotes."""
    columns = "l" * (len(shown.columns) - shown.numeric) + "r" * shown.numeric
    rows = [" & ".join(escape(text) for text in row) + r" \\" for row in shown.rows]
    head = " & ".join(escape(name.replace("_", " ")) for name in shown.columns) + r" \\"
    under = [rf"\par\footnotesize {escape(note)}" for note in notes]
    return "\n".join(
        [
            "% needs \\usepackage{booktabs}", rf"\begin{{tabular}}{{{columns}}}", r"\toprule", head,
            r"\midrule", *rows, r"\bottomrule", r"\end{tabular}", *under, "",
        ]
    )  # fmt: skip


def escape(text: str) -> str:
    """Write a name so that LaTeX prints it as it is."""
    plain = text.replace("\n", " ").replace("\t", " ")
    # A row that starts so would be read as an argument of the line break before it.
    apart = "{}" if plain.startswith(("[", "*")) else ""
    return apart + "".join(
        _LATEX.get(c) or _UNUSUAL.get(c) or (c if c.isprintable() else "") for c in plain
    )


def files(evidence: Evidence, folder: Path, *, name: str = "") -> list[Path]:
    """Write the estimates and, where something is compared, the differences.

    Args:
        evidence: both tables.
        folder: of the files.
        name: of the first; the second has `_differences` after it. Default: their own names.
    """
    paths = []
    made: list[tuple[str, pd.DataFrame, Callable[[Evidence], Shown]]] = [
        (name or "estimates", evidence.cells, estimates),
        (f"{name}_differences" if name else "differences", evidence.differences, differences),
    ]
    for stem, table, show in made:
        if table.empty:
            continue
        plain = (
            table.assign(noninferior=table["noninferior"].astype("boolean"))
            if "noninferior" in table
            else table
        )
        paths += aggregate.write(plain, folder, stem)
        shown, notes = show(evidence), evidence.notes.lines()
        for end, text in (("tex", latex(shown, notes)), ("md", markdown(shown, notes))):
            path = folder / f"{stem}.{end}"
            write_file(path, text.encode())
            paths.append(path)
    return paths


def _interval(row: "pd.Series", *, sign: bool = False) -> str:
    def text(value: float) -> str:
        shown = render.number(value)
        return f"+{shown}" if sign and value >= 0 and shown else shown

    value, low, high = (float(row[name]) for name in ("estimate", "low", "high"))
    return f"{text(value)} [{text(low)}, {text(high)}]" if low == low else text(value)


def _p(value: float) -> str:
    return "<0.001" if value < 0.001 else render.number(value)


def _cell(text: str) -> str:
    """Escape what Markdown and HTML would read as marks."""
    plain = "".join(c if c.isprintable() else " " for c in text)
    return _MARKDOWN.sub(r"\\\1", plain).replace("\\&", "&amp;").replace("\\<", "&lt;")
