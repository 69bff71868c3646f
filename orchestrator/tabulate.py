"""What `aggregate` does and shows."""

from collections.abc import Sequence
from typing import TYPE_CHECKING

from orchestrator import answers, render
from orchestrator.answers import Asked
from orchestrator.errors import SweepError
from orchestrator.folder import Folder
from orchestrator.render import Mode

if TYPE_CHECKING:
    import pandas as pd

    from orchestrator.aggregate import Joined
    from orchestrator.cohort import Cohort
    from orchestrator.evidence import Evidence, Request, Results
    from orchestrator.spec_select import Select


def aggregate(folder: Folder, asked: Asked, *, mode: Mode) -> int:
    """Write the tables of a sweep and show them; 1 where a cell is incomplete or mixed.

    The main table is shown, or the evidence where flags ask about that.

    Args:
        folder: the sweep.
        asked: the flags.
        mode: how to show them.
    """
    from orchestrator import aggregate as cells
    from orchestrator import evidence, evidence_text, guards, licences, selected, tables

    results, judged = _results(folder, asked)
    rule = _rule(folder, asked, judged)
    if asked.cells:
        return _trace(results, answers.request(asked, results, rule), asked.cells, folder, mode)
    given = (results.plan, results.trials, results.predictions)
    axes = cells.axes(results.plan)
    joined = cells.join(*given, axes=axes, allow_missing=asked.allow_missing)
    made = tables.by_name(joined, reference=evidence.reference(results, asked.against))
    if asked.representation:
        made["representation"] = _representation(
            folder, results.plan, results.predictions, joined, reference=asked.reference, mode=mode
        )
    stem = judged.stem if judged else ""
    start = f"{stem}_" if stem else ""
    paths = [path for name in made for path in cells.write(made[name], folder.tables, start + name)]
    if rule:
        chosen = selected.select(*given, axes=axes, rule=rule, allow_missing=asked.allow_missing)
        paths += selected.write(chosen, folder.tables, f"{start}selected")
        made["selected"] = chosen.table
    request, found = answers.request(asked, results, rule), None
    if request.draws or asked.about_evidence:
        found = evidence.of(results, request, joined=joined)
        found = judged.told(found) if judged else found
        name = f"{start}{asked.file_name}" if asked.file_name else stem
        paths += evidence_text.files(found, folder.tables, name=name)
    wrong = guards.count(joined.marks)
    notes = [*guards.remarks(made["main"]), *licences.remarks(results.licences)]
    notes = [*judged.remarks, *notes] if judged else notes
    if mode == "json":
        value = {"sweep": folder.name, "cells": answers.records(made["main"])}
        value |= {name: answers.records(made[name]) for name in made if name != "main"}
        value |= {"evidence": [judged.estimand]} if judged else {}
        value |= answers.value(found) if found else {}
        render.value({**value, "files": [str(path) for path in paths], "notes": notes})
    elif mode == "quiet":
        render.lines([str(path) for path in paths])
    else:
        _show(made, found, asked, judged, rule=str(rule or ""), notes=notes)
        if text := answers.dear(results, asked, folder):
            render.note(text)
        names = dict.fromkeys(path.stem for path in paths)
        render.note(f"wrote {', '.join(names)} to {folder.tables}")
    if wrong and mode == "text":
        _warn(wrong, len(made["main"]), folder.name)
    return 1 if wrong and not asked.allow_missing else 0


def _results(folder: Folder, asked: Asked) -> "tuple[Results, Cohort | None]":
    """Read the results, and the cohort that stands in for held-out patients, if one does."""
    from orchestrator import evidence

    results = evidence.read(folder)
    if asked.cohort is None:
        return results, None
    from orchestrator import cohort

    judged = cohort.read(results, asked.cohort)
    return judged.results, judged


def _rule(folder: Folder, asked: Asked, judged: "Cohort | None") -> "Select | None":
    """Settle how settings are chosen; among ensembles none is."""
    from orchestrator import selected

    if judged is None or not judged.ensembles:
        return selected.rule_of(folder, asked.select, asked.margin)
    if asked.select is not None or asked.margin is not None:
        raise SweepError(
            "--select chooses a setting for each fold, which ensembles do not have",
            hint="make the table without --ensemble",
        )
    return None


