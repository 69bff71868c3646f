"""Bring a test bed up, take it down, and say what runs.

`up` and `down` may be repeated and may be killed at any moment: each looks at what is there and
does what is missing. Only one of them works on a directory at a time.
"""

import os
import shlex
import socket
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import psutil

from cluster.errors import ClusterError
from cluster.testbed import daemons, layout, packages, processes, templates
from cluster.testbed.layout import Bed

LOCK_TIMEOUT_S = 120
NODES_TIMEOUT_S = 30
JOBS_TIMEOUT_S = 10
END_GRACE_S = 15
GOOD_STATES = frozenset({"idle", "mixed", "allocated", "completing", "planned", "reserved"})
TAKEN_DOWN = "taken-down"  # a file: `down` was here, so that no job may live on
MEMORY_CGROUP = Path("/sys/fs/cgroup/memory")


@dataclass(frozen=True, slots=True, kw_only=True)
class Report:
    """What a test bed looks like after a command.

    Args:
        root: its directory.
        slurm_conf: what SLURM_CONF must name.
        daemons: process id by daemon; None for one that does not run.
        nodes: SLURM's state by node; empty when the controller does not answer.
        changed: daemons that this command started or ended.
        seconds: that it took.
    """

    root: Path
    slurm_conf: Path
    daemons: dict[str, int | None]
    nodes: dict[str, str]
    changed: tuple[str, ...]
    seconds: float

    @property
    def healthy(self) -> bool:
        """Whether all daemons run and all nodes take jobs."""
        alive = bool(self.daemons) and None not in self.daemons.values()
        return alive and len(self.nodes) == len(layout.NODES) and not _bad(self.nodes)

    @property
    def export(self) -> str:
        """The line for a shell."""
        return f"export SLURM_CONF={shlex.quote(str(self.slurm_conf))}"


def up(root: Path) -> Report:
    """Bring the test bed in this directory up, or repair it; nothing to do takes under a second.

    Raises:
        ClusterError: It cannot run here, or a daemon does not answer (with the end of its log).
    """
    begun = time.monotonic()
    if problems := packages.obstacles():
        raise ClusterError(
            f"no test bed here: {'; '.join(problems)}",
            hint="python -m cluster.testbed install" if packages.missing() else "run it as root",
        )
    root = layout.resolve(root)
    layout.make_root(root)
    with layout.lock(root, timeout_s=LOCK_TIMEOUT_S):
        bed = layout.read(root)
        if bed is None:
            # of a directory that was removed while its daemons ran
            processes.kill_leftovers(layout.absent(root))
            bed = layout.create(root)
        elif not _processes(bed):
            bed = layout.settle(bed)
        _configure(bed)
        daemons.prepare(bed)
        started = []
        for daemon in daemons.every(bed):
            if daemons.ensure(bed, daemon):
                started.append(daemon.name)
            if daemon.name == "slurmdbd":
                _register(bed)
            if daemon.name == "slurmctld":
                _forget_jobs(bed)
        if "slurmctld" in started and daemon.name not in started:
            daemons.call(bed, "scontrol", "reconfigure")  # else nodes register at the next ping
        started += _wait_for_nodes(bed)
        return _report(bed, started, begun)


def down(root: Path) -> Report:
    """Cancel the jobs and end every process of the test bed in this directory; keep its files."""
    begun = time.monotonic()
    root = layout.resolve(root)
    bed = layout.read(root)
    if bed is None:
        processes.kill_leftovers(layout.absent(root))
        return _nothing(root, begun)
    with layout.lock(root, timeout_s=LOCK_TIMEOUT_S):
        (bed.root / TAKEN_DOWN).touch()
        _cancel_jobs(bed)
        ended = []
        for group in reversed(_stages(bed)):
            alive = {d.name: p for d in group if (p := daemons.process(bed, d)) is not None}
            processes.end(alive.values(), grace_s=END_GRACE_S)
            ended += list(alive)
        processes.kill_leftovers(bed)
        return _report(bed, ended, begun)


def status(root: Path) -> Report:
    """Say what runs; changes nothing."""
    begun = time.monotonic()
    root = layout.resolve(root)
    bed = layout.read(root)
    return _nothing(root, begun) if bed is None else _report(bed, [], begun)


def _configure(bed: Bed) -> None:
    """Write the configuration; when it differs from what SLURM's daemons read, end them first.

    Jobs outlive that: their steps go on and the new daemons find them.
    """
    host = socket.gethostname().split(".", 1)[0]
    texts = templates.render(bed, host=host, memory_cgroup=_has_memory_cgroup())
    paths = {bed.root / name: text for name, text in texts.items()}
    if all(path.exists() and path.read_text() == text for path, text in paths.items()):
        return
    slurm_daemons = [d for d in daemons.every(bed) if d.name.startswith("slurm")]
    processes.end(_processes(bed, slurm_daemons), grace_s=END_GRACE_S)
    for path, text in paths.items():
        layout.write(path, text)
    for index in range(templates.GPUS_PER_NODE):
        device = bed.root / "dev" / f"nvidia{index}"
        if not device.is_symlink():
            device.symlink_to("/dev/null")


