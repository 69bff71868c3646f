"""One chaotic sweep, from launch to its checks, with a user who resumes it when nothing runs."""

import shutil
import time
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from random import Random

from cluster import slurm
from cluster.errors import ClusterError
from tests.chaos import faults
from tests.chaos.ledger import Ledger
from tests.chaos.processes import Watch, wait_until
from tests.chaos.user import User
from tests.chaos.world import APPLIED, NOTHING, World

POLL_S = 1.0
STATUS_S = 4.0
STUCK_S = 240.0
"""Without any progress, fault or repair for this long, the user cancels and resumes."""
RESUMES_MAX = 60
FRUITLESS_MAX = 8
"""Resumes in a row after which no trial was added: something is broken for good."""
STRAY_S = 90.0


@dataclass(slots=True, kw_only=True)
class Hit:
    """A fault that was tried: its kind, what came of it, when (unix time)."""

    kind: str
    answer: str
    time: float
    share: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Moment:
    """When a fault is due: at a share of finished trials, or after a while without any fault."""

    kind: str
    share: float
    patience_s: float
    again: int = 5


@dataclass(slots=True, kw_only=True)
class Story:
    """What happened to a sweep."""

    hits: list[Hit] = field(default_factory=list)
    resumes: list[float] = field(default_factory=list)
    fruitless: int = 0
    done: int = -1
    stuck: int = 0
    seconds: float = 0.0
    trials: int = 0


class ChaosError(Exception):
    """A promise is broken, or the sweep cannot be brought to its end."""


def conduct(
    world: World,
    user: User,
    watch: Watch,
    *,
    kinds: list[str],
    patience_s: tuple[float, float],
    until: float,
    say: Callable[[str], None],
) -> Story:
    """Apply the faults at seeded moments, resume when nothing runs, and see the sweep end.

    A fault is due at its share of finished trials, or when nothing was hit for its patience.

    Args:
        world: the launched sweep.
        user: who resumes it.
        watch: notes its processes.
        kinds: faults in order.
        patience_s: shortest and longest wait for a share.
        until: monotonic time after which no further fault is applied.
        say: shows a line.

    Raises:
        ChaosError: It does not end.
    """
    story, began = Story(), time.monotonic()
    due = _moments(world.rng, kinds, patience_s)
    asked = moved = struck = time.monotonic()
    seen = -1
    while True:
        world.mend()
        watch.look()
        known = world.read()
        if len(known.events) != seen:
            seen, moved = len(known.events), time.monotonic()
        now = time.monotonic()
        if due and now < until and known.of("driving"):
            moment = due[0]
            if known.share >= moment.share or now - struck >= moment.patience_s:
                due.pop(0)
                due += _strike(world, story, moment, known, say)
                struck = time.monotonic()
                continue
        if now - asked >= STATUS_S:
            asked = now
            if _settled(world, known, user):
                break
            if now - moved > STUCK_S:
                _unstick(user, story, say)
                moved = now
            if _user_acts(world, user, story, known, say):
                moved = time.monotonic()
        time.sleep(POLL_S)
    story.seconds, story.trials = time.monotonic() - began, len(world.read().trials)
    return story


def finish(world: World, watch: Watch) -> int:
    """Mend everything, and wait until no job and no process of the sweep is left.

    Returns:
        How many scratch folders nodes left that were killed with all their processes; a later node
        may clear them, the dead cannot. They are removed here.

    Raises:
        ChaosError: Jobs or processes stay.
    """
    world.mend(everything=True)
    world.up()
    slurm.cancel(world.intruders)
    if not wait_until(lambda: not _queue(world), timeout_s=STRAY_S):
        raise ChaosError(f"SLURM jobs are left: {[job.id for job in world.queue()]}")
    if not wait_until(lambda: not watch.strays(), timeout_s=STRAY_S):
        raise ChaosError("processes are left:\n" + "\n".join(watch.strays()))
    left = watch.folders()
    for folder in left:
        shutil.rmtree(folder)
    return len(left)


def _moments(rng: Random, kinds: list[str], patience_s: tuple[float, float]) -> list[Moment]:
    # Bytes that change late are not read again.
    shares = sorted(rng.uniform(0.0, 0.9) for _ in kinds)
    kinds = sorted(kinds, key=lambda kind: kind != "corrupt shard")
    return [
        Moment(kind=kind, share=share, patience_s=rng.uniform(*patience_s))
        for kind, share in zip(kinds, shares, strict=True)
    ]


