"""How well the pool uses what it is given: `python -m tests.chaos.elasticity` prints the figures.

Three sweeps on the test bed: one pilot alone; one whose second pilot starts when half of the packs
are done; one whose pilots are preempted in the middle of a pack.
"""

import json
import re
import subprocess
import tempfile
import time
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

import click
from safetensors import safe_open

from cluster import slurm
from cluster.testbed import layout, lifecycle
from tests.chaos import cohort, ledger, processes
from tests.chaos.ledger import Event, Ledger
from tests.chaos.user import User

PACK_EPOCHS = 250
STOPPED = re.compile(r"pack=(\w+) attempt=\d+ stopped after epoch (\d+) of")


@dataclass(frozen=True, slots=True, kw_only=True)
class Schedule:
    """What a sweep came to, next to what its pack lengths allow.

    Attributes:
        packs: finished ones.
        serial_s: the lengths of all packs, summed.
        wall_s: from the first pack's assignment to the last acceptance.
        ideal_s: makespan of the list schedule of the same lengths on the same pilots, each from
            its first assignment on.
        by_pilot: how many packs each pilot finished, in the order in which they came.
    """

    packs: int
    serial_s: float
    wall_s: float
    ideal_s: float
    by_pilot: tuple[int, ...]

    @property
    def excess(self) -> float:
        """How much longer than ideal, as a share."""
        return self.wall_s / self.ideal_s - 1


def schedule(known: Ledger) -> Schedule:
    """Compare a sweep with the ideal list schedule of its own packs."""
    begun = {(e["pack"], e["attempt"]): e for e in known.of("assigned")}
    lengths, free, counts = [], {}, defaultdict(int)
    first = min(seconds(event) for event in begun.values())
    for event in known.of("accepted"):
        start = begun[(event["pack"], event["attempt"])]
        place = start.get("pilot") or "?"
        lengths.append((seconds(start), seconds(event) - seconds(start)))
        free[place] = min(free.get(place, float("inf")), seconds(start) - first)
        counts[place] += 1
    order = sorted(free, key=lambda place: free[place])
    return Schedule(
        packs=len(lengths),
        serial_s=sum(length for _, length in lengths),
        wall_s=max(start + length for start, length in lengths) - first,
        ideal_s=makespan([length for _, length in sorted(lengths)], list(free.values())),
        by_pilot=tuple(counts[place] for place in order),
    )


def makespan(lengths: Sequence[float], free: Sequence[float]) -> float:
    """Give the end of a list schedule: each pack in turn to the place that is free first."""
    ends = list(free)
    last = 0.0
    for length in lengths:
        place = min(range(len(ends)), key=lambda i: ends[i])
        ends[place] += length
        last = max(last, ends[place])
    return last


def stops(root: Path) -> dict[str, int]:
    """Read from the workers' logs after which epoch packs were stopped for their worker's sake."""
    texts = [path.read_text(errors="replace") for path in (root / "logs").glob("*.log")]
    return {pack: int(epoch) for text in texts for pack, epoch in STOPPED.findall(text)}


def kept(root: Path) -> dict[str, int]:
    """Read the epoch of every checkpoint."""
    found = {}
    for path in (root / "checkpoints").glob("*/state.safetensors"):
        with safe_open(path, framework="np") as file:
            found[path.parent.name] = json.loads(file.metadata()["counters"])["epoch"]
    return found


def seconds(event: Event) -> float:
    """Give an event's time as unix time."""
    return datetime.fromisoformat(event["time"]).timestamp()


@dataclass(frozen=True, slots=True, kw_only=True)
class Bench:
    """A folder with data, specs and profiles for these sweeps."""

    folder: Path

    def launch(
        self, name: str, *, partition: str, epochs: int, pilots: int, gpus: int = 1, seeds: int = 8
    ) -> User:
        """Launch a sweep of its own; return who did."""
        cohort.write_data(self.folder / "data")
        spec, profile = self.folder / f"{name}.yaml", self.folder / f"{name}-profile.yaml"
        cohort.write_spec(spec, data=self.folder / "data", seeds=seeds, epochs=epochs, encoders=1)
        setting = cohort.Setting(name=name, partition=partition)
        cohort.write_profile(profile, setting, pilots=pilots, gpus=gpus)
        user = User(results=self.folder / "results", name=name, log=self.folder / f"{name}.log")
        done = user.sweep("launch", str(spec), "--cluster", str(profile), "--yes", "--quiet")
        assert done.returncode == 0, done.stderr
        return user

    def root(self, name: str) -> Path:
        """The sweep's folder."""
        return self.folder / "results" / name

    def ended(self, user: User, *, timeout_s: float = 400) -> Ledger:
        """Wait until a sweep is over, all its jobs too."""
        root = self.root(user.name)
        whole = processes.wait_until(
            lambda: not user.status().get("running", True), timeout_s=timeout_s, every_s=1
        )
        known = ledger.read(root)
        assert whole and not known.missing, f"{len(known.missing)} trials are missing: {root}"
        jobs = known.jobs("driver") + known.jobs("pilot")
        assert processes.wait_until(lambda: not slurm.queue(jobs), timeout_s=90)
        return ledger.read(root)


