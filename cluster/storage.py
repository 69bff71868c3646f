"""The file system of a folder: its type, how it behaves, what is free and what is allowed.

Behaviour is measured with a second process in a folder of its own that is removed again. Numbers
that cannot be read are None: quota where no program tells it, inodes where none are counted.
"""

import contextlib
import json
import os
import pwd
import re
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from cluster import machine

# File systems that several machines mount; what is neither here nor in OWN is not known.
SHARED = frozenset(
    {"nfs", "nfs4", "lustre", "gpfs", "beegfs", "ceph", "cifs", "smb3", "panfs", "wekafs", "afs",
     "orangefs", "pvfs2", "fuse.glusterfs", "fuse.sshfs", "daos", "gfs2", "ocfs2", "9p"}
)  # fmt: skip
OWN = frozenset(
    {"ext2", "ext3", "ext4", "xfs", "btrfs", "zfs", "tmpfs", "ramfs", "overlay", "f2fs"}
)
REPLACED = 50
REPLACE_S = 0.2
DIRECTORIES = 10
MEASURE_S = 5.0
# Read while the other process replaces: is any state seen that never was?
_READER = """
import json, os, sys, time
folder = sys.argv[1]
file, stop = os.path.join(folder, "file"), os.path.join(folder, "stop")
reads = wrong = 0
print("ready", flush=True)
end = time.time() + float(sys.argv[2])
while not os.path.exists(stop) and time.time() < end:
    try:
        with open(file) as opened:
            text = opened.read()
        wrong += len(text) != 4096 or len(set(text)) != 1
    except OSError:
        wrong += 1
    for name in os.listdir(folder):
        if name.startswith("segment"):
            wrong += sorted(os.listdir(os.path.join(folder, name))) != ["a", "b"]
    reads += 1
seen = time.time() if os.path.exists(stop) else None
print(json.dumps([reads, wrong, seen]), flush=True)
"""


@dataclass(frozen=True, slots=True, kw_only=True)
class FileSystem:
    """The file system of a folder.

    Attributes:
        kind: as the kernel calls it: nfs4, lustre, ext4, ...
        mount: where it is mounted.
        source: device or server.
        free_bytes: what this user may still write, quota aside.
        free_files: inodes left; None where none are counted.
    """

    kind: str
    mount: str
    source: str
    free_bytes: int
    free_files: int | None

    @property
    def shared(self) -> bool | None:
        """Whether other machines can mount it; None when that is not known."""
        return True if self.kind in SHARED else False if self.kind in OWN else None


@dataclass(frozen=True, slots=True, kw_only=True)
class Renames:
    """How renames looked to a second process on this machine.

    Attributes:
        reads: how often it looked.
        wrong: how often it saw a part of a file or folder, or nothing at all.
        write_s: seconds to write, fsync and rename one small file.
        seen_s: seconds until it saw a new file; None when it did not within five seconds.
    """

    reads: int
    wrong: int
    write_s: float
    seen_s: float | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Quota:
    """What the user may keep on a file system; None where that is not limited."""

    used_bytes: int
    most_bytes: int | None
    used_files: int
    most_files: int | None


def existing(path: Path) -> Path:
    """Return the folder itself, or the nearest one above it that exists."""
    resolved = path.resolve()
    return next(one for one in (resolved, *resolved.parents) if one.is_dir())


def file_system(folder: Path) -> FileSystem:
    """Tell on which file system an existing folder lies, and what is free there."""
    mounts = Path("/proc/self/mountinfo").read_text(encoding="utf-8", errors="replace")
    kind, mount, source = find_mount(mounts, str(folder.resolve()))
    room = os.statvfs(folder)
    return FileSystem(
        kind=kind,
        mount=mount,
        source=source,
        free_bytes=room.f_bavail * room.f_frsize,
        free_files=room.f_favail if room.f_files else None,
    )


def find_mount(mountinfo: str, path: str) -> tuple[str, str, str]:
    """Find type, mount point and source of a path in the text of /proc/self/mountinfo."""
    best = ("unknown", "", "")
    for line in mountinfo.splitlines():
        before, _, after = line.partition(" - ")
        fields, rest = before.split(), after.split()
        if len(fields) < 5 or len(rest) < 2:
            continue
        mount = re.sub(r"\\([0-7]{3})", lambda octal: chr(int(octal[1], 8)), fields[4])
        inside = path == mount or path.startswith(mount.rstrip("/") + "/")
        # Of several mounts at one place the last one is seen.
        if inside and len(mount) >= len(best[1]):
            best = (rest[0], mount, rest[1])
    return best


def try_renames(folder: Path) -> Renames:
    """Replace a file and rename folders while a second process looks; leaves nothing behind.

    Raises:
        OSError: The folder cannot be written.
    """
    with tempfile.TemporaryDirectory(prefix=".doctor-", dir=folder) as name:
        place = Path(name)
        _write(place / "file", "0" * 4096)
        with _reader(place) as reader:
            began = time.monotonic()
            turn, spent = 0, 0.0
            while spent < MEASURE_S / 2 and (turn < REPLACED or spent < REPLACE_S):
                _write(place / "file", str(turn % 10) * 4096)
                turn, spent = turn + 1, time.monotonic() - began
            each = spent / turn
            for number in range(DIRECTORIES):
                made = place / f".new-{number}"
                made.mkdir()
                for part in ("a", "b"):
                    (made / part).touch()
                made.rename(place / f"segment-{number}")
            written = time.time()
            _write(place / "stop", "")
            said, _ = reader.communicate(timeout=2 * MEASURE_S)
    reads, wrong, seen = json.loads(said.splitlines()[-1])
    late = None if seen is None else max(seen - written, 0.0)
    return Renames(reads=reads, wrong=wrong, write_s=each, seen_s=late)


@contextlib.contextmanager
def _reader(folder: Path) -> Iterator[subprocess.Popen[str]]:
    command = [sys.executable, "-I", "-S", "-c", _READER, str(folder), str(MEASURE_S)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as reader:
        try:
            assert reader.stdout is not None
            reader.stdout.readline()
            yield reader
        finally:
            reader.kill()


def _write(path: Path, text: str) -> None:
    temporary = path.with_name(f".{path.name}.new")
    with temporary.open("w", encoding="ascii") as file:
        file.write(text)
        file.flush()
        os.fsync(file.fileno())
    temporary.rename(path)


def quota(system: FileSystem) -> Quota | None:
    """Ask for the user's quota on a file system; None when no program tells it.

    One call at most: `lfs quota` on Lustre, `quota` elsewhere.
    """
    if system.kind == "lustre":
        user = pwd.getpwuid(os.getuid()).pw_name
        said = machine.ask(["lfs", "quota", "-q", "-u", user, system.mount])
        return find_quota(said, place=system.mount)
    return find_quota(machine.ask(["quota", "-w", "-p"]), place=system.source)


def find_quota(text: str, *, place: str) -> Quota | None:
    """Read what follows a place: used, soft and hard KB with grace, then the same for files.

    `*` marks an amount over its limit, brackets one that lfs is not sure of.
    """
    words = text.split()
    if place not in words:
        return None
    amounts = [word.strip("*[]") for word in words[words.index(place) + 1 :][:7]]
    amounts[3:4] = []
    if len(amounts) < 6 or not all(word.isdecimal() for word in amounts):
        return None
    used, soft, hard, files, soft_files, hard_files = (int(word) for word in amounts)
    return Quota(
        used_bytes=1024 * used,
        most_bytes=1024 * (hard or soft) or None,
        used_files=files,
        most_files=(hard_files or soft_files) or None,
    )