def _warn(wrong: int, cells: int, name: str) -> None:
    text = f"{wrong} of {cells} cells miss trials, or mix code, data or devices"
    hint = f"sweep resume {name}; or --allow-missing"
    render.note(text, hint=hint, kind="warning")


def _trace(
    results: "Results", request: "Request", cells: Sequence[int], folder: Folder, mode: Mode
) -> int:
    """List the trials behind rows; no file is written."""
    from orchestrator import evidence

    trials = answers.trials_of(evidence.of(results, request).trials, cells)
    if mode == "json":
        render.value({"sweep": folder.name, "trials": answers.records(trials)})
    elif mode == "quiet":
        render.lines([str(trial) for trial in trials["trial"]])
    else:
        texts = trials.fillna("").astype(str)
        render.table(list(texts.columns), [list(row) for row in texts.itertuples(index=False)])
    return 0


def _show(
    made: "dict[str, pd.DataFrame]",
    found: "Evidence | None",
    asked: Asked,
    judged: "Cohort | None",
    *,
    rule: str,
    notes: Sequence[str],
) -> None:
    if found and asked.about_evidence:
        answers.show(found)
        notes = [line for line in notes if line not in found.notes.remarks]
    else:
        if found:
            answers.show_primary(found)
        _show_table(made["main"])
        if judged:
            render.note(judged.estimand)
    for line in notes:
        render.note(line, kind="warning")
    if "selected" in made:
        render.note(f"chosen by {rule} on the validation patients of each fold:")
        _show_table(made["selected"].drop(columns=["rule", "margin"]))


def _representation(
    folder: Folder,
    plan: "pd.DataFrame",
    predictions: "pd.DataFrame",
    joined: "Joined",
    *,
    reference: str | None,
    mode: Mode,
) -> "pd.DataFrame":
    """Measure embeddings, and say how far it is and what is left out."""
    from orchestrator import inputs, representation_kept, spec
    from orchestrator import representation as representations
    from training.data import index

    arms = list(dict.fromkeys(plan["arm"]))
    if reference is not None and reference not in arms:
        raise SweepError(f"arm {reference!r} is not in this sweep", hint=f"arms: {', '.join(arms)}")
    against = representations.reference_arm(plan) if reference is None else reference
    if not against:
        render.note("no arm trains without losses: give one with --reference", kind="warning")
    data = inputs.path(spec.read(folder.spec), folder.root.parent)
    if not data.is_dir():
        render.note(f"{data} is not there: the encoders' own embeddings are left out")
    measured = representation_kept.measure(
        folder,
        plan,
        predictions,
        joined=joined,
        dataset=index.read(data) if data.is_dir() else None,
        report=render.now_and_then(mode, "{:,} of {:,} sets of embeddings measured".format),
    )
    return representations.table(joined, measured, reference=against)


def _show_table(made: "pd.DataFrame") -> None:
    """Show what most readers want; the files have every column."""
    from orchestrator import measure_scanners

    hidden = {"folds", *measure_scanners.METRICS}
    hidden |= {name for name in made.columns if str(name).endswith("_sd")}
    for name in {"auroc_folds", "concordance_folds"} & set(made.columns):
        if (made[name] == made["folds"]).all():
            hidden.add(name)
    if (made["versions"] <= 1).all():
        hidden.add("versions")
    if not (made["missing"] + made["failed"]).any():
        hidden |= {"missing", "failed"}
    if "retired" in made and not made["retired"].any():
        hidden.add("retired")
    shown = [str(c) for c in made.columns if c not in hidden and not made[c].isna().all()]
    metrics = [name for name in shown if made[name].dtype.kind == "f"]
    left = [name for name in shown if name not in metrics]
    rows = [
        [str(row[name]) for name in left] + [render.number(row[name]) for name in metrics]
        for _, row in made.iterrows()
    ]
    render.table([*left, *metrics], rows, numeric=len(metrics))
