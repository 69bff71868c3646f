"""The daemons of a test bed: how each is started, and how one knows that it answers.

In the order in which they need each other: munged, MariaDB, slurmdbd, slurmctld, then a slurmd for
each virtual node. Readiness is asked of the daemon itself, never assumed after a while.
"""

import os
import secrets
import shutil
import subprocess
import time
from dataclasses import dataclass
from pathlib import Path

import psutil

from cluster import slurm
from cluster.errors import ClusterError
from cluster.testbed import layout, processes
from cluster.testbed.layout import Bed

PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
START_TIMEOUT_S = 30
HUNG_AFTER_S = 5
POLL_S = 0.02
LOG_LINES = 15


@dataclass(frozen=True, slots=True, kw_only=True)
class Daemon:
    """One daemon of a test bed.

    Args:
        name: also of its log and pid file.
        command: starts it; its words name the test bed's directory. It goes to the background by
            itself.
        probe: a command that succeeds when the daemon answers, and prints `expected`; without one
            it answers as soon as it runs.
        expected: text in the probe's output.
    """

    name: str
    command: tuple[str, ...]
    probe: tuple[str, ...] = ()
    expected: str = ""


def every(bed: Bed) -> list[Daemon]:
    """List the daemons in the order of their start."""
    conf = str(bed.slurm_conf)
    nodes = [
        Daemon(name=f"slurmd.{node}", command=("slurmd", "-N", node, "-f", conf))
        for node in layout.NODES
    ]
    return [
        _munged(bed),
        _mariadbd(bed),
        # slurmdbd takes no file as an argument: it is started by a name inside the directory
        Daemon(
            name="slurmdbd",
            command=(str(bed.root / "bin" / "slurmdbd"),),
            probe=("sacctmgr", "--noheader", "--parsable2", "list", "cluster", "format=cluster"),
        ),
        Daemon(
            name="slurmctld",
            command=("slurmctld", "-f", conf),
            probe=("scontrol", "ping"),
            expected=" is UP",
        ),
        *nodes,
    ]


def pid_file(bed: Bed, daemon: Daemon) -> Path:
    """Where the daemon writes its process id."""
    return bed.root / "run" / f"{daemon.name}.pid"


def process(bed: Bed, daemon: Daemon) -> psutil.Process | None:
    """Give the daemon's process if it runs."""
    return processes.running(pid_file(bed, daemon), root=bed.root)


def ensure(bed: Bed, daemon: Daemon) -> bool:
    """Start the daemon if it does not run or does not answer; wait until it does.

    Returns:
        Whether it had to be started.

    Raises:
        ClusterError: It does not come up; the message shows the end of its log.
    """
    alive = process(bed, daemon)
    if alive is not None:
        if _wait(bed, daemon, timeout_s=HUNG_AFTER_S):
            return False
        processes.end([alive], grace_s=HUNG_AFTER_S)
    pid_file(bed, daemon).unlink(missing_ok=True)
    _start(bed, daemon)
    if not _wait(bed, daemon, timeout_s=START_TIMEOUT_S):
        raise ClusterError(
            f"{daemon.name} does not answer after {START_TIMEOUT_S} s; {log_tail(bed, daemon)}",
            hint=f"if its files are damaged: down, then remove {bed.root}",
        )
    return True


def prepare(bed: Bed) -> None:
    """Make what the daemons find at their first start: key, database, GPU devices, names."""
    key = bed.root / "munge" / "key"
    if not key.exists():
        layout.write(key, secrets.token_hex(64))
    name = bed.root / "bin" / "slurmdbd"
    if not name.is_symlink():
        name.symlink_to(program("slurmdbd"))
    if not (bed.root / "mysql").exists():
        _make_database(bed)


def call(bed: Bed, *command: str, timeout_s: float = 10) -> str:
    """Run one of SLURM's or MariaDB's programs against this test bed and give its output."""
    words = [program(command[0]), *command[1:]]
    return slurm.call(words, timeout_s=timeout_s, env=environment(bed)).stdout


def environment(bed: Bed) -> dict[str, str]:
    """Give the daemons' environment: nothing of the caller's, who may be inside a job himself."""
    return {
        "PATH": PATH,
        "HOME": str(bed.root),
        "LC_ALL": "C.UTF-8",
        "SLURM_CONF": str(bed.slurm_conf),
        "MYSQL_UNIX_PORT": str(bed.mysql_socket),
    }


