"""What `sweep report` does: one HTML file beside the tables of a sweep, or a bundle for a paper."""

import shlex
from collections import Counter
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from orchestrator import (
    answers,
    bundle,
    evidence,
    guards,
    render,
    report_material,
    report_page,
    report_record,
    report_results,
    report_scanners,
    report_slides,
    report_summary,
)
from orchestrator.evidence import Results
from orchestrator.folder import Folder, folder_mode, write_file
from orchestrator.render import Mode
from orchestrator.report_material import Material
from orchestrator.report_parts import Report, Section
from orchestrator.wording import counted, joined, label_of, number

DRAWS = 2000
_ROUNDS = 2
"""Times that intervals are made: against the reference, and against the control or of choices."""


def make(material: Material) -> Report:
    """Make the report of a sweep; pure."""
    summary = Section(
        anchor="summary", title="What came out", findings=report_summary.findings(material)
    )
    sections = (
        summary,
        *report_results.sections(material),
        *report_scanners.sections(material),
        *report_slides.sections(material),
        *report_record.sections(material),
    )
    return Report(
        title=material.folder.name,
        lead=_lead(material),
        facts=_facts(material),
        sections=_named_apart(sections),
        foot=_foot(material),
    )


def _named_apart(sections: Sequence[Section]) -> tuple[Section, ...]:
    """Number figures of one name: names that differ in signs alone make one file name."""
    count: Counter[str] = Counter()
    made = []
    for section in sections:
        named = []
        for figure in section.figures:
            count[figure.name] += 1
            more = f"--{count[figure.name]}" if count[figure.name] > 1 else ""
            named.append(replace(figure, name=f"{figure.name}{more}"))
        made.append(replace(section, figures=tuple(named)))
    return tuple(made)


def write(
    folder: Folder,
    *,
    allow_missing: bool,
    out: Path | None,
    bundled: bool,
    draws: int | None,
    mode: Mode,
) -> int:
    """Write the report, or the bundle; 1 where a cell is incomplete.

    Args:
        folder: the sweep.
        allow_missing: average what there is in incomplete cells.
        out: folder to write into; default: the sweep's tables, of a bundle `bundle` in them.
        bundled: write the bundle, with the report in it.
        draws: of patients, for intervals; None: as many as the budget of a login node allows.
        mode: how to say what was written.

    Raises:
        SweepError: There is no sweep of this name, or something that is no bundle lies at `out`.
        StoreError: The results are damaged.
    """
    folder.require()
    results = evidence.read(folder)
    material = report_material.read(
        folder, draws=_draws(folder, results, draws), allow_missing=allow_missing, results=results
    )
    report = make(material)
    if bundled:
        paths, left_out = bundle.write(material, report, out or folder.tables / "bundle")
    else:
        paths, left_out = [_write(report, out or folder.tables, folder)], []
    incomplete = guards.count(material.joined.marks)
    _say(folder, material, paths, left_out, incomplete=incomplete, mode=mode)
    return 1 if incomplete and not allow_missing else 0


def _draws(folder: Folder, results: Results, asked: int | None) -> int:
    """Settle the draws: none on a login node where they are dear, and then say how to have them."""
    if asked is not None:
        return asked
    cost = _ROUNDS * answers.cpu_seconds(results, DRAWS)
    command = f"sweep report {shlex.quote(folder.name)} --draws {DRAWS}"
    job = answers.as_job(folder, command, seconds=cost) if cost > answers.BUDGET_S else ""
    if job:
        took = render.duration(cost)
        render.note(f"without intervals, which take about {took} of CPU: {job}", kind="warning")
    return 0 if job else DRAWS


def _write(report: Report, out: Path, folder: Folder) -> Path:
    out.mkdir(parents=True, exist_ok=True, mode=0o700)
    if out == folder.tables:
        out.chmod(folder_mode(folder.root))
    path = out / "report.html"
    write_file(path, report_page.html(report).encode("utf-8", "backslashreplace"))
    return path


def _say(
    folder: Folder,
    material: Material,
    paths: list[Path],
    left_out: list[str],
    *,
    incomplete: int,
    mode: Mode,
) -> None:
    findings = report_summary.findings(material)
    if mode == "json":
        told = [{"verdict": f.verdict, "text": f"{f.lead} {f.text}"} for f in findings]
        files = [str(path) for path in paths]
        render.value({"sweep": folder.name, "files": files, "left_out": left_out, "findings": told})
    elif mode == "quiet":
        render.lines([str(path) for path in paths])
    else:
        for finding in findings:
            render.block(f"{finding.verdict:<8} {finding.lead} {finding.text}")
        for line in left_out:
            render.note(line, kind="left out")
        where = (
            paths[0] if len(paths) == 1 else f"{counted(len(paths), 'file')} to {paths[0].parent}"
        )
        render.note(f"wrote {where}")
        if incomplete:
            render.note(
                f"{incomplete} of {len(material.joined.cells)} cells are not whole",
                hint=f"sweep resume {folder.name}; or --allow-missing",
                kind="warning",
            )


def _lead(material: Material) -> str:
    cells = material.joined.cells
    encoders, arms = (list(dict.fromkeys(cells[name])) for name in ("encoder", "arm"))
    tasks = {str(own.get("task", {}).get("kind", "")) for own in material.settings.values()}
    kinds = {"binary": "a binary task", "multiclass": "a task of several classes"}
    task = joined([kinds.get(kind, f"a {kind} task") for kind in sorted(tasks)])
    several = material.reference and len(arms) > 1
    against = f", compared with {material.reference}" if several else ""
    return f"{joined(arms)} on {joined(encoders)}: {task}{against}."


def _facts(material: Material) -> tuple[tuple[str, str], ...]:
    cells, state = material.joined.cells, material.state
    done = int(material.joined.rows["trial"].isin(material.joined.known.index).groupby(
        material.joined.rows["trial"]
    ).any().sum())  # fmt: skip
    planned = material.joined.rows["trial"].nunique()
    known = material.results.predictions
    held_out = known[known["held_out"].eq(True)] if len(known) else known
    ended = material.told[-1]["time"] if material.told else ""
    hours = sum(pilot.gpu_hours("", ended) for pilot in state.pilots.values())
    facts = [
        ("trials done", f"{done:,} of {planned:,}"),
        ("encoders", f"{cells['encoder'].nunique():,}"),
        ("arms", f"{cells['arm'].nunique():,}"),
        ("cells", f"{len(cells):,}"),
        ("patients held out", f"{held_out['patient'].nunique():,}" if len(held_out) else "0"),
        ("scanners", f"{held_out['scanner'].nunique():,}" if len(held_out) else "0"),
        *_best(material),
    ]
    if hours:
        facts.append(("GPU-hours", number(hours, digits=1)))
    return tuple(facts)


def _best(material: Material) -> list[tuple[str, str]]:
    """Give the range of the quality over cells."""
    if not material.quality:
        return []
    values = material.tradeoff[material.quality].dropna()
    return [(label_of(material.quality), f"{number(values.min())} to {number(values.max())}")]


def _foot(material: Material) -> str:
    commit = str(material.code.get("commit", "unknown"))[:12]
    changed = "" if material.code.get("clean", True) else " with local changes"
    last = report_record.last_time(material)
    when = f" The last event of the sweep is of {last} UTC." if last else ""
    return (
        f"Made by sweep report {material.folder.name} from immutable results, by code of commit "
        f"{commit}{changed}; the same results give the same bytes.{when}"
    )
