"""A row of chaotic sweeps in one folder: what was done is kept, and what was begun is cleared."""

import contextlib
import json
import os
import shutil
import subprocess
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from random import Random
from typing import Any

from cluster import slurm
from cluster.testbed import layout
from tests.chaos import cohort, conduct, faults, ledger, report, verify
from tests.chaos.conduct import ChaosError
from tests.chaos.processes import Watch
from tests.chaos.user import TRAINING_S, User
from tests.chaos.world import World

Record = dict[str, Any]
SWEEP_S = 240.0
"""Less time than this is not enough for another sweep."""
SEEDS, EPOCHS = 5, 150
DISK = "size=96m"
PATIENCE_S = (3.0, 12.0)


@dataclass(frozen=True, slots=True, kw_only=True)
class Place:
    """Where a campaign keeps its things, and on which test bed it goes."""

    out: Path
    bed: Path
    slurm_conf: Path

    @property
    def state(self) -> Path:
        """One line per sweep that was brought to its end and checked."""
        return self.out / "state.jsonl"

    @property
    def reference(self) -> Path:
        """Results of the undisturbed sweep."""
        return self.out / "reference"

    def sweep(self, number: int) -> Path:
        """The folder of a sweep: its spec, its results, its log."""
        return self.out / f"sweep{number:02d}"


def read_state(place: Place, seed: int) -> list[Record]:
    """Read what is done; other seeds have folders of their own."""
    place.out.mkdir(parents=True, exist_ok=True)
    lines = place.state.read_text().splitlines() if place.state.exists() else []
    kept = [json.loads(line) for line in lines]
    if any(record["seed"] != seed for record in kept):
        raise ChaosError(f"{place.state} is of another seed; give --out another folder")
    return kept


def run(
    place: Place,
    seed: int,
    number: int,
    *,
    per_sweep: int,
    left_s: float,
    only: str | None = None,
    seeds: int = SEEDS,
    epochs: int = EPOCHS,
    kinds: list[str] | None = None,
    patience_s: tuple[float, float] = PATIENCE_S,
    say: Callable[[str], None],
) -> Record:
    """Disturb one sweep, see it end, check it, and keep the record.

    Raises:
        ChaosError: A promise is broken.
    """
    os.environ["SLURM_CONF"] = str(place.slurm_conf)
    setting = _setting(number, only)
    rng = Random(f"{seed}/{number}")
    kinds = kinds or faults.draw(rng, setting.name, per_sweep)
    reference = undisturbed(place, seeds=seeds, epochs=epochs, say=say)
    until = time.monotonic() + max(0.0, left_s - SWEEP_S / 2)
    say(f"sweep {number}: {setting.name}, {len(kinds)} faults")
    with _results(place, number, setting) as results:
        world, user = _launch(place, number, setting, results, rng, seeds=seeds, epochs=epochs)
        watch = Watch(cluster=world.cluster, root=world.root)
        story = conduct.conduct(
            world, user, watch, kinds=kinds, patience_s=patience_s, until=until, say=say
        )
        scratch = conduct.finish(world, watch)
        counts = verify.verify(world.root, user, reference)
        rows = report.record(ledger.read(world.root), story.hits, story.resumes)
    record = {
        "seed": seed, "sweep": number, "setting": setting.name, "trials": story.trials,
        "seconds": round(story.seconds, 1), "resumes": len(story.resumes), "stuck": story.stuck,
        "scratch": scratch,
        **counts, "faults": rows,
    }  # fmt: skip
    with place.state.open("a") as file:
        file.write(json.dumps(record) + "\n")
    say(
        f"sweep {number}: sound after {conduct.applied(story.hits)} faults, {len(story.resumes)} "
        f"resumes, {story.seconds:.0f} s"
    )
    return record


def undisturbed(place: Place, *, seeds: int, epochs: int, say: Callable[[str], None]) -> Path:
    """Train the same trials here, once, and return the folder of their tables."""
    tables = place.reference / "calm" / "tables"
    if (tables / "main.csv").exists():
        return tables
    cohort.write_data(place.out / "data")
    spec = place.out / "calm.yaml"
    cohort.write_spec(spec, data=place.out / "data", seeds=seeds, epochs=epochs)
    cohort.write_local_profile(place.out / "local.yaml")
    user = User(results=place.reference, name="calm", log=place.out / "calm.log")
    say("the undisturbed sweep, on this machine")
    for words in (
        ["launch", str(spec), "--cluster", str(place.out / "local.yaml"), "--quiet"],
        ["aggregate", "calm", "--quiet"],
    ):
        done = user.sweep(*words, limit_s=TRAINING_S)
        if done.returncode != 0:
            raise ChaosError(f"the undisturbed sweep failed: {done.stderr}")
    return tables


def _setting(number: int, only: str | None) -> cohort.Setting:
    known = [s for s in cohort.SETTINGS if only in (None, s.name)]
    return known[number % len(known)]


@contextlib.contextmanager
def _results(place: Place, number: int, setting: cohort.Setting) -> Iterator[Path]:
    """Make the sweep's folder anew, on a small file system of its own where the setting says so."""
    folder = place.sweep(number)
    results = folder / "results"
    _clear(place, folder)
    results.mkdir(parents=True, mode=0o700)
    if not setting.small_disk:
        yield results
        return
    subprocess.run(["mount", "-t", "tmpfs", "-o", DISK, "sweep-chaos", str(results)], check=True)
    try:
        yield results
    finally:
        shutil.copytree(results, folder / "kept", ignore_dangling_symlinks=True)
        subprocess.run(["umount", "--lazy", str(results)], check=True)


def _clear(place: Place, folder: Path) -> None:
    """Remove what a campaign left that was killed in this sweep."""
    if not folder.exists():
        return
    for root in (folder / "results").glob("*/events"):
        known = ledger.read(root.parent)
        slurm.cancel(known.jobs("driver") + known.jobs("pilot"))
    if (folder / "results").is_mount():
        subprocess.run(["umount", "--lazy", str(folder / "results")], check=True)
    shutil.rmtree(folder)


def _launch(
    place: Place,
    number: int,
    setting: cohort.Setting,
    results: Path,
    rng: Random,
    *,
    seeds: int,
    epochs: int,
) -> tuple[World, User]:
    folder = place.sweep(number)
    name = f"s{number:02d}"
    data = folder / "data" if setting.own_data else place.out / "data"
    if setting.own_data:
        shutil.copytree(place.out / "data", data)  # it may be damaged
    cohort.write_spec(folder / f"{name}.yaml", data=data, seeds=seeds, epochs=epochs)
    cohort.write_profile(folder / "profile.yaml", setting)
    user = User(results=results, name=name, log=folder / "user.log")
    done = user.sweep(
        "launch", str(folder / f"{name}.yaml"), "--cluster", str(folder / "profile.yaml"),
        "--yes", "--quiet",
    )  # fmt: skip
    if done.returncode != 0:
        raise ChaosError(f"launch: {done.returncode} {done.stderr}")
    bed = layout.read(place.bed)
    assert bed is not None
    world = World(
        bed=place.bed, cluster=bed.cluster, root=results / name, data=data, setting=setting, rng=rng
    )
    return world, user
