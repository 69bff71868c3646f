"""Computes cohorts side by side: a process per core, a file per cohort, killed at any moment.

A cohort's file appears whole and says which settings made it, so a second call goes on where the
first stopped, and files of other settings are made anew. Workers end when the process that started
them does.
"""

import contextlib
import fcntl
import hashlib
import json
import multiprocessing
import os
import shutil
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait
from concurrent.futures.process import BrokenProcessPool
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from tests.science.settings import Arm, World

Stored = dict[str, Any]
"""A cohort's file: settings, world, seed, commit, began, seconds, cpu_seconds, records."""


class ScienceError(Exception):
    """What was asked cannot be done; the message says why."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """What to compute.

    Args:
        settings: name of all settings; files of another name do not count.
        commit: what is computed with, kept in the files.
        cohorts: worlds and seeds, in order.
        arms: arms and the number of their setting.
    """

    settings: str
    commit: str
    cohorts: Sequence[tuple[World, int]]
    arms: Sequence[tuple[Arm, int]]

    def digest(self) -> str:
        """Name the settings and the arms; cohorts may be added later."""
        arms = [(arm.name, setting) for arm, setting in self.arms]
        return hashlib.sha256(json.dumps([self.settings, arms]).encode()).hexdigest()[:12]


@dataclass(slots=True)
class _Pace:
    began: float = field(default_factory=time.monotonic)
    done: int = 0

    def left(self, cohorts: int) -> str:
        each = (time.monotonic() - self.began) / self.done
        return f"{each:.1f} s a cohort, about {max(1, round(each * cohorts / 60))} minutes left"


def compute(
    plan: Plan, out: Path, *, workers: int, minutes: float, say: Callable[[str], object]
) -> list[Stored]:
    """Compute what is missing, and give all that is there.

    Args:
        plan: what to compute.
        out: folder of the files.
        workers: processes.
        minutes: no cohort begins later than this.
        say: told how far it is.

    Raises:
        ScienceError: Someone else computes in this folder, or a worker was killed.
    """
    out.mkdir(parents=True, exist_ok=True)
    with _alone(out):
        shutil.rmtree(out / "scratch", ignore_errors=True)
        missing = [(w, s) for w, s in plan.cohorts if read(plan, out, w, s) is None]
        say(f"{len(plan.cohorts) - len(missing)} of {len(plan.cohorts)} cohorts are there")
        try:
            _fill(plan, out, missing, workers=workers, minutes=minutes, say=say)
        except BrokenProcessPool as error:
            raise ScienceError("a worker was killed; the same command goes on") from error
        finally:
            shutil.rmtree(out / "scratch", ignore_errors=True)
    return stored(plan, out)


def stored(plan: Plan, out: Path) -> list[Stored]:
    """Read the cohorts that are there, in the order of the plan."""
    found = (read(plan, out, world, seed) for world, seed in plan.cohorts)
    return [each for each in found if each is not None]


def read(plan: Plan, out: Path, world: World, seed: int) -> Stored | None:
    """Read a cohort; None where there is none of these settings."""
    try:
        found: Stored = json.loads(_file(out, world.name, seed).read_text())
    except (FileNotFoundError, json.JSONDecodeError):
        return None
    return found if found.get("settings") == plan.digest() else None


def _file(out: Path, world: str, seed: int) -> Path:
    words = "-".join(word for word in world.replace("%", "").split())
    return out / f"{words}-{seed}.json"


@contextlib.contextmanager
def _alone(out: Path) -> Iterator[None]:
    """Hold the folder; the lock ends with the process."""
    with (out / ".lock").open("w") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            raise ScienceError(f"{out}: another call computes here now") from error
        yield


def _fill(
    plan: Plan,
    out: Path,
    missing: Sequence[tuple[World, int]],
    *,
    workers: int,
    minutes: float,
    say: Callable[[str], object],
) -> None:
    until, pace, waiting = time.monotonic() + 60 * minutes, _Pace(), list(missing)
    context = multiprocessing.get_context("spawn")
    pool = ProcessPoolExecutor(workers, mp_context=context, initializer=_prepare)
    running: set[Future[None]] = set()
    try:
        while running or (waiting and time.monotonic() < until):
            while waiting and len(running) < workers and time.monotonic() < until:
                world, seed = waiting.pop(0)
                running.add(pool.submit(_one, plan, out, world, seed))
            done, running = wait(running, return_when=FIRST_COMPLETED)
            for each in done:
                each.result()
                pace.done += 1
            left = len(waiting) + len(running)
            say(f"{len(plan.cohorts) - left} of {len(plan.cohorts)} cohorts, {pace.left(left)}")
    finally:
        pool.shutdown(cancel_futures=True)


def _prepare() -> None:
    """Set up a worker: one thread, and an end when its parent ends."""
    import torch

    torch.set_num_threads(1)
    follow_parent()


def follow_parent() -> None:
    """End this worker as soon as the process that started it ends."""
    parent = multiprocessing.parent_process()
    assert parent is not None

    def follow() -> None:
        parent.join()
        os._exit(1)

    threading.Thread(target=follow, daemon=True).start()


def _one(plan: Plan, out: Path, world: World, seed: int) -> None:
    """Compute a cohort in a worker and leave its file."""
    from tests.science import cohort

    began, clock, cpu = datetime.now(UTC), time.monotonic(), time.process_time()
    scratch = out / "scratch" / f"{os.getpid()}-{seed}"
    try:
        records = cohort.compute(world, seed, scratch, settings=plan.arms)
    finally:
        shutil.rmtree(scratch, ignore_errors=True)
    _write(
        _file(out, world.name, seed),
        {
            "settings": plan.digest(),
            "commit": plan.commit,
            "world": world.name,
            "seed": seed,
            "began": began.isoformat(timespec="seconds"),
            "seconds": round(time.monotonic() - clock, 2),
            "cpu_seconds": round(time.process_time() - cpu, 2),
            "records": records,
        },
    )


def _write(path: Path, content: Mapping[str, Any]) -> None:
    temporary = path.with_name(f".{path.name}.{os.getpid()}")
    with temporary.open("w") as file:
        json.dump(content, file, allow_nan=False)
        file.flush()
        os.fsync(file.fileno())
    temporary.replace(path)
