"""What must stand under tables of evidence, in sentences; pure."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from orchestrator import licences
from orchestrator.resampling import Method
from orchestrator.spec_analysis import Analysis

ESTIMAND = (
    "estimated: the performance of these fitted models on new patients, mean over folds of the "
    "mean over seeds; training again is not covered by an interval: see the SD over seeds and folds"
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Notes:
    """What must stand under a table.

    Attributes:
        estimand: what the intervals are about.
        interval: level, method, unit and draws, in one sentence.
        selection: how settings were chosen, in one sentence.
        multiplicity: how p-values are adjusted.
        primary: the declared primary analysis in one sentence; empty where the spec has none.
        untested: what of it has no result and why, in one sentence; empty where all of it has.
        licences: encoder to the licences of its embeddings, where they are known.
        remarks: what else a reader must know, a sentence each.
    """

    estimand: str
    interval: str
    selection: str
    multiplicity: str
    primary: str
    licences: Mapping[str, tuple[str, ...]]
    remarks: tuple[str, ...]
    untested: str = ""

    def lines(self) -> list[str]:
        """Write the notes as sentences, one a line."""
        told = (self.primary, self.untested, self.estimand, self.interval, self.selection)
        return [line for line in (*told, self.multiplicity, *self.remarks) if line]


def make(
    analysis: Analysis | None,
    terms: Mapping[str, tuple[str, ...]],
    *,
    level: float,
    method: Method,
    draws: int,
    selection: str,
    untested: str,
    remarks: Sequence[str],
) -> Notes:
    """Write the notes.

    Args:
        analysis: the primary analysis; None where none is declared.
        terms: encoder to the licences of its embeddings.
        level: of the intervals.
        method: of the intervals.
        draws: of patients; 0 for no intervals.
        selection: as in `Notes`.
        untested: as in `Notes`.
        remarks: as in `Notes`, without those on licences.
    """
    interval = multiplicity = ""
    if draws:
        interval = (
            f"intervals: {100 * level:g} % {method}, {draws:,} draws of patients within test set "
            "and class (or event); all scans, slides and seeds of a patient together"
        )
        multiplicity = (
            "p-values: two-sided; exploratory ones adjusted by Benjamini and Hochberg over the "
            "rows of a metric"
        )
        if analysis is not None:
            multiplicity += "; primary ones by Holm over the encoders that were declared"
    return Notes(
        estimand=ESTIMAND,
        interval=interval,
        selection=selection,
        multiplicity=multiplicity,
        primary=_declared(analysis) if analysis else "",
        licences=terms,
        remarks=(*remarks, *licences.remarks(terms)),
        untested=untested,
    )


def _declared(analysis: Analysis) -> str:
    text = f"primary analysis, declared in the spec: {analysis.arm} against {analysis.against} in "
    text += analysis.metric
    if analysis.margin is not None:
        name = analysis.margin_metric or analysis.metric
        text += f", not inferior where it loses less than {analysis.margin:g} of {name}"
    where = ", ".join(f"{key}={value}" for key, value in analysis.where.items())
    return text + (f" ({where})" if where else "")
