"""What flags of `sweep aggregate` ask of the evidence, what it would cost, and how it is shown."""

import hashlib
import re
import shlex
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from cluster import profile as profiles
from cluster.errors import ProfileError
from cluster.profile import SlurmProfile
from orchestrator import preparation, render
from orchestrator.errors import SweepError
from orchestrator.folder import Folder

if TYPE_CHECKING:
    import pandas as pd

    from orchestrator.evidence import Evidence, Request, Results
    from orchestrator.evidence_text import Shown
    from orchestrator.spec_select import Select

BUDGET_S = 30.0
"""CPU seconds that intervals may take where nobody asked for them, or on a login node."""

_NAME_MAX = 100
"""Letters of the name of a file."""

_NS = 4.0
"""Nanoseconds of one prediction in one draw, all usual metrics of it; measured, see results."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Asked:
    """The flags.

    Attributes:
        metrics: to show; empty: the usual ones.
        by: what tells rows apart; empty: everything.
        against: the arm to compare with; None: as the spec or the first arm without losses.
        where: conditions on cells.
        cells: rows whose trials to list.
        intervals: whether to make them; None: where they are within the budget.
        draws: of patients.
        method: of intervals.
        allow_missing: average what there is in incomplete and mixed cells.
        select: rule of selection; None: the spec's, if it has one.
        margin: of that rule.
        representation: measure kept embeddings, too.
        reference: arm that these are compared with; None: the first without losses.
    """

    metrics: tuple[str, ...] = ()
    by: tuple[str, ...] = ()
    against: str | None = None
    where: tuple[str, ...] = ()
    cells: tuple[int, ...] = ()
    intervals: bool | None = None
    draws: int = 2000
    method: str = "expanded"
    allow_missing: bool = False
    select: str | None = None
    margin: float | None = None
    representation: bool = False
    reference: str | None = None

    @property
    def about_evidence(self) -> bool:
        """Whether anything of the evidence was asked for, so that it is shown and not main."""
        return bool(self.metrics or self.by or self.against or self.where)

    @property
    def file_name(self) -> str:
        """Name the files of what was asked for; empty for the usual ones."""
        if not self.about_evidence:
            return ""
        parts = ["_".join(self.metrics or ("usual",)), *self.where]
        if self.by:
            parts.append("by_" + "_".join(self.by))
        if self.against:
            parts.append(f"against_{self.against}")
        if self.select:
            parts.append(self.select)
        whole = "_".join(parts)
        name = re.sub(r"[^A-Za-z0-9=.]+", "_", whole)
        if len(name) <= _NAME_MAX:
            return name
        mark = hashlib.sha256(whole.encode()).hexdigest()[:8]
        return f"{name[: _NAME_MAX - len(mark) - 1]}_{mark}"


def request(asked: Asked, results: "Results", rule: "Select | None") -> "Request":
    """Turn flags into a request; without draws where these are not wanted or too dear.

    Raises:
        SweepError: A condition is none, or its column is not in the plan.
    """
    from orchestrator import aggregate, conditions
    from orchestrator.evidence import Request

    if asked.draws < 1:
        raise SweepError(
            f"--draws {asked.draws}: expected 1 or more", hint="leave it out for 2,000"
        )
    keys = ["encoder", "arm", *aggregate.axes(results.plan)]
    where = dict(conditions.condition(text, keys) for text in asked.where)
    wanted = asked.intervals
    if wanted is None:
        wanted = not asked.cells and cpu_seconds(results, asked.draws) <= BUDGET_S
    return Request(
        metrics=asked.metrics,
        by=asked.by,
        against=asked.against,
        select=rule,
        where=where,
        draws=asked.draws if wanted else 0,
        method=asked.method,  # type: ignore[arg-type]  # click allows the three only
        allow_missing=asked.allow_missing,
    )


def cpu_seconds(results: "Results", draws: int) -> float:
    """Estimate the CPU time of intervals of the usual metrics."""
    rows = results.predictions
    count = int(rows["held_out"].sum()) if "held_out" in rows else 0
    return _NS * 1e-9 * count * draws


def dear(results: "Results", asked: Asked, folder: Folder) -> str:
    """Say that intervals were left out for their cost, and how to have them; else empty."""
    cost = cpu_seconds(results, asked.draws)
    if asked.intervals is not None or cost <= BUDGET_S:
        return ""
    command = f"sweep aggregate {shlex.quote(folder.name)} --intervals"
    return (
        f"without intervals, which take about {render.duration(cost)} of CPU: "
        f"{as_job(folder, command, seconds=cost) or command}"
    )


def as_job(folder: Folder, command: str, *, seconds: float) -> str:
    """Write the command that runs another as a job of the sweep's cluster; empty without SLURM."""
    name = preparation.last_cluster(folder)
    try:
        profile = profiles.load(name) if name else None
    except ProfileError:
        return ""
    if not isinstance(profile, SlurmProfile):
        return ""
    partition, account = profile.driver.partition or profile.partition, profile.account
    words = [
        "sbatch", *([f"--partition={partition}"] if partition else []),
        *([f"--account={account}"] if account else []), "--cpus-per-task=1", "--mem=8G",
        f"--time={max(10, round(seconds / 20))}", f"--wrap={command}",
    ]  # fmt: skip
    return shlex.join(words)


def show(evidence: "Evidence") -> None:
    """Show the primary analysis first, then estimates and other differences."""
    from orchestrator import evidence_text

    show_primary(evidence)
    estimates = evidence_text.estimates(evidence)
    _table(estimates, estimates.rows)
    shown = evidence_text.differences(evidence)
    first = int(evidence.differences["primary"].sum())
    if shown.rows[first:]:
        _table(shown, shown.rows[first:])
    for line in evidence.notes.lines():
        if line not in (evidence.notes.primary, evidence.notes.untested):
            render.note(line)


def show_primary(evidence: "Evidence") -> None:
    """Show the primary analysis, where the spec declares one."""
    from orchestrator import evidence_text

    if evidence.notes.primary:
        render.note(evidence.notes.primary)
        if evidence.notes.untested:
            render.note(evidence.notes.untested, kind="warning")
        if first := int(evidence.differences["primary"].sum()):
            shown = evidence_text.differences(evidence)
            _table(shown, shown.rows[:first])


def trials_of(trials: "pd.DataFrame", cells: Sequence[int]) -> "pd.DataFrame":
    """Pick the trials of these rows.

    Raises:
        SweepError: There is no such row.
    """
    unknown = sorted(set(cells) - set(trials["cell"]))
    if unknown:
        raise SweepError(
            f"no row {unknown[0]}", hint="column cell of tables/estimates.csv numbers the rows"
        )
    return trials[trials["cell"].isin(list(cells))]


def value(evidence: "Evidence") -> dict[str, Any]:
    """Give the evidence as plain values."""
    notes = evidence.notes
    return {
        "estimates": records(evidence.cells),
        "differences": records(evidence.differences),
        "evidence": notes.lines(),
        "licences": {name: list(texts) for name, texts in notes.licences.items()},
    }


def records(made: "pd.DataFrame") -> list[dict[str, Any]]:
    """Give rows as plain values, null where there is none."""
    import numpy as np

    rows = made.astype(object).where(made.notna(), None).to_dict("records")
    return [{str(name): _plain(each, np) for name, each in row.items()} for row in rows]


def _plain(value: Any, np: Any) -> Any:
    return value.item() if isinstance(value, np.generic) else value


def _table(shown: "Shown", rows: Sequence[Sequence[str]]) -> None:
    render.table(shown.columns, [list(row) for row in rows], numeric=shown.numeric)
