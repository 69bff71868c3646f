"""Where a test bed keeps its things: its directory, names, ports and files; starts nothing.

A test bed is one directory. Its ports are a block found free when it was made and kept in
`bed.json`, so that several test beds live side by side. Its job ids begin at a number of its own: a
job id of one test bed never means a job of another, and their memory cgroups never meet.
"""

import fcntl
import hashlib
import json
import os
import re
import socket
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass, replace
from pathlib import Path

from cluster.errors import ClusterError

NODES = ("n1", "n2", "n3", "n4")
SLURMCTLD, SLURMDBD, SLURMD = 0, 1, 2  # offsets in the block of ports; one slurmd port per node
PORTS_PER_BED = SLURMD + len(NODES)
FIRST_PORT = 21000  # below the ephemeral ports of Linux and above those of Ray's workers
NUM_SLOTS = 1500
JOB_IDS_PER_BED = 40_000  # SLURM's largest job id is 67,043,328
# A Unix socket's path has at most 107 bytes; slurmstepd's is ROOT/spool/n1/n1_<id>.<step>.<n>.
MAX_ROOT_CHARS = 70


@dataclass(frozen=True, slots=True, kw_only=True)
class Bed:
    """A test bed's directory, the name of its cluster and its block of ports."""

    root: Path
    cluster: str
    slot: int

    @property
    def slurm_conf(self) -> Path:
        """The file that SLURM_CONF must name."""
        return self.root / "slurm.conf"

    @property
    def munge_socket(self) -> Path:
        """Where munged answers."""
        return self.root / "munge" / "sock"

    @property
    def mysql_socket(self) -> Path:
        """Where MariaDB answers; it opens no port."""
        return self.root / "mysql.sock"

    @property
    def first_job_id(self) -> int:
        """The id of the first job of a new state directory."""
        return self.slot * JOB_IDS_PER_BED + 1

    def port(self, offset: int) -> int:
        """Give a port of this test bed's block."""
        return FIRST_PORT + self.slot * PORTS_PER_BED + offset


def default_root() -> Path:
    """$SWEEP_TESTBED, or this user's own folder in the system's temporary directory."""
    named = os.environ.get("SWEEP_TESTBED", "")
    return Path(named) if named else Path(tempfile.gettempdir()) / f"slurm-testbed-{os.getuid()}"


def resolve(root: Path) -> Path:
    """Make the path absolute; refuse what SLURM's files or Unix sockets cannot hold.

    Raises:
        ClusterError: A character that needs quoting, or a path too long.
    """
    root = root.expanduser().resolve()
    if not re.fullmatch(r"[A-Za-z0-9._/+-]+", str(root)):
        raise ClusterError(
            f"the test bed's directory {str(root)!r} has characters that slurm.conf cannot hold",
            hint="give --dir a path of letters, digits, '.', '_', '+' and '-'",
        )
    if len(str(root)) > MAX_ROOT_CHARS:
        raise ClusterError(
            f"the test bed's directory {str(root)!r} has {len(str(root))} characters; sockets in "
            f"it allow {MAX_ROOT_CHARS}",
            hint="give --dir a shorter path",
        )
    return root


def read(root: Path) -> Bed | None:
    """Read the test bed in this directory; None where there is none."""
    path = root / "bed.json"
    if not path.exists():
        return None
    try:
        kept = json.loads(path.read_text())
        return Bed(root=root, cluster=str(kept["cluster"]), slot=int(kept["slot"]))
    except (ValueError, KeyError, TypeError) as error:
        raise ClusterError(f"{path} is damaged: {error!r}", hint=f"remove {root}") from error


def absent(root: Path) -> Bed:
    """Name the test bed that would be, or was, in a directory without one."""
    digest = hashlib.sha256(str(root).encode()).hexdigest()
    return Bed(root=root, cluster=f"testbed_{digest[:8]}", slot=int(digest, 16) % NUM_SLOTS)


def create(root: Path) -> Bed:
    """Choose a name and free ports for a new test bed, and keep them in its directory."""
    bed = settle(absent(root))
    save(bed)
    return bed


def save(bed: Bed) -> None:
    """Keep the test bed's name and ports; appears whole."""
    kept = {key: value for key, value in asdict(bed).items() if key != "root"}
    write(bed.root / "bed.json", json.dumps(kept))


def settle(bed: Bed) -> Bed:
    """Move a test bed of which nothing runs to other ports if something else took its own."""
    slot = free_slot(bed.slot)
    if slot == bed.slot:
        return bed
    moved = replace(bed, slot=slot)
    save(moved)
    return moved


def free_slot(first: int) -> int:
    """Find a block of ports on which nothing listens, trying from this one on."""
    for step in range(NUM_SLOTS):
        slot = (first + step) % NUM_SLOTS
        if all(_is_free(FIRST_PORT + slot * PORTS_PER_BED + i) for i in range(PORTS_PER_BED)):
            return slot
    raise ClusterError("no free ports for a test bed")


def make_root(root: Path) -> None:
    """Make the directory, for its owner only.

    Raises:
        ClusterError: It is there and belongs to someone else or is open to others.
    """
    root.mkdir(mode=0o700, parents=True, exist_ok=True)
    seen = root.stat()
    if seen.st_uid != os.getuid() or seen.st_mode & 0o022:
        raise ClusterError(
            f"{root} must belong to this user and be writable by nobody else "
            f"(owner {seen.st_uid}, mode {seen.st_mode & 0o777:o})",
            hint="give --dir another path",
        )
    for name in ("bin", "dev", "log", "munge", "run", "spool", "state"):
        (root / name).mkdir(mode=0o700, exist_ok=True)


def write(path: Path, text: str) -> None:
    """Write a file for its owner only; it appears whole."""
    temporary = path.with_name(f".{path.name}.{os.getpid()}")
    temporary.touch(mode=0o600)
    temporary.write_text(text)
    temporary.replace(path)


@contextmanager
def lock(root: Path, *, timeout_s: float) -> Iterator[None]:
    """Keep other `up` and `down` of this directory out while inside."""
    deadline = time.monotonic() + timeout_s
    with (root / "lock").open("w") as file:
        while True:
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
                break
            except BlockingIOError as error:
                if time.monotonic() > deadline:
                    raise ClusterError(
                        f"another 'up' or 'down' holds {root} for more than {timeout_s:g} s"
                    ) from error
                time.sleep(0.05)
        yield


def _is_free(port: int) -> bool:
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(("", port))
        except OSError:
            return False
    return True
