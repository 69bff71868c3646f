"""A folder for a paper: tables, figures, predictions, spec, versions, and how to make them again.

The same results give the same bytes. Predictions of single patients are in it only where the
licence of the encoder's embeddings allows to pass them on; what is left out is said. The folder
appears whole, in place of an earlier bundle and of nothing else.
"""

import json
import secrets
import shlex
import shutil
from collections.abc import Iterable, Sequence
from pathlib import Path

import pandas as pd

from orchestrator import aggregate, evidence_text, files, licences, report_page
from orchestrator.canvas import Figure
from orchestrator.errors import SweepError
from orchestrator.folder import write_file
from orchestrator.report_material import Material
from orchestrator.report_parts import Report, Table
from orchestrator.wording import joined

MARK = "# Bundle of sweep"
"""Start of the README of every bundle."""


def write(material: Material, report: Report, out: Path) -> tuple[list[Path], list[str]]:
    """Write the bundle.

    Args:
        material: what the report was made from.
        report: the report.
        out: folder to write; an earlier bundle there is replaced.

    Returns:
        The files, and what was left out and why.

    Raises:
        SweepError: Something that is no bundle lies at `out`.
    """
    _require_ours(out)
    given, out = out, out.resolve()
    out.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
    scratch = out.with_name(f".{out.name}-{secrets.token_hex(4)}")
    scratch.mkdir(mode=0o700)
    try:
        left_out = _fill(material, report, scratch)
        earlier = out.with_name(f".{out.name}-{secrets.token_hex(4)}")
        if out.exists():
            out.rename(earlier)
        scratch.rename(out)
        shutil.rmtree(earlier, ignore_errors=True)
    finally:
        shutil.rmtree(scratch, ignore_errors=True)
    inside = sorted(path for path in out.rglob("*") if path.is_file())
    return [given / path.relative_to(out) for path in inside], left_out


def _require_ours(out: Path) -> None:
    if not out.exists() or (out.is_dir() and not any(out.iterdir())):
        return
    readme = out / "README.md"
    if not (readme.is_file() and readme.read_text("utf-8", "replace").startswith(MARK)):
        raise SweepError(f"{out}: is there and no bundle", hint="give another folder with --out")


def _fill(material: Material, report: Report, folder: Path) -> list[str]:
    write_file(folder / "report.html", report_page.html(report).encode("utf-8", "backslashreplace"))
    tables = [table for section in report.sections for table in section.tables]
    drawn = [figure for section in report.sections for figure in section.figures]
    for table in tables:
        aggregate.write(_plain(table.frame), folder / "tables", table.name)
    evidence_text.files(material.cells, folder / "tables", name="evidence")
    (folder / "figures").mkdir(mode=0o700)
    for figure in drawn:
        pdf, png = figure.save("pdf", "png")
        write_file(folder / "figures" / f"{figure.name}.pdf", pdf)
        write_file(folder / "figures" / f"{figure.name}.png", png)
    write_file(folder / "spec.yaml", material.text.encode("utf-8", "backslashreplace"))
    files.write_frame(material.plan, folder / "plan.parquet")
    code = json.dumps(_versions(material), indent=1, ensure_ascii=False, sort_keys=True)
    write_file(folder / "versions.json", f"{code}\n".encode())
    left_out = _predictions(material, folder / "predictions.parquet")
    readme = _readme(material, tables, drawn, left_out)
    write_file(folder / "README.md", readme.encode("utf-8", "backslashreplace"))
    return left_out


def _plain(frame: pd.DataFrame) -> pd.DataFrame:
    """Give columns of mixed values as text, which a Parquet column can hold."""
    mixed = [name for name in frame.columns if frame[name].dtype == object]
    return frame.assign(**{name: frame[name].map(_text) for name in mixed})


def _text(value: object) -> str:
    return "" if value is None or value != value else str(value)


