"""What `launch` and `resume` do and show."""

import json
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from cluster.profile import SlurmProfile
from orchestrator import control, events, preparation, preview, provenance, quote, render, watch
from orchestrator import launch as launches
from orchestrator.errors import SweepError
from orchestrator.folder import Folder
from orchestrator.preparation import Options, Prepared
from orchestrator.preview import Preview
from orchestrator.render import Mode


def launch(
    path: Path,
    *,
    results: Path,
    cluster: str | None,
    options: Options,
    dry_run: bool,
    script: bool,
    yes: bool,
    cancel_removed: bool = False,
    mode: Mode,
) -> int:
    """Plan a sweep, show the plan and its price, and start it unless this is a dry run."""
    asks = mode == "text" and sys.stdin.isatty() and sys.stderr.isatty()
    prepared = preparation.prepare(
        path,
        results=results,
        cluster=cluster,
        options=options,
        site="warn" if dry_run else "require" if yes or asks else "skip",
        write=not dry_run,
    )
    code = provenance.code()
    for warning in [*prepared.warnings, *_code_changed(prepared.folder, code)]:
        render.note(warning, kind="warning")
    if not dry_run:
        launches.require_startable(prepared)
    agreed = yes or not prepared.submits
    shown = _preview(prepared, script=script, ask=dry_run or yes or asks)
    for warning in shown.warnings:
        render.note(warning, kind="warning")
    if dry_run or mode == "text":
        preview.show(shown, mode, on_stdout=dry_run)
    if dry_run:
        return _nothing_submitted(prepared, mode, script=script)
    if not agreed and not (asks and render.confirm("Submit?")):
        hint = "add --yes to submit"
        render.error(mode, kind="usage", message="this spends GPU time", hint=hint)
        return 2
    dropped = _dropped(prepared, asks=asks and not yes, cancel_removed=cancel_removed)
    with render.progress(mode) as report:
        jobs = launches.start(
            prepared, code=code, quoted=quote.plain(shown.price), on_progress=report
        )
    control.cancel_trials(prepared.folder, dropped)
    return _submitted(shown, jobs, mode) if _returns(prepared) else _finished(prepared, mode)


def require_own_spec(folder: Folder) -> None:
    """Refuse to resume a folder whose stored spec names another sweep.

    Raises:
        SweepError: There is no sweep here, or the folder was renamed.
    """
    from orchestrator import spec

    folder.require()
    if (name := spec.read(folder.spec).name) != folder.name:
        raise SweepError(
            f"{folder.root}: the stored spec is of sweep {name!r}",
            hint=f"rename the folder back, or set name: {folder.name} in {folder.spec}",
        )


def _preview(prepared: Prepared, *, script: bool, ask: bool) -> Preview:
    """Price a prepared sweep; ask SLURM about it where jobs will be submitted."""
    profile, submits = prepared.profile, prepared.submits and prepared.mode == "all"
    start = quote.start(prepared) if submits and ask else None
    notes, scripts = [], {}
    if script and isinstance(profile, SlurmProfile):
        scripts = quote.scripts(prepared)
    elif script:
        notes.append(f"profile {prepared.cluster} submits no batch scripts: it trains here")
    left = len(prepared.plan.trials) - len(prepared.plan.done)
    if prepared.options.probe and left and not prepared.plan.packs:
        notes.append("the price of every kind of pack is known: there is nothing to probe")
    return Preview(
        prepared=prepared,
        price=quote.price_of(prepared),
        footprint=quote.footprint(prepared),
        start=start,
        scripts=scripts,
        notes=tuple(notes),
    )


def _nothing_submitted(prepared: Prepared, mode: Mode, *, script: bool) -> int:
    if mode == "text":
        see = "" if script or not prepared.submits else "Add --script to see the batch scripts, or "
        render.note(f"Nothing submitted. {see}{'d' if see else 'D'}rop --dry-run to start.")
    return 0


def _dropped(prepared: Prepared, *, asks: bool, cancel_removed: bool) -> tuple[str, ...]:
    """Choose the trials to cancel: those that the spec no longer has, if that is wanted."""
    count = len(prepared.removed)
    question = f"Cancel {count:,} trials that are not in the spec any more?"
    if count and (cancel_removed or (asks and render.confirm(question))):
        return prepared.removed
    if count:
        render.note(
            f"{count:,} trials that are not in the spec any more go on training",
            hint="end them: the same command with --cancel-removed",
            kind="warning",
        )
    return ()


def _returns(prepared: Prepared) -> bool:
    """Tell whether training goes on after this command."""
    return isinstance(prepared.profile, SlurmProfile) and not prepared.options.foreground


def _finished(prepared: Prepared, mode: Mode) -> int:
    """Report on a local sweep that has just ended."""
    state = events.progress(prepared.folder)
    if mode == "json":
        render.value(watch.value(prepared.folder))
    elif mode == "quiet":
        render.lines(state.done)
    else:
        done, failed = len(state.done), len(state.given_up)
        render.note(f"{done} of {len(state.trials)} trials done, {failed} failed")
        command = "aggregate" if done else "logs"
        render.next_command(f"sweep {command} {prepared.folder.name}")
    return 0 if len(state.done) == len(state.trials) else 1


def _submitted(shown: Preview, jobs: list[str], mode: Mode) -> int:
    prepared = shown.prepared
    name = prepared.folder.name
    if mode == "json":
        render.value({**preview.value(shown), "jobs": jobs})
    elif mode == "quiet":
        render.lines(jobs)
    elif jobs:
        pilots = f"pilots {', '.join(jobs[1:])}" if jobs[1:] else "to pilots that wait already"
        render.facts([("submitted", f"driver {jobs[0]}, {pilots}")])
        render.next_command(f"sweep status {name}")
    elif prepared.options.probe and not prepared.plan.packs:
        render.facts([("submitted", "nothing: there is nothing to probe")])
        render.next_command(f"sweep status {name}")
    elif prepared.mode == "added":
        count = prepared.plan.num_to_train
        text = f"{count:,} trials, to the driver that runs" if count else "nothing; the plan is new"
        render.facts([("queued", text)])
        render.next_command(f"sweep status {name}")
    else:
        done = len(prepared.plan.done) == len(prepared.plan.trials)
        text = "every trial is done" if done else "what is missing is not trained again by itself"
        render.facts([("submitted", f"nothing: {text}")])
        render.next_command(f"sweep {'aggregate' if done else 'logs'} {name}")
    return 0


def _code_changed(folder: Folder, code: Mapping[str, Any]) -> list[str]:
    if not folder.code.is_file():
        return []
    try:
        before = json.loads(folder.code.read_text(encoding="utf-8"))
        known = before["commit"], before["clean"]
    except (ValueError, KeyError, TypeError):
        return [f"{folder.code}: not readable; it is written anew"]
    if known == (code["commit"], code["clean"]):
        return []
    return [
        f"code is {code['commit'][:7]}{'' if code['clean'] else ' with changes'}; the sweep was "
        f"last launched at {before['commit'][:7]}{'' if before['clean'] else ' with changes'}"
    ]