def _strike(
    world: World, story: Story, moment: Moment, known: Ledger, say: Callable[[str], None]
) -> list[Moment]:
    """Apply a fault; return it for later where there was nothing to hit just now."""
    when = time.time()
    try:
        answer = faults.FAULTS[moment.kind](world)
    except ClusterError:  # SLURM does not answer: there is a fault under way already
        answer = NOTHING
    if answer == NOTHING and moment.again:
        return [replace(moment, again=moment.again - 1)]
    story.hits.append(Hit(kind=moment.kind, answer=answer, time=when, share=known.share))
    say(f"  {len(known.winner):4d} done  {moment.kind}: {answer}")
    return []


def _settled(world: World, known: Ledger, user: User) -> bool:
    """Tell whether every trial has a result and nothing is left to mend or to see."""
    if known.missing or known.reason or world.repairs or world.corrupt:
        return False
    if user.status().get("running", True):
        return False
    if not world.damaged:
        return True
    return _healed(world, user)


def _healed(world: World, user: User) -> bool:
    """Segments that were cut are named by `status --check`, and trained again."""
    counting = {f"{pack}-{attempt}" for pack, attempt in world.read().winner.values()}
    cut = {name for name in world.damaged & counting}
    done = user.sweep("status", user.name, "--check", "--json")
    missed = {name for name in cut if name not in done.stdout}
    if missed or (cut and done.returncode == 0):
        raise ChaosError(f"status --check (code {done.returncode}) does not name {sorted(missed)}")
    world.damaged.clear()
    if cut:
        again = user.resume("damaged")
        if again.returncode != 0:
            raise ChaosError(f"resume --retry damaged: {again.stderr}")
    return not cut


def _user_acts(
    world: World, user: User, story: Story, known: Ledger, say: Callable[[str], None]
) -> bool:
    """Resume where nothing runs and trials miss their result."""
    if not known.trials or (not known.missing and not known.reason and not world.corrupt):
        return False
    told = user.status()
    if not told or told["running"]:  # a driver that SLURM holds does not run: resume replaces it
        return False
    retry = _mended_data(world, known, say)
    done = user.resume(*retry)
    if done.returncode == 0:
        story.resumes.append(time.time())
    elif world.corrupt and any(scan in done.stderr for scan in world.corrupt):
        say(f"  resume refuses the corrupt scan {world.corrupt[0]}")
        faults.mend_shard(world)
    lines = (done.stderr.strip() or "-").splitlines()
    say(f"  resume {' '.join(retry)} -> {done.returncode} {lines[0][:100]}")
    story.fruitless = story.fruitless + 1 if len(known.winner) == story.done else 0
    story.done = len(known.winner)
    if len(story.resumes) > RESUMES_MAX or story.fruitless > FRUITLESS_MAX:
        raise ChaosError(f"{len(story.resumes)} resumes, {story.fruitless} of them without result")
    return True


def _mended_data(world: World, known: Ledger, say: Callable[[str], None]) -> list[str]:
    """Mend a corrupt shard once its packs failed for that reason, naming the scan."""
    classes = {kind for kind in known.reason.values() if kind in ("data", "numeric")}
    if not world.corrupt:
        return sorted(classes)
    scan = world.corrupt[0]
    if "data" in classes:
        told = [event["message"] for event in known.of("failed") if event["failure"] == "data"]
        if not any(scan in message for message in told):
            raise ChaosError(f"failures of class data do not name the scan {scan}: {told[:2]}")
        say(f"  {scan} is mended")
        faults.mend_shard(world)
    elif not known.missing and not known.reason:
        say(f"  {scan} was not read after its bytes changed")
        faults.mend_shard(world)
    return sorted(classes)


def _unstick(user: User, story: Story, say: Callable[[str], None]) -> None:
    story.stuck += 1
    say(f"  nothing moved for {STUCK_S:.0f} s: cancel")
    user.sweep("cancel", user.name)


def _queue(world: World) -> bool:
    known = world.read()
    return bool(slurm.queue(known.jobs("driver") + known.jobs("pilot")))


def applied(hits: list[Hit]) -> int:
    """Count the faults that happened."""
    return sum(hit.answer == APPLIED for hit in hits)