def _predictions(material: Material, path: Path) -> list[str]:
    """Write the predictions that may be passed on; say which may not."""
    own = material.spec is not None and material.spec.simulation is not None
    left_out, kept = [], []
    for encoder in dict.fromkeys(material.plan["encoder"]):
        told = material.cells.notes.licences.get(encoder, ())
        reason = "" if own else _reason_against(told)
        if reason:
            left_out.append(f"predictions of {encoder}: {reason}")
        else:
            kept.append(encoder)
    allowed = set(material.plan.loc[material.plan["encoder"].isin(kept), "trial"])
    if allowed:
        rows = material.results.predictions
        rows = rows[rows["trial"].isin(allowed)]
        order = [name for name in ("trial", "slide", "view") if name in rows]
        rows = rows.sort_values(order, kind="stable", ignore_index=True)
        files.write_frame(rows, path)
    return left_out


def _reason_against(names: Sequence[str]) -> str:
    """Say why predictions from embeddings under these licences are not passed on; else empty."""
    tied = [name for name in names if not licences.is_free(name)]
    if not names or licences.UNKNOWN in tied:
        return "no licence is stated"
    return f"licence {joined(tied)} is not known to allow it" if tied else ""


def _versions(material: Material) -> dict[str, object]:
    trials = material.results.trials
    known = trials.reindex(columns=["commit", "versions"]).drop_duplicates().dropna()
    used = [
        {"commit": commit, "versions": json.loads(text)}
        for commit, text in sorted(zip(known["commit"], known["versions"], strict=True))
    ]
    return {"launch": dict(material.code), "trials": used}


def _readme(
    material: Material, tables: Iterable[Table], drawn: Iterable[Figure], left_out: list[str]
) -> str:
    name = material.folder.name
    commit = str(material.code.get("commit", "unknown"))
    commits = sorted({str(one) for one in material.results.trials.get("commit", ())})
    fingerprints = material.plan["fingerprint"].nunique()
    lines = [
        f"{MARK} {name}",
        "",
        "Made by `sweep report --bundle` from immutable results; the same results give the same "
        "bytes.",
        "",
        "## Make it again",
        "",
        f"The last launch was of commit `{commit}`, results are of {joined(commits) or 'none'}. "
        f"{'' if material.code.get('clean', True) else 'The code had changes in no commit. '}"
        "`versions.json` has the library versions.",
        "",
        "```",
        f"git checkout {commit}",
        "make setup",
        f"sweep launch spec.yaml          # named {name}; subtracts what is done",
        f"sweep report {shlex.quote(name)} --bundle --draws {material.draws}"
        + " --allow-missing" * material.joined.allow_missing,
        "```",
        "",
        f"The data are not in it. `plan.parquet` has every trial's configuration and the "
        f"fingerprint of the data that it read ({fingerprints} different).",
        "",
        "## Files",
        "",
        "- `report.html`: the report, which opens offline.",
        "- `spec.yaml`, `plan.parquet`, `versions.json`: what was trained, with which code.",
        "- `predictions.parquet`: a row per trial, patient, slide and scan."
        if len(left_out) < material.plan["encoder"].nunique()
        else "- No predictions, see below.",
        "- `tables/evidence.tex`, `evidence_differences.tex` and `.md`, `.csv`, `.parquet`: all "
        "cells and differences for LaTeX (booktabs) and elsewhere.",
        *(f"- `tables/{each.name}.csv`, `.parquet`: {_line(each.caption)}." for each in tables),
        *(f"- `figures/{each.name}.pdf`, `.png`: {_line(each.caption)}" for each in drawn),
        "",
        "## Notes",
        "",
        *(f"- {_line(line)}" for line in material.cells.notes.lines()),
        *(f"- Left out: {_line(line)}." for line in left_out),
        *(
            f"- Licence of {encoder}: {_line(joined(told)) or 'not stated'}."
            for encoder, told in material.cells.notes.licences.items()
        ),
    ]
    return "\n".join(lines) + "\n"


def _line(text: str) -> str:
    """Keep what a name holds on one line."""
    return " ".join(text.split())
