"""The faults: each hits something of the running sweep and says whether it did.

A function takes the world and returns `applied`, `refused: why` or `nothing`. What must be mended
later is noted in the world.
"""

import contextlib
import os
import random
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import psutil

from cluster.testbed import lifecycle
from tests.chaos import processes
from tests.chaos.world import APPLIED, NOTHING, World

Fault = Callable[[World], str]
WEAK_NODES = ("n1", "n2")
"""Nodes that faults of nodes may hit: those that are excluded must not be all."""
DAY_S = 86_400


def kill_driver(world: World) -> str:
    """Kill -9 the driver's process."""
    return _kill(world, "driver", lambda found: processes.main(found))


def kill_pilot(world: World) -> str:
    """Kill -9 a pilot's process."""
    return _kill(world, "pilot", lambda found: processes.main(found))


def kill_worker(world: World) -> str:
    """Kill -9 a process that trains."""
    return _kill(world, "pilot", lambda found: next(iter(processes.workers(found)), None))


def kill_raylet(world: World) -> str:
    """Kill -9 the Ray node of a pilot."""
    return _kill(world, "pilot", processes.raylet)


def scancel_pilot(world: World) -> str:
    """Cancel a pilot, running or queued, as a user would."""
    waiting = sorted(world.jobs("pilot"), key=lambda job: job.id)
    return world.call("scancel", world.rng.choice(waiting).id) if waiting else NOTHING


def scancel_driver(world: World) -> str:
    """Cancel the driver, as a user would."""
    job = world.running("driver")
    return world.call("scancel", job.id) if job else NOTHING


def requeue_driver(world: World) -> str:
    """Requeue the driver, as an operator would."""
    job = world.running("driver")
    return world.call("scontrol", "requeue", job.id) if job else NOTHING


def requeue_pilot(world: World) -> str:
    """Requeue a pilot; SLURM refuses for jobs that said no."""
    job = world.running("pilot")
    return world.call("scontrol", "requeue", job.id) if job else NOTHING


def preempt(world: World) -> str:
    """Take all GPUs of a pilot's node for an urgent job."""
    job = world.running("pilot")
    if job is None or world.setting.partition not in ("scav", "scavg"):
        return NOTHING
    words = ["sbatch", "--parsable", "--partition=urgent", f"--nodelist={job.node}", "--mem=50"]
    words += ["--gpus-per-node=4", "--time=1", "--output=/dev/null", "--job-name=intruder"]
    done = subprocess.run([*words, "--wrap=sleep 4"], capture_output=True, text=True, timeout=30)
    world.intruders += done.stdout.split()
    return APPLIED if done.returncode == 0 else f"refused: {done.stderr.strip()[:80]}"


def node_down(world: World) -> str:
    """Set the node of a running pilot down, for some seconds."""
    job = world.running("pilot")
    if job is None or job.node not in WEAK_NODES:
        return NOTHING
    node = f"nodename={job.node}"
    world.later(
        world.rng.uniform(2, 12),
        lambda: _ignore(world.call("scontrol", "update", node, "state=resume")),
    )
    return world.call("scontrol", "update", node, "state=down", "reason=chaos")


def kill_slurmd(world: World) -> str:
    """Kill -9 the daemon of a running pilot's node, for a moment or until the node is lost."""
    job = world.running("pilot")
    if job is None or job.node not in WEAK_NODES:
        return NOTHING
    return _kill_daemon(world, f"slurmd.{job.node}", world.rng.choice([2.0, 35.0]))


def kill_slurmctld(world: World) -> str:
    """Kill -9 the controller, and start it again after some seconds."""
    return _kill_daemon(world, "slurmctld", world.rng.uniform(0.5, 8))


def shorten_time_limit(world: World) -> str:
    """Let a running pilot's time be over in a minute or at once."""
    job = world.running("pilot")
    return world.call("scontrol", "update", f"jobid={job.id}", "timelimit=1") if job else NOTHING


def eat_memory(world: World) -> str:
    """Use up a pilot's memory from inside its memory cgroup until the kernel kills one of it."""
    job = world.running("pilot")
    process = processes.main(world.processes(job)) if job else None
    folder = _memory_cgroup(process) if process else None
    if folder is None or "slurm" not in str(folder):
        return NOTHING
    words = [sys.executable, "-m", "tests.chaos.hog", str(folder)]
    hog = subprocess.Popen(words, stdin=subprocess.DEVNULL)
    world.hogs.append(hog)
    try:
        return APPLIED if hog.wait(timeout=40) == 0 else NOTHING
    except subprocess.TimeoutExpired:
        hog.kill()
        hog.wait()
        return NOTHING


def fill_disk(world: World) -> str:
    """Fill the small file system that holds the results, for some seconds."""
    if not world.setting.small_disk:
        return NOTHING
    path = world.root.parent / "fill"
    with path.open("ab", buffering=0) as file:
        for size in (2**20, 2**12, 1):
            with contextlib.suppress(OSError):
                while file.write(b"x" * size) == size:
                    pass
    world.later(world.rng.uniform(3, 10), lambda: path.unlink(missing_ok=True))
    return APPLIED


