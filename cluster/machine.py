"""What this machine offers: GPUs, memory, packages, what Ray needs; asks few programs, bounded."""

import importlib.metadata
import os
import platform
import socket
import subprocess
import tempfile
from dataclasses import dataclass
from pathlib import Path

from cluster import ray_node

# Ray: <temporary>/r/session_<date>_<time>_<microseconds>_<pid>/sockets/plasma_store
SOCKET_TAIL = "/sweepray-12345678/r/session_2026-01-01_00-00-00_000000_1234567/sockets/plasma_store"
SOCKET_CHARS = 107

PACKAGES = ("torch", "numpy", "pandas", "pyarrow", "ray", "submitit", "h5py", "scikit-learn")
"""What a result depends on."""


@dataclass(frozen=True, slots=True, kw_only=True)
class RayGround:
    """What a Ray node needs of this machine.

    Attributes:
        address: what others would call this machine by.
        port: a TCP port that could be bound; None when none could.
        temporary_free_bytes: room below /tmp; None when it cannot be written.
        socket_chars: length of the longest socket path, of which SOCKET_CHARS are allowed.
    """

    address: str
    port: int | None
    temporary_free_bytes: int | None
    socket_chars: int


def ray_ground(parent: Path = Path("/tmp")) -> RayGround:
    """Try what a Ray node needs here: a port, an address, a writable folder with a short path."""
    try:
        port: int | None = ray_node.free_port()
    except OSError:
        port = None
    try:
        with tempfile.TemporaryDirectory(prefix="sweepray-", dir=parent):
            room = os.statvfs(parent)
            free: int | None = room.f_bavail * room.f_frsize
    except OSError:
        free = None
    return RayGround(
        address=ray_node.own_address(),
        port=port,
        temporary_free_bytes=free,
        socket_chars=len(f"{parent}{SOCKET_TAIL}"),
    )


def versions() -> dict[str, str]:
    """Find the versions of Python and of what results depend on, importing none of it."""
    found = {"python": platform.python_version()}
    for package in PACKAGES:
        try:
            found[package] = importlib.metadata.version(package)
        except importlib.metadata.PackageNotFoundError:
            found[package] = "missing"
    return found


def gpus() -> list[str]:
    """Name the GPUs of this machine, with their memory; none where nvidia-smi does not answer."""
    said = ask(["nvidia-smi", "--query-gpu=name,memory.total", "--format=csv,noheader"])
    return [line.strip() for line in said.splitlines() if line.strip()]


def ask(command: list[str], *, timeout_s: float = 10) -> str:
    """Return what a program prints, whatever its exit code; empty where it is not or is slow.

    `quota` fails where the quota is exceeded, and tells it all the same.
    """
    try:
        done = subprocess.run(
            command,
            capture_output=True,
            timeout=timeout_s,
            check=False,
            text=True,
            errors="replace",
        )
    except (OSError, subprocess.TimeoutExpired):
        return ""
    return done.stdout


def memory_bytes() -> int:
    """Return this machine's memory."""
    return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")


def host() -> str:
    """Return this machine's short name."""
    return socket.gethostname().split(".")[0]
