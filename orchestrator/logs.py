"""What a sweep's processes said: failures grouped by traceback, log lines, and new events.

Files are read from their ends, a bounded part of each.
"""

from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path

from orchestrator import detail, events, lookup, render, tail
from orchestrator.errors import StoreError
from orchestrator.events import Event, Progress
from orchestrator.folder import Folder
from orchestrator.history import History, fingerprint, words
from orchestrator.render import Mode

DRIVER_LINES = 200
PACK_LINES = 200
PILOT_LINES = 5
FILES_MAX = 64
"""Worker logs that are searched for a trial, the newest first."""
MEANT = ("CANCELLED", "PREEMPTED", "COMPLETED")
"""How pilots end that nothing is wrong with."""
LANE = "the loss of this lane was not finite"


@dataclass(slots=True, kw_only=True)
class Group:
    """Failures with one cause.

    Args:
        kind: the class of failure.
        message: of the last one.
        trace: the last lines of one traceback; empty where there is none.
        of: the attempts as pack-attempt, or the trials whose lane ended.
        packs: packs, each once.
        nodes: nodes, each once.
    """

    kind: str
    message: str
    trace: str
    of: list[str] = field(default_factory=list)
    packs: dict[str, None] = field(default_factory=dict)
    nodes: dict[str, None] = field(default_factory=dict)


def failures(folder: Folder, *, given_up: bool, mode: Mode) -> int:
    """Show failures grouped by traceback, and where the logs are.

    Args:
        folder: the sweep's.
        given_up: leave out failures of packs that were trained later, or may be.
        mode: how to show it.
    """
    folder.require()
    told = events.read_events(folder)
    state = events.fold(told, events.list_segments(folder))
    found = groups(told, state, given_up=given_up)
    of_jobs = _job_logs(folder)
    files = [str(path) for path in (*_files(folder.logs), *of_jobs)]
    if mode == "json":
        values = [
            {
                "class": one.kind, "message": one.message, "trace": one.trace, "of": one.of,
                "count": len(one.of), "packs": list(one.packs), "nodes": list(one.nodes),
            }
            for one in found
        ]  # fmt: skip
        render.value({"sweep": folder.name, "failures": values, "logs": files})
    elif mode == "quiet":
        render.lines(files)
    else:
        for one in found:
            _show_group(one)
        _show_pilots(of_jobs, told)
        number = sum(len(one.of) for one in found)
        places = dict.fromkeys(str(Path(path).parent) for path in files)
        render.facts([("failures", str(number)), ("logs", "\n".join(places) or "none")])
    return 0


def of_trial(folder: Folder, start: str, *, mode: Mode) -> int:
    """Show the attempts at one trial and the log lines that name its packs."""
    folder.require()
    told = events.read_events(folder)
    state = events.fold(told, events.list_segments(folder))
    name = lookup.find(state, start)
    tries = detail.attempts(told, state, name)
    lines = _lines_of({one.pack for one in tries}, _worker_logs(folder, tries))
    if mode == "json":
        tried = [asdict(one) for one in tries]
        render.value({"sweep": folder.name, "trial": name, "attempts": tried, "lines": lines})
    elif mode == "quiet":
        render.lines(lines)
    else:
        detail.show_attempts(tries)
        for trace in dict.fromkeys(one.trace for one in tries if one.trace):
            render.block(f"\n{trace}")
        if lines:
            render.block("")
        for line in lines:
            render.block(line)
        if not lines:
            render.note(f"no log line in {folder.logs} names its packs")
    return 0


def driver(folder: Folder, *, mode: Mode) -> int:
    """Show the last lines of the driver job's log.

    Raises:
        StoreError: No driver of this sweep left a log.
    """
    folder.require()
    path = driver_log(folder, events.progress(folder))
    if not path.is_file():
        raise StoreError(
            f"{path}: not there yet; the driver has not started",
            hint=f"see when it will: sweep status {folder.name}",
        )
    lines = tail.last_lines(path, DRIVER_LINES)
    if mode == "json":
        render.value({"sweep": folder.name, "log": str(path), "lines": lines})
    elif mode == "quiet":
        render.lines([str(path)])
    else:
        for line in lines:
            render.block(line)
    return 0


