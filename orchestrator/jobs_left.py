"""What a driver that starts, or starts again, has to train."""

import logging

from orchestrator import failures, price, store
from orchestrator.events import Progress, progress
from orchestrator.folder import Folder
from orchestrator.health import FREE
from orchestrator.worker import Job
from training.config import TrialConfig

log = logging.getLogger(__name__)


def read_jobs(folder: Folder) -> list[Job]:
    """Read the packs of the last launch that still miss a result, with their configurations."""
    plan = store.read_plan(folder, whole=True).drop_duplicates("trial").set_index("trial")
    state = progress(folder)
    missing = set(state.to_train) - set(state.given_up)
    kinds: dict[tuple[str, bool], str] = {}
    jobs = []
    for pack in state.planned:
        trials = state.packs[pack]
        if not missing.intersection(trials):
            continue
        if unknown := set(trials) - set(plan.index):
            log.warning("pack=%s passed over: no configuration of trial %s", pack, min(unknown))
            continue
        rows = plan.loc[list(trials)]
        family, config = str(rows["pack_family"].iloc[0]), str(rows["config"].iloc[0])
        told = rows["bracket"].items() if "bracket" in rows else ()
        brackets = tuple((str(trial), text) for trial, text in told if text)
        key = family, bool(brackets)
        if key not in kinds:
            parsed = TrialConfig.model_validate_json(config)
            kinds[key] = price.kind(parsed, retires=bool(brackets))
        moved = state.moved.get(pack, {})
        jobs.append(
            Job(
                pack=pack,
                encoder=rows["encoder"].iloc[0],
                trials=tuple(zip(trials, rows["config"], strict=True)),
                kind=kinds[key],
                priority=int(rows["priority"].max()) if "priority" in rows else 0,
                size=moved.get("size", "normal"),
                alone=moved.get("alone", False),
                share=state.shares.get(pack, 0.0),
                brackets=brackets,
            )
        )
    return jobs


def first_outcomes(state: Progress) -> list[str]:
    """List how first attempts ended since the launch, as `failures.breaker` wants it."""
    planned = set(state.planned)
    results = set(state.accepted.values())
    done = sum(attempt == 1 and pack in planned for pack, attempt in results)
    failed = [known[0] for pack, known in state.failures.items() if known and pack in planned]
    marks = [mark if kind in failures.COMMON else "" for kind, mark in failed if kind not in FREE]
    return [""] * done + marks
