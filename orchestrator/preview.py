"""Shows what a launch will do, cost and write, before it does."""

import math
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

from cluster.profile import LocalProfile, SlurmProfile
from orchestrator import preparation, quote, render
from orchestrator.plan import Plan
from orchestrator.preparation import Prepared
from orchestrator.price import Price
from orchestrator.quote import Footprint, Start
from orchestrator.render import Mode
from orchestrator.spec_search import AshaSearch, OptunaSearch


@dataclass(frozen=True, slots=True, kw_only=True)
class Preview:
    """A prepared sweep, its price and what SLURM says; no `start` where it is not asked."""

    prepared: Prepared
    price: Price
    footprint: Footprint
    start: Start | None = None
    scripts: Mapping[str, str] = field(default_factory=dict)
    notes: tuple[str, ...] = ()

    @property
    def warnings(self) -> list[str]:
        """What the user may want to act on."""
        most = self.prepared.options.max_gpu_hours
        found = [*self.notes, *(f"disk: {line}" for line in self.footprint.problems)]
        if self.prepared.state.held and self.prepared.plan.packs:
            name = self.prepared.folder.name
            found.append(f"this sweep is held: nothing begins until sweep hold {name} --release")
        if most is not None and isinstance(self.prepared.profile, LocalProfile):
            found.append("--max-gpu-hours is not for this machine: it is not heeded here")
        elif most is not None and self.prepared.mode == "added":
            found.append("--max-gpu-hours is for a new driver; the one that runs keeps its own")
        elif most is not None and self.price.gpu_hours > most:
            found.append(
                f"the estimate of {_hours(self.price.gpu_hours)} GPU-h is above --max-gpu-hours "
                f"{_hours(most)}: the driver will stop before the end; sweep resume goes on"
            )
        return found


def show(preview: Preview, mode: Mode, *, on_stdout: bool) -> None:
    """Show a preview: as data on stdout, or as a message on stderr."""
    plan = preview.prepared.plan
    if mode == "json":
        render.value(value(preview))
        return
    if mode == "quiet":
        render.lines([trial.id for pack in plan.packs for trial in pack.trials])
        return
    rows = _rows(preview)
    if on_stdout:
        render.facts(rows)
    else:
        width = max(len(label) for label, _ in rows)
        for label, text in rows:
            render.note(f"{label:<{width}}  {text.replace(chr(10), chr(10) + ' ' * (width + 2))}")
    for role, script in preview.scripts.items():
        render.block(f"\n# batch script of the {role}\n{script.rstrip()}")


def value(preview: Preview) -> dict[str, Any]:
    """Describe a launch as `--json` prints it."""
    prepared, found, writes = preview.prepared, preview.price, preview.footprint
    plan, start = prepared.plan, preview.start
    return {
        "sweep": prepared.spec.name,
        "trials": len(plan.trials),
        "cells": plan.num_cells,
        "done": len(plan.done),
        "to_train": plan.num_to_train,
        "packs": len(plan.packs),
        "lanes_apart": dict(zip(("groups", "differ_in"), plan.apart(), strict=True)),
        "searches": {
            name: {"kind": arm.search.kind, "samples": arm.search.samples}
            for name, arm in prepared.spec.arms.items()
            if arm.search
        },
        "training": len(plan.elsewhere),
        "not_again": _not_again(prepared),
        "missing": sum(plan.missing.values()),
        "missing_encoders": dict(plan.missing),
        "removed": list(prepared.removed),
        "mode": prepared.mode,
        "cluster": prepared.cluster,
        "price": {
            "gpu_hours": _finite(found.gpu_hours),
            "low": _finite(found.low),
            "high": _finite(found.high),
            "seconds": _finite(found.seconds),
            "unknown_packs": found.unknown,
            "source": found.source,
        },
        "at_most_gpu_hours": quote.most_gpu_hours(prepared),
        "max_gpu_hours": prepared.options.max_gpu_hours,
        "writes": {
            "files": writes.files,
            "bytes": writes.size_bytes,
            "source": writes.source,
            "free_files": writes.free_files,
            "free_bytes": writes.free_bytes,
        },
        "start": None
        if start is None
        else {
            **{role: time.astimezone(UTC).isoformat() for role, time in start.times.items()},
            "unknown": start.unknown,
        },
        "scripts": dict(preview.scripts),
        "warnings": [*prepared.warnings, *preview.warnings],
    }


def _rows(preview: Preview) -> list[tuple[str, str]]:
    prepared = preview.prepared
    plan = prepared.plan
    lanes = max((len(pack.trials) for pack in plan.packs), default=0)
    packs = f" in {len(plan.packs):,} packs of up to {lanes} lanes" if plan.packs else ""
    rows = [
        (
            prepared.spec.name,
            f"{len(plan.trials):,} trials in {plan.num_cells:,} cells; {len(plan.done):,} done, "
            f"{plan.num_to_train:,} to train{packs}",
        ),
        *_others(prepared),
        *_lanes(plan),
        *_searches(prepared),
        ("data", str(prepared.data)),
    ]
    if plan.packs:
        rows += [("price", _price(preview)), ("writes", _writes(preview.footprint))]
    rows.append(("cluster", f"{prepared.cluster}: {_places(prepared)}"))
    if preview.start is not None:
        rows.append(("start", _start(preview.start)))
    if plan.missing:
        lines = [f"{name}: {count:,} trials" for name, count in plan.missing.items()]
        rows.append(("missing", "\n".join([f"embeddings of {len(lines)} encoders", *lines])))
    return rows


