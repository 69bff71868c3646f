"""Finding trials of a sweep: by the start of an id, by their cell, by what they failed of.

The plan is read by column, without the configurations, and only where cells are asked for.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from orchestrator import conditions as given
from orchestrator.errors import StoreError, SweepError
from orchestrator.events import Event, Progress
from orchestrator.folder import Folder

NOT_AXES = ("cell", "trial", "config", "fingerprint", "pack_family", "bracket")
CANDIDATES = 8

Row = Mapping[str, Any]


@dataclass(frozen=True, slots=True, kw_only=True)
class Match:
    """Trials of the cells that meet all conditions.

    Args:
        trials: their ids, each once, in the order of the plan.
        cells: how many cells they are of.
        shared: how many more trials meet them, which cells that do not match use too.
    """

    trials: tuple[str, ...]
    cells: int
    shared: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Failed:
    """A trial that was given up, and the last failure that it was part of."""

    trial: str
    kind: str
    message: str
    pack: str
    attempts: int
    node: str


def where(folder: Folder, conditions: Sequence[str]) -> Match:
    """Find the trials whose cell meets every `KEY=VALUE`.

    A value is compared as text and as JSON, so `seed=3`, `arm=erm` and `arm="erm"` all do.

    Raises:
        SweepError: A condition is not KEY=VALUE, its key is no column of the plan, or nothing
            matches.
        StoreError: The plan cannot be read.
    """
    rows = read_cells(folder)
    keys = [key for key in (rows[0] if rows else {}) if key not in NOT_AXES]
    asked = [given.condition(text, keys) for text in conditions]
    hits = [all(given.equal(row[key], text) for key, text in asked) for row in rows]
    matching = dict.fromkeys(row["trial"] for row, hit in zip(rows, hits, strict=True) if hit)
    if not matching:
        raise SweepError(f"no trial of {folder.name!r} has {' and '.join(conditions)}",
                         hint=given.values(rows, [key for key, _ in asked]))  # fmt: skip
    others = {row["trial"] for row, hit in zip(rows, hits, strict=True) if not hit}
    trials = tuple(trial for trial in matching if trial not in others)
    return Match(
        trials=trials,
        cells=len({row["cell"] for row, hit in zip(rows, hits, strict=True) if hit}),
        shared=len(matching) - len(trials),
    )


def find(state: Progress, start: str) -> str:
    """Find the one trial whose id begins so.

    Raises:
        SweepError: There is none, or there are several.
    """
    known = {*state.trials, *(trial for ids in state.packs.values() for trial in ids)}
    found = sorted(trial for trial in known if trial.startswith(start))
    if start in known:
        return start
    if not found or not start:
        raise SweepError(f"no trial begins with {start!r}", hint="ids are in: sweep status --json")
    if len(found) > 1:
        shown = ", ".join(found[:CANDIDATES]) + (", …" if len(found) > CANDIDATES else "")
        raise SweepError(f"{len(found)} trials begin with {start!r}: {shown}")
    return found[0]


def failed(told: Iterable[Event], state: Progress) -> list[Failed]:
    """List the trials that were given up, those of one class and one message together."""
    last: dict[str, Event] = {}
    nodes: dict[tuple[str, int], str] = {}
    for event in told:
        attempt = (event.get("pack", ""), event.get("attempt", 0))
        match event["event"]:
            case "assigned":
                nodes[attempt] = event.get("node", "")
            case "failed":
                last.update(dict.fromkeys(state.packs.get(attempt[0], ()), event))
            case "accepted":
                last.update(dict.fromkeys(event["failed"], event))
    rows = [_failed(trial, state, last.get(trial, {}), nodes) for trial in state.given_up]
    return sorted(rows, key=lambda row: (row.kind, row.message, row.pack))


def read_cells(folder: Folder) -> list[Row]:
    """Read the plan's rows, without configurations.

    Raises:
        StoreError: The plan cannot be read.
    """
    import pyarrow as pa
    import pyarrow.parquet as pq

    try:
        names = [name for name in pq.read_schema(folder.plan).names if name not in NOT_AXES[2:]]
        rows: list[Row] = pq.read_table(folder.plan, columns=names).to_pylist()
    except (OSError, pa.ArrowInvalid) as error:
        raise StoreError(
            f"{folder.plan}: cannot be read: {error}", hint="launch the spec again: sweep launch"
        ) from error
    return rows


def _failed(
    trial: str, state: Progress, event: Event, nodes: Mapping[tuple[str, int], str]
) -> Failed:
    kind = state.failed[trial]
    pack = event.get("pack", "")
    lane = event.get("event") == "accepted"
    message = "the loss of this lane was not finite" if lane else event.get("message", "")
    if kind == "cancelled":
        pack, message = "", "cancelled by sweep cancel --where"
    return Failed(
        trial=trial,
        kind=kind,
        message=message,
        pack=pack,
        attempts=state.attempts.get(pack, 0),
        node=event.get("node", "") or nodes.get((pack, event.get("attempt", 0)), ""),
    )