def program(name: str) -> str:
    """Give a program's full path; daemons live in directories that users' PATHs leave out."""
    return shutil.which(name, path=PATH) or name


def log_tail(bed: Bed, daemon: Daemon) -> str:
    """Quote the end of a daemon's log, or of what it said at its start."""
    for path in (_log(bed, daemon), _first_words(bed, daemon)):
        if path.exists() and path.stat().st_size:
            lines = path.read_text(errors="replace").splitlines()[-LOG_LINES:]
            return "\n  ".join([f"last lines of {path}:", *lines])
    return "it wrote no log"


def _start(bed: Bed, daemon: Daemon) -> None:
    command = [program(daemon.command[0]), *daemon.command[1:]]
    # A file, not a pipe: a daemon that keeps its stderr open would hold a pipe for ever.
    with _first_words(bed, daemon).open("w") as said:
        try:
            done = subprocess.run(
                command,
                stdin=subprocess.DEVNULL,
                stdout=said,
                stderr=said,
                env=environment(bed),
                cwd="/",
                umask=0o077,
                timeout=START_TIMEOUT_S,
                check=False,
            )
        except subprocess.TimeoutExpired as error:
            raise ClusterError(f"{daemon.name} did not start; {log_tail(bed, daemon)}") from error
    if done.returncode != 0:
        raise ClusterError(
            f"{daemon.name} ended with code {done.returncode}; {log_tail(bed, daemon)}"
        )


def _wait(bed: Bed, daemon: Daemon, *, timeout_s: float) -> bool:
    deadline = time.monotonic() + timeout_s
    while not _answers(bed, daemon):
        if time.monotonic() > deadline:
            return False
        time.sleep(POLL_S)
    return True


def _answers(bed: Bed, daemon: Daemon) -> bool:
    if process(bed, daemon) is None:
        return False
    if not daemon.probe:
        return True
    try:
        return daemon.expected in call(bed, *daemon.probe, timeout_s=HUNG_AFTER_S)
    except ClusterError:
        return False


def _munged(bed: Bed) -> Daemon:
    folder = bed.root / "munge"
    return Daemon(
        name="munged",
        # --force: the directory is closed to others, and munged insists that all can reach it
        command=(
            "munged",
            "--force",
            f"--socket={bed.munge_socket}",
            f"--key-file={folder / 'key'}",
            f"--seed-file={folder / 'seed'}",
            f"--pid-file={bed.root / 'run' / 'munged.pid'}",
            f"--log-file={bed.root / 'log' / 'munged.log'}",
        ),
        probe=("munge", "--no-input", f"--socket={bed.munge_socket}"),
    )


def _mariadbd(bed: Bed) -> Daemon:
    return Daemon(
        name="mariadbd",
        command=(
            "setsid",
            "--fork",
            program("mariadbd"),
            "--no-defaults",
            "--user=root",
            "--skip-networking",
            f"--datadir={bed.root / 'mysql'}",
            f"--socket={bed.mysql_socket}",
            f"--pid-file={bed.root / 'run' / 'mariadbd.pid'}",
            f"--log-error={bed.root / 'log' / 'mariadbd.log'}",
            *_database_sizes(),
        ),
        probe=("mariadb-admin", "--no-defaults", f"--socket={bed.mysql_socket}", "ping"),
    )


def _database_sizes() -> tuple[str, ...]:
    return (
        "--innodb-log-file-size=16M",
        "--innodb-buffer-pool-size=64M",
        "--innodb-flush-log-at-trx-commit=2",
        "--innodb-lock-wait-timeout=900",
    )


def _make_database(bed: Bed) -> None:
    """Make MariaDB's directory; it appears whole, so that a killed `up` leaves no half."""
    half = bed.root / f"mysql.{os.getpid()}"
    for old in bed.root.glob("mysql.[0-9]*"):
        shutil.rmtree(old)
    call(
        bed,
        "mariadb-install-db",
        "--no-defaults",
        "--user=root",
        "--auth-root-authentication-method=socket",
        "--auth-root-socket-user=root",
        "--skip-test-db",
        f"--datadir={half}",
        *_database_sizes(),
        timeout_s=60,
    )
    half.rename(bed.root / "mysql")


def _log(bed: Bed, daemon: Daemon) -> Path:
    return bed.root / "log" / f"{daemon.name}.log"


def _first_words(bed: Bed, daemon: Daemon) -> Path:
    return bed.root / "log" / f"{daemon.name}.start"