def block(nodes: Sequence[str], partition: str = "urgent") -> list[str]:
    """Take all GPUs of nodes; return the ids of the jobs."""
    ids = []
    for node in nodes:
        words = ["sbatch", "--parsable", f"--partition={partition}", f"--nodelist={node}"]
        words += ["--gpus-per-node=4", "--mem=50", "--time=30", "--output=/dev/null"]
        done = subprocess.run(
            [*words, "--wrap=sleep 1500"], capture_output=True, text=True, timeout=30, check=True
        )
        ids.append(done.stdout.strip())
    assert processes.wait_until(
        lambda: {job.state for job in slurm.queue(ids).values()} == {"RUNNING"}, timeout_s=60
    )
    return ids


def late_pilot(bench: Bench) -> Ledger:
    """Let a second pilot start when half of the packs are done."""
    blockers = block(layout.NODES[1:], "gpu")
    try:
        user = bench.launch("late", partition="gpu", epochs=PACK_EPOCHS, pilots=2, gpus=4)
        root = bench.root("late")
        assert processes.wait_until(lambda: ledger.read(root).share >= 0.4, timeout_s=300)
    finally:
        slurm.cancel(blockers)
    return bench.ended(user)


def even(bench: Bench, pilots: int) -> Ledger:
    """Let pilots train that start together."""
    user = bench.launch(f"even{pilots}", partition="gpu", epochs=PACK_EPOCHS, pilots=pilots)
    return bench.ended(user)


@dataclass(frozen=True, slots=True, kw_only=True)
class Preempted:
    """A sweep whose pilots were preempted: after which epoch packs stopped, and what was kept."""

    known: Ledger
    stopped: dict[str, int]
    kept: dict[str, int]


def preempted(bench: Bench, partition: str) -> Preempted:
    """Take both pilots' GPUs away in the middle of a pack, for some seconds."""
    name = f"moved-{partition}"
    user = bench.launch(name, partition=partition, epochs=3 * PACK_EPOCHS, pilots=2, seeds=3)
    root = bench.root(name)
    assert processes.wait_until(lambda: ledger.read(root).share > 0, timeout_s=300, every_s=0.2)
    time.sleep(1.0)  # into the next pack
    known = ledger.read(root)
    pilots = slurm.queue(known.jobs("pilot")).values()
    blockers = block(sorted({job.node for job in pilots if job.node}))
    processes.wait_until(lambda: bool(stops(root)), timeout_s=20)
    stopped, saved = stops(root), kept(root)
    slurm.cancel(blockers)
    return Preempted(known=bench.ended(user), stopped=stopped, kept=saved)


def show(name: str, known: Ledger) -> str:
    """Describe a sweep in one row of a table."""
    found = schedule(known)
    pilots = " + ".join(map(str, found.by_pilot))
    return (
        f"| {name} | {found.packs} | {pilots} | {found.serial_s:.0f} | {found.wall_s:.0f} | "
        f"{found.ideal_s:.0f} | {found.excess:+.0%} |"
    )


def main() -> None:
    """Print the figures for results/README.md."""
    import os

    os.environ["SLURM_CONF"] = str(lifecycle.up(layout.default_root()).slurm_conf)
    with tempfile.TemporaryDirectory(prefix="elasticity-") as scratch:
        bench = Bench(folder=Path(scratch).resolve())
        click.echo("| sweep | packs | by pilot | serial s | wall s | ideal s | above ideal |")
        click.echo("| --- | --- | --- | --- | --- | --- | --- |")
        click.echo(show("one pilot", even(bench, 1)))
        click.echo(show("two pilots", even(bench, 2)))
        click.echo(show("a second pilot at half-time", late_pilot(bench)))
        for partition in ("scavg", "scav"):
            moved = preempted(bench, partition)
            click.echo(show(f"preempted, {partition}", moved.known))
            click.echo(f"stopped after {moved.stopped}, checkpoints {moved.kept}", err=True)


if __name__ == "__main__":
    main()
