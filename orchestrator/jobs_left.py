"""What a driver that starts, or starts again, has to train."""

import json
import logging
import sys
from collections.abc import Collection
from dataclasses import dataclass
from typing import Any

from orchestrator import failures, price, store
from orchestrator.events import Progress, progress
from orchestrator.folder import Folder
from orchestrator.health import FREE
from orchestrator.worker import Job
from training.config import TrialConfig
from training.config_lanes import loss_key_of

log = logging.getLogger(__name__)

_COLUMNS = ("trial", "encoder", "config", "pack_family", "priority", "bracket")


def read_jobs(folder: Folder) -> list[Job]:
    """Read the packs of the last launch that still miss a result, with their configurations.

    The plan is gone through in parts, and of each trial only what it has of its own is kept.
    """
    state = progress(folder)
    missing = set(state.to_train) - set(state.given_up)
    left = [pack for pack in state.planned if missing.intersection(state.packs[pack])]
    known = _rows(folder, {trial for pack in left for trial in state.packs[pack]})
    kinds: dict[tuple[str, frozenset[str], bool], str] = {}
    jobs = []
    for pack in left:
        trials = state.packs[pack]
        if unknown := [trial for trial in trials if trial not in known]:
            log.warning("pack=%s passed over: no configuration of trial %s", pack, min(unknown))
            continue
        rows = [known[trial] for trial in trials]
        first = rows[0]
        brackets = tuple(
            (trial, row.bracket) for trial, row in zip(trials, rows, strict=True) if row.bracket
        )
        losses = frozenset(row.losses for row in rows)
        key = first.family, losses, bool(brackets)
        if key not in kinds:
            config = TrialConfig.model_validate_json(first.base)
            kinds[key] = price.kind(config, losses, retires=bool(brackets))
        moved = state.moved.get(pack, {})
        jobs.append(
            Job(
                pack=pack,
                encoder=first.encoder,
                base=first.base,
                trials=tuple((trial, row.own) for trial, row in zip(trials, rows, strict=True)),
                kind=kinds[key],
                priority=max(row.priority for row in rows),
                size=moved.get("size", "normal"),
                alone=moved.get("alone", False),
                share=state.shares.get(pack, 0.0),
                brackets=brackets,
            )
        )
    return jobs


@dataclass(frozen=True, slots=True, kw_only=True)
class _Row:
    """A trial of the plan: what its family has in common, and what is its own, as JSON."""

    encoder: str
    family: str
    base: str
    losses: str
    own: str
    priority: int
    bracket: str


def _rows(folder: Folder, wanted: Collection[str]) -> dict[str, _Row]:
    bases: dict[str, tuple[str, dict[str, Any]]] = {}
    found: dict[str, _Row] = {}
    for row in store.go_through_plan(folder, _COLUMNS):
        if row["trial"] not in wanted or row["trial"] in found:
            continue
        family, config = row["pack_family"], json.loads(row["config"])
        base, common = bases.setdefault(family, (row["config"], config))
        own = {name: value for name, value in config.items() if value != common.get(name)}
        found[row["trial"]] = _Row(
            encoder=row["encoder"],
            family=family,
            base=base,
            losses=sys.intern(loss_key_of(config["losses"])),
            own=json.dumps(own),
            priority=int(row.get("priority", 0)),
            bracket=row.get("bracket") or "",
        )
    return found


def first_outcomes(state: Progress) -> list[str]:
    """List how first attempts ended since the launch, as `failures.breaker` wants it.

    Parts of divided packs do not count: it takes several to make one.
    """
    planned = set(state.planned) - state.parents.keys()
    results = set(state.accepted.values())
    done = sum(attempt == 1 and pack in planned for pack, attempt in results)
    failed = [known[0] for pack, known in state.failures.items() if known and pack in planned]
    marks = [mark if kind in failures.COMMON else "" for kind, mark in failed if kind not in FREE]
    return [""] * done + marks