def _lanes(plan: Plan) -> list[tuple[str, str]]:
    """Say what keeps trials from sharing a pass over the bags."""
    sizes, fields = plan.apart()
    if len(sizes) < 2 or not fields:
        return []
    each = f"{min(sizes):,}" if min(sizes) == max(sizes) else f"{min(sizes):,} to {max(sizes):,}"
    text = f"{len(sizes):,} groups of {each} trials, which differ in {', '.join(fields)}"
    return [("lanes", f"{text}: each group trains apart")]


def _searches(prepared: Prepared) -> list[tuple[str, str]]:
    """Say which arms search, how many settings they have, and what is still open."""
    lines = []
    for name, arm in prepared.spec.arms.items():
        if (search := arm.search) is None:
            continue
        own = {row.cell for row in prepared.plan.rows if row.arm == name}
        text = f"{name}: {search.samples:,} settings by {search.kind}, in {len(own):,} cells"
        if isinstance(search, AshaSearch):
            text += "; it retires trials, so the price is the most that it may be"
        if isinstance(search, OptunaSearch):
            text += " so far; further ones follow from results and are not in the price"
        lines.append(text)
    note = "not a factorial comparison: cells are drawn or dropped"
    return [("search", "\n".join([*lines, note]))] if lines else []


def _others(prepared: Prepared) -> list[tuple[str, str]]:
    """Say which trials are not done and not trained by this launch either."""
    rows = []
    if prepared.mode == "added":
        text = f"a driver works on this sweep: {len(prepared.plan.elsewhere):,} trials are its own"
        if prepared.plan.packs:
            text += f"; it gets {prepared.plan.num_to_train:,} more"
        rows.append(("running", text))
    if prepared.removed:
        text = f"{len(prepared.removed):,} trials of the running driver are not in the spec now"
        rows.append(("removed", text))
    if left := _not_again(prepared):
        text = ", ".join(f"{count:,} × {kind}" for kind, count in left.items())
        rows.append(("not again", f"{text}; sweep resume {prepared.spec.name} --retry CLASS"))
    return rows


def _not_again(prepared: Prepared) -> dict[str, int]:
    failed = prepared.state.failed
    return dict(Counter(failed[trial] for trial in sorted(prepared.plan.failed)))


def _price(preview: Preview) -> str:
    prepared, found = preview.prepared, preview.price
    packs, profile = len(prepared.plan.packs), prepared.profile
    if found.unknown >= packs:
        text = "unknown: no such pack has trained yet; train one of each kind first: --probe"
    elif isinstance(profile, LocalProfile):
        text = f"about {render.duration(found.seconds)} here: {found.source}"
    else:
        span = f"{_hours(found.low)} to {_hours(found.high)}"
        text = f"{_hours(found.gpu_hours)} GPU-h ({span}): {found.source}"
    if 0 < found.unknown < packs:
        text += f"; not counted: {found.unknown:,} packs of unknown kinds (--probe)"
    if isinstance(profile, SlurmProfile):
        text += f"\n{_most(prepared, profile)}"
    return text


def _most(prepared: Prepared, profile: SlurmProfile) -> str:
    most = quote.most_gpu_hours(prepared)
    if most is not None:
        return f"at most {_hours(most)} GPU-h"
    first = _hours(quote.first_pilots(profile))
    return f"no cap (--max-gpu-hours); the first pilots use at most {first} GPU-h"


def _writes(found: Footprint) -> str:
    free = "" if found.free_bytes is None else f"; {quote.size(found.free_bytes)} free"
    room = "" if found.free_files is None else f", room for {found.free_files:,} files"
    return (
        f"about {found.files:,} files, {quote.size(found.size_bytes)} ({found.source}){free}{room}"
    )


def _start(found: Start) -> str:
    times = found.times
    role = "pilot" if "pilot" in times else next(iter(times), "")
    if not role:
        return f"not known: {found.unknown}"
    now = datetime.now(UTC)
    left = (times[role] - now).total_seconds()
    when = "at once" if left < 60 else f"{times[role].astimezone():%Y-%m-%d %H:%M}"
    return f"SLURM estimates {when} for the first {role}" + (
        f"; for others not known: {found.unknown}" if found.unknown else ""
    )


def _places(prepared: Prepared) -> str:
    profile = prepared.profile
    if isinstance(profile, LocalProfile):
        return f"this machine, {preparation.places(profile)} workers"
    if prepared.options.foreground:
        return f"this allocation, {profile.workers} workers"
    driver = f"1 driver ({profile.driver.cpus} cores, {_hours(profile.driver.walltime_min / 60)} h)"
    driver = "the driver in the first of" if profile.driver.inside else f"{driver} +"
    return (
        f"partition {profile.partition or 'default'}; {driver} {profile.pilots} pilots × "
        f"{profile.gpus} GPU × {_hours(profile.walltime_min / 60)} h"
    )


def _hours(amount: float) -> str:
    return f"{amount:,.0f}" if amount >= 100 else f"{amount:.2g}"


def _finite(amount: float) -> float | None:
    return amount if math.isfinite(amount) else None