def groups(told: Iterable[Event], state: Progress, *, given_up: bool) -> list[Group]:
    """Group failed attempts by traceback, and ended lanes by class; the most frequent first."""
    found: dict[str, Group] = {}
    nodes: dict[tuple[str, int], str] = {}
    for event in told:
        pack = event.get("pack", "")
        wanted = not given_up or any(trial in state.failed for trial in state.packs.get(pack, ()))
        match event["event"]:
            case "assigned":
                nodes[pack, event["attempt"]] = event.get("node", "")
            case "failed" if wanted:
                kind, message = event["failure"], event["message"]
                one = found.setdefault(
                    fingerprint(event), Group(kind=kind, message=message, trace=event["trace"])
                )
                _add(one, event, nodes, [f"{pack}-{event['attempt']}"])
            case "accepted" if wanted:
                for trial, kind in event["failed"].items():
                    if not given_up or trial in state.failed:
                        one = found.setdefault(kind, Group(kind=kind, message=LANE, trace=""))
                        _add(one, event, nodes, [trial])
    return sorted(found.values(), key=lambda one: -len(one.of))


def _add(one: Group, event: Event, nodes: dict[tuple[str, int], str], of: Sequence[str]) -> None:
    one.of += of
    one.packs[event["pack"]] = None
    if node := event.get("node") or nodes.get((event["pack"], event["attempt"])):
        one.nodes[node] = None


def _show_group(one: Group) -> None:
    shown = ", ".join(one.of[:8]) + (", …" if len(one.of) > 8 else "")
    where = f" on {', '.join(one.nodes)}" if one.nodes else ""
    packs = render.many(len(one.packs), "pack")
    head = f"{len(one.of)} × {words(one.kind)}, {packs}{where}: {shown}"
    render.block(f"{head}\n{one.trace or one.message}\n")


def _show_pilots(of_jobs: Iterable[Path], told: Iterable[Event]) -> None:
    """Show the ends of the logs of pilots that ended before they joined, the last three."""
    history = History()
    for event in told:
        history.take(event, {})
    over = [one for one in history.records.values() if one.phase == "over" and not one.joined]
    died = [one for one in over if one.reason in ("", "error") and one.state not in MEANT]
    paths = {path.name: path for path in of_jobs}
    for one in died[-3:]:
        render.block(f"pilot {one.job} ended before it joined: {one.reason or one.state}")
        path = paths.get(_log_name(one.job))
        for line in tail.last_lines(path, PILOT_LINES) if path else ():
            render.block(f"  {line}")


def _lines_of(packs: set[str], files: Iterable[Path]) -> list[str]:
    """Read the lines that name one of these packs, of the last part of each file."""
    marks = tuple(f"pack={pack} " for pack in packs)
    found: list[str] = []
    for path in files:
        lines = tail.last_lines(path, 1_000_000)
        found += [line for line in lines if any(mark in f"{line} " for mark in marks)]
    return sorted(found)[-PACK_LINES:]


def _worker_logs(folder: Folder, tries: Sequence[detail.Attempt]) -> list[Path]:
    """List the logs of the pilots that had the trial; all of them where that is not known."""
    pilots = {one.pilot for one in tries}
    files = _files(folder.logs)
    if pilots and "" not in pilots:
        files = [path for path in files if path.name.rpartition("-")[0] in pilots]
    return sorted(files, key=lambda path: path.stat().st_mtime)[-FILES_MAX:]


def driver_log(folder: Folder, state: Progress) -> Path:
    """Tell where the last driver job writes; it may not have begun.

    Raises:
        StoreError: None was submitted, or only the sweep's owner may read it.
    """
    ids = [event["job"] for event in state.submitted if event["role"] == "driver"]
    if not ids:
        raise StoreError(
            f"{folder.root}: no driver job was submitted; a local sweep has none",
            hint=f"see failures: sweep logs {folder.name}",
        )
    path = folder.pool / "submitit" / _log_name(ids[-1])
    try:
        path.is_file()
    except PermissionError as error:
        raise StoreError(
            f"{path}: only the sweep's owner may read it", hint=f"sweep logs {folder.name}"
        ) from error
    return path


def _log_name(job: str) -> str:
    """Name the file into which submitit lets a job's only task write."""
    return f"{job}_0_log.out"


def _job_logs(folder: Folder) -> list[Path]:
    """List the logs of jobs; say so where only the sweep's owner may look."""
    try:
        return _files(folder.pool / "submitit")
    except PermissionError:
        render.note(f"logs of jobs are not shown: only the sweep's owner may read {folder.pool}")
        return []


def _files(place: Path) -> list[Path]:
    return sorted([*place.glob("*.log"), *place.glob("*.out")]) if place.is_dir() else []