def _has_memory_cgroup() -> bool:
    """Whether a v1 memory controller is here and can be written."""
    probe = MEMORY_CGROUP / f"sweep-testbed-{os.getpid()}"
    try:
        probe.mkdir()
        probe.rmdir()
    except OSError:
        return False
    return True


def _register(bed: Bed) -> None:
    """Tell accounting the cluster's name, once."""
    listed = daemons.call(bed, "sacctmgr", "-n", "-P", "list", "cluster", "format=cluster")
    if bed.cluster not in listed.split():
        daemons.call(bed, "sacctmgr", "-i", "add", "cluster", bed.cluster, timeout_s=30)


def _wait_for_nodes(bed: Bed) -> list[str]:
    """Wait until all nodes take jobs; resume what SLURM drained, restart what hangs and name it."""
    restarted: list[str] = []
    deadline = time.monotonic() + NODES_TIMEOUT_S
    hung_at = time.monotonic() + daemons.HUNG_AFTER_S
    by_node = {d.name.removeprefix("slurmd."): d for d in daemons.every(bed)}
    while (bad := _bad(states := _node_states(bed))) or not states:
        if time.monotonic() > deadline:
            tails = [daemons.log_tail(bed, by_node[node]) for node in sorted(bad)[:1]]
            raise ClusterError("\n".join([f"nodes do not take jobs: {states}", *tails]))
        for node in bad:
            if "down" in states[node] or "drain" in states[node] or "inval" in states[node]:
                _resume(bed, node)
        if time.monotonic() > hung_at:
            hung_at = deadline
            processes.end(_processes(bed, [by_node[node] for node in bad]), grace_s=2)
            for node in bad:
                daemons.ensure(bed, by_node[node])
                restarted.append(by_node[node].name)
        time.sleep(daemons.POLL_S)
    return restarted


def _resume(bed: Bed, node: str) -> None:
    try:
        daemons.call(bed, "scontrol", "update", f"nodename={node}", "state=resume")
    except ClusterError as error:  # refused while the node registers, and then not needed
        if "Invalid node state" not in error.message:
            raise


def _node_states(bed: Bed) -> dict[str, str]:
    try:
        text = daemons.call(bed, "sinfo", "--noheader", "--Node", "--format=%N|%T", timeout_s=5)
    except ClusterError:
        return {}
    return dict(line.split("|", 1) for line in text.splitlines())


def _bad(states: dict[str, str]) -> list[str]:
    """Name the nodes that take no jobs; a state ends in `*` when the node does not answer."""
    return [node for node, state in states.items() if state not in GOOD_STATES]


def _cancel_jobs(bed: Bed, *, wait: bool = True) -> None:
    """Cancel all jobs and wait for their end; what does not end is killed later."""
    deadline = time.monotonic() + JOBS_TIMEOUT_S
    if not _processes(bed, [d for d in daemons.every(bed) if d.name == "slurmctld"]):
        return
    cancelled: set[str] = set()
    try:
        while time.monotonic() < deadline:
            ids = set(daemons.call(bed, "squeue", "--noheader", "--format=%A").split())
            if new := sorted(ids - cancelled):
                daemons.call(bed, "scancel", "--quiet", *new, timeout_s=20)
                cancelled |= ids
            if not ids or not wait:
                return
            time.sleep(daemons.POLL_S)
    except ClusterError:
        return  # a controller that does not answer cancels nothing


def _forget_jobs(bed: Bed) -> None:
    """Cancel the jobs that `down` could not, its controller being dead, before any starts again."""
    if (bed.root / TAKEN_DOWN).exists():
        _cancel_jobs(bed, wait=False)
        (bed.root / TAKEN_DOWN).unlink()


def _stages(bed: Bed) -> list[list[daemons.Daemon]]:
    """Group the daemons that may end together."""
    everyone = daemons.every(bed)
    alone = len(everyone) - len(layout.NODES)
    return [*([daemon] for daemon in everyone[:alone]), everyone[alone:]]


def _processes(bed: Bed, some: Sequence[daemons.Daemon] | None = None) -> list[psutil.Process]:
    found = (daemons.process(bed, d) for d in (daemons.every(bed) if some is None else some))
    return [process for process in found if process is not None]


def _report(bed: Bed, changed: Sequence[str], begun: float) -> Report:
    alive = {d.name: daemons.process(bed, d) for d in daemons.every(bed)}
    return Report(
        root=bed.root,
        slurm_conf=bed.slurm_conf,
        daemons={name: None if found is None else found.pid for name, found in alive.items()},
        nodes=_node_states(bed) if alive["slurmctld"] is not None else {},
        changed=tuple(changed),
        seconds=round(time.monotonic() - begun, 3),
    )


def _nothing(root: Path, begun: float) -> Report:
    return Report(
        root=root,
        slurm_conf=root / "slurm.conf",
        daemons={},
        nodes={},
        changed=(),
        seconds=round(time.monotonic() - begun, 3),
    )