def corrupt_shard(world: World) -> str:
    """Change bytes of one scan that is trained on; the harness mends it when all has ended.

    Of the encoder whose packs come last: workers read it when they have done those of the first.
    """
    if not world.setting.own_data or world.corrupt:
        return NOTHING
    import h5py
    import pandas as pd

    index = pd.read_parquet(world.data / "index.parquet")
    rows = index[(index["cohort"] == "dev") & index["routine"] & (index["encoder"] == "small")]
    row = rows.iloc[world.rng.randrange(3, len(rows) - 3)]
    path = world.data / row["shard"]
    with h5py.File(path, "r") as file:
        rows_at = file["embeddings"]
        width = rows_at.shape[1] * rows_at.dtype.itemsize
        offset = rows_at.id.get_offset() + int(row["row_start"]) * width
    size = int(row["num_tiles"]) * width
    with path.open("r+b") as raw:
        raw.seek(offset)
        sound = raw.read(size)
        raw.seek(offset)
        raw.write(bytes(byte ^ (1 << (place % 3)) for place, byte in enumerate(sound)))
    world.corrupt.append(str(row["view"]))
    keep = world.data.with_name("sound.bin")
    keep.write_bytes(offset.to_bytes(8, "big") + sound)
    (world.data.with_name("sound.path")).write_text(str(path))
    return APPLIED


def mend_shard(world: World) -> None:
    """Put the bytes of `corrupt_shard` back."""
    kept = world.data.with_name("sound.bin").read_bytes()
    with Path(world.data.with_name("sound.path").read_text()).open("r+b") as raw:
        raw.seek(int.from_bytes(kept[:8], "big"))
        raw.write(kept[8:])
    world.corrupt.clear()


def truncate_segment(world: World) -> str:
    """Cut a table of a segment that counts."""
    known = world.read()
    names = {f"{pack}-{attempt}" for pack, attempt in known.winner.values()}
    names = {name for name in names if (world.root / "segments" / name).is_dir()} - world.damaged
    if not names:
        return NOTHING
    name = world.rng.choice(sorted(names))
    table = world.rng.choice(["trials", "curves", "predictions"])
    path = world.root / "segments" / name / f"{table}.parquet"
    os.truncate(path, world.rng.randrange(path.stat().st_size))
    world.damaged.add(name)
    return APPLIED


def move_file_times(world: World) -> str:
    """Let the times of half of all files jump, years to the past and to the future."""
    roots = [world.root / name for name in ("segments", "events", "checkpoints", "pool")]
    for path in [p for root in [*roots, world.data] for p in root.rglob("*")]:
        if world.rng.random() < 0.5:
            moved = time.time() + world.rng.uniform(-4000, 4000) * DAY_S
            try:
                os.utime(path, (moved, moved))
            except FileNotFoundError:
                continue
    return APPLIED


FAULTS: dict[str, Fault] = {
    "kill -9 driver": kill_driver,
    "kill -9 pilot": kill_pilot,
    "kill -9 worker": kill_worker,
    "kill -9 raylet": kill_raylet,
    "scancel pilot": scancel_pilot,
    "scancel driver": scancel_driver,
    "requeue driver": requeue_driver,
    "requeue pilot": requeue_pilot,
    "preemption with grace": preempt,
    "preemption without grace": preempt,
    "node down by state": node_down,
    "kill -9 slurmd": kill_slurmd,
    "kill -9 slurmctld": kill_slurmctld,
    "time limit": shorten_time_limit,
    "out of memory": eat_memory,
    "full disk": fill_disk,
    "corrupt shard": corrupt_shard,
    "truncated segment": truncate_segment,
    "file times jump": move_file_times,
}
EVERYWHERE = (
    "kill -9 driver", "kill -9 pilot", "kill -9 worker", "kill -9 raylet", "scancel pilot",
    "scancel driver", "requeue driver", "requeue pilot", "node down by state", "kill -9 slurmd",
    "kill -9 slurmctld", "time limit", "out of memory", "truncated segment", "file times jump",
)  # fmt: skip
EXTRA = {
    "grace": ("preemption with grace",) * 4,
    "no-grace": ("preemption without grace",) * 4,
    "short": ("time limit",) * 2,
    "disk": ("full disk",) * 3,
    "data": ("corrupt shard",),
}


def draw(rng: random.Random, setting: str, count: int) -> list[str]:
    """Draw kinds of fault, each as often as the others, those of the setting for sure."""
    kinds = [*EXTRA.get(setting, ())]
    while len(kinds) < count:
        kinds += rng.sample(EVERYWHERE, len(EVERYWHERE))
    kinds = kinds[:count]
    rng.shuffle(kinds)
    return kinds


def _kill(
    world: World, role: str, choose: Callable[[list[psutil.Process]], psutil.Process | None]
) -> str:
    job = world.running(role)
    victim = choose(world.processes(job)) if job else None
    if victim is None:
        return NOTHING
    try:
        victim.kill()
    except psutil.NoSuchProcess:
        return NOTHING
    return APPLIED


def _kill_daemon(world: World, name: str, seconds: float) -> str:
    pid = lifecycle.status(world.bed).daemons.get(name)
    if pid is None:
        return NOTHING
    psutil.Process(pid).kill()
    world.later(seconds, world.up)
    return APPLIED


def _memory_cgroup(process: psutil.Process) -> Path | None:
    try:
        lines = Path(f"/proc/{process.pid}/cgroup").read_text().splitlines()
    except OSError:
        return None
    for line in lines:
        _, names, path = line.split(":", 2)
        if "memory" in names.split(","):
            return Path("/sys/fs/cgroup/memory") / path.lstrip("/")
    return None


def _ignore(_answer: str) -> None:
    """A node that the test bed has resumed already refuses a second time."""
