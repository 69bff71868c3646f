"""What a launch will cost and leave: GPU hours, files and bytes, when it would start.

Estimates, none of which stops a launch.
"""

import contextlib
import math
from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass
from datetime import datetime
from itertools import islice
from typing import Any

from cluster import slurm, storage
from cluster.errors import ClusterError
from cluster.profile import LocalProfile, SlurmProfile
from orchestrator import events, price
from orchestrator.events import Observation, Progress
from orchestrator.folder import Folder
from orchestrator.preparation import Prepared, places
from orchestrator.price import Price
from training.config import CohortFolds, num_folds

SIBLINGS = 20
"""Sweeps beside this one, the last ones first, whose packs tell what packs cost."""
SAMPLE = 20
"""Segments whose size is looked at."""
SEGMENT_FILES, PILOT_FILES, SWEEP_FILES = 4, 7, 10
"""A segment is a folder with three tables; a pilot leaves a journal, four files of submitit and the
logs of its workers; a sweep the spec, the plan, journals of driver and launch, and the like."""
SEGMENT_BYTES, TRIAL_BYTES, ROW_BYTES = 10_000, 2_000, 12
"""Of the tables of a segment, by its trials and by their rows of predictions (measured: demo)."""
PILOT_BYTES = 200_000
UNKNOWN_WIDTH = 1536
"""Of bag embeddings that are as wide as the encoder's, which a plan does not know."""
SCAN_BYTES = {"attention": 8 * 64 + 50, "gradients": 20}
"""Of a scan of a trial, in artefacts."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Footprint:
    """What a sweep will write."""

    files: int
    size_bytes: int
    free_bytes: int | None
    free_files: int | None
    source: str

    @property
    def problems(self) -> list[str]:
        """What will not fit."""
        found = []
        if self.free_bytes is not None and self.size_bytes > self.free_bytes:
            found.append(f"{size(self.size_bytes)} to write and {size(self.free_bytes)} are free")
        if self.free_files is not None and self.files > self.free_files:
            found.append(f"{self.files:,} files to write and room for {self.free_files:,}")
        return found


@dataclass(frozen=True, slots=True, kw_only=True)
class Start:
    """When SLURM would start the driver and the first pilot; why not known, where it is not."""

    times: Mapping[str, datetime]
    unknown: str = ""


def price_of(prepared: Prepared) -> Price:
    """Estimate the cost of the planned packs from packs of the same kind, here or in siblings."""
    profile = prepared.profile
    packs = [(prepared.plan.kind(pack), len(pack.trials)) for pack in prepared.plan.packs]
    kinds = {kind for kind, _ in packs}
    seen = _alike(prepared.state, kinds, profile.device)
    if missing := kinds - {one.kind for one in seen}:
        seen += [
            one for s in _siblings(prepared.folder) for one in _alike(s, missing, profile.device)
        ]
    gpus = profile.billed_gpus / profile.workers if isinstance(profile, SlurmProfile) else 0.0
    return price.estimate(packs, seen, gpus_per_worker=gpus, workers=places(profile))


def most_gpu_hours(prepared: Prepared) -> float | None:
    """Tell the most GPU hours that may be used; None where nothing bounds them.

    Pilots that end are replaced while work is left, so only a budget, or a profile that does not
    replace them, bounds the sweep.
    """
    profile, most = prepared.profile, prepared.options.max_gpu_hours
    if prepared.mode == "added":
        return prepared.state.max_gpu_hours
    if isinstance(profile, LocalProfile) or not prepared.plan.packs:
        return 0.0
    if profile.replace and not prepared.options.foreground:
        return most
    return min(first_pilots(profile), float("inf") if most is None else most)


def first_pilots(profile: SlurmProfile) -> float:
    """Return the GPU hours of the pilots that are submitted at launch, to their time limit."""
    return profile.pilots * profile.billed_gpus * profile.walltime_min / 60


def footprint(prepared: Prepared) -> Footprint:
    """Estimate the files and bytes that a sweep will write, and what is free for them.

    The bytes of kept weights are counted only where earlier segments of the sweep have some.
    """
    packs, profile = prepared.plan.packs, prepared.profile
    pilots = profile.pilots if isinstance(profile, SlurmProfile) else 0
    each, source = _trial_bytes(prepared.folder)
    if each is None:
        rows = sum(prepared.views.get(pack.encoder, 0) * len(pack.trials) for pack in packs)
        size = SEGMENT_BYTES * len(packs) + TRIAL_BYTES * prepared.plan.num_to_train
        size += ROW_BYTES * rows
    else:
        size = round(each * prepared.plan.num_to_train)
    kept_files, kept_bytes = _artefacts(prepared)
    size += kept_bytes if each is None else 0
    files = SEGMENT_FILES * len(packs) + PILOT_FILES * (pilots + 1) + SWEEP_FILES + kept_files
    size += PILOT_BYTES * (pilots + 1) + 200 * len(prepared.plan.rows)
    system = storage.file_system(storage.existing(prepared.folder.root))
    free = [system.free_bytes]
    room = [] if system.free_files is None else [system.free_files]
    if (quota := storage.quota(system)) is not None:
        free += [] if quota.most_bytes is None else [quota.most_bytes - quota.used_bytes]
        room += [] if quota.most_files is None else [quota.most_files - quota.used_files]
    return Footprint(
        files=files,
        size_bytes=size,
        free_bytes=min(free),
        free_files=min(room, default=None),
        source=source,
    )


def scripts(prepared: Prepared) -> dict[str, str]:
    """Return the batch scripts that would be submitted, by role; nothing is written.

    Raises:
        ClusterError: SLURM's programs are not here.
    """
    from orchestrator import pool

    assert isinstance(prepared.profile, SlurmProfile)
    return pool.scripts(prepared.folder, prepared.profile)


def start(prepared: Prepared) -> Start:
    """Ask SLURM when the jobs would start; whatever goes wrong is told and nothing more."""
    times: dict[str, datetime] = {}
    try:
        for role, script in scripts(prepared).items():
            times[role] = slurm.test_only(script).start
    except ClusterError as error:
        return Start(times=times, unknown=" ".join(error.message.split()))
    return Start(times=times)


def _alike(state: Progress, kinds: Collection[str], device: str) -> list[Observation]:
    on_cpu = device == "cpu"
    return [
        one for one in state.observations if one.kind in kinds and (one.device == "cpu") == on_cpu
    ]


def _siblings(folder: Folder) -> Iterator[Progress]:
    """Fold the sweeps beside this one, the last ones first, but those that may not be read."""
    others = []
    for path in folder.root.parent.glob("[!.]*/events"):
        with contextlib.suppress(OSError):  # here and below: a colleague's, or just removed
            if path.parent != folder.root and path.with_name("segments").is_dir():
                others.append((-path.stat().st_mtime, path.parent))
    for _, root in sorted(others)[:SIBLINGS]:
        with contextlib.suppress(OSError):
            yield events.progress(Folder(root))


def _artefacts(prepared: Prepared) -> tuple[int, int]:
    """Estimate the files and bytes of what trials keep beside their tables, but for weights' bytes.

    Each patient is taken to be held out once over the folds; with cohort folds in every fold.
    """
    wanted, packs = prepared.spec.artefacts, prepared.plan.packs
    files = prepared.plan.num_to_train if wanted.weights == "all" else 0
    kept = {
        "embeddings": wanted.embeddings != "none",
        "attention": wanted.attention != "none",
        "gradients": wanted.gradients != "none",
    }
    files += len(packs) * (sum(kept.values()) + kept["attention"] + 2 * any(kept.values()))
    each = {name: size for name, size in SCAN_BYTES.items() if kept[name]}
    size = 0
    for pack in packs:
        config = pack.trials[0].config
        cohort = isinstance(config.folds, CohortFolds)
        scans = prepared.views.get(pack.encoder, 0) / (1 if cohort else num_folds(config.folds))
        width = config.head.embed_dims[-1] if config.head.embed_dims else UNKNOWN_WIDTH
        per_class = 2 if config.head.kind in ("clam_mb", "dsmil") else 1
        embedding = 4 * width * per_class if kept["embeddings"] else 0
        size += round(len(pack.trials) * scans * (embedding + sum(each.values())))
    return files, size


def _trial_bytes(folder: Folder) -> tuple[float | None, str]:
    """Return the mean size of a trial's share of this sweep's segments."""
    if not folder.segments.is_dir():
        return None, "from the number of predictions"
    state = events.progress(folder)
    found = [key for key in events.list_segments(folder) if key[0] in state.packs]
    size = trials = 0
    for pack, attempt in islice(found, SAMPLE):
        place = folder.segments / f"{pack}-{attempt}"
        size += sum(path.stat().st_size for path in place.rglob("*") if path.is_file())
        trials += len(state.packs[pack])
    if not trials:
        return None, "from the number of predictions"
    return size / trials, f"as {min(len(found), SAMPLE)} segments of this sweep"


def size(count: float) -> str:
    """Write a number of bytes for people."""
    for unit in ("B", "KB", "MB", "GB"):
        if count < 1000:
            return f"{count:.3g} {unit}"
        count /= 1000
    return f"{count:.3g} TB"


def plain(found: Price) -> dict[str, Any]:
    """Write a price as the `planned` event keeps it; None where it is not known."""
    hours = {"gpu_hours": found.gpu_hours, "low": found.low, "high": found.high}
    known = {name: None if math.isnan(value) else value for name, value in hours.items()}
    return {**known, "source": found.source}
