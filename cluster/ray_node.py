"""A Ray node of our own: started as a child process, ended by its pids, open to its owner only.

Token mode, no dashboard, a temporary folder of its own under a 0700 parent (Ray makes its folder
0777 and listens on all interfaces: the token and the parent are the wall). `ray stop` is never
used. The node runs under a small guard process (`cluster.guard`) that dies with its starter and
takes every descendant along, so that kill -9 of the starter leaves nothing behind.
"""

import contextlib
import fcntl
import json
import os
import secrets
import shlex
import shutil
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psutil

OBJECT_STORE_BYTES = 128 * 2**20
GRACE_S = 5.0
SETTLE_S = 0.3
ABOVE, PREFIX = Path("/tmp"), "sweepray-"
NODE_VARIABLE = "SWEEP_NODE"
"""Environment of a worker: its node's folder (`drain`, `place.json`, `busy/`, `out-of-time`)."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Node:
    """A running Ray node: its guard process and its temporary folder."""

    guard: subprocess.Popen[bytes]
    temporary: Path

    @property
    def drain(self) -> Path:
        """The file whose existence tells the node's workers to give their packs back."""
        return self.temporary / "drain"

    @property
    def out_of_time(self) -> Path:
        """The file that a worker leaves when no waiting pack fits the node's time."""
        return self.temporary / "out-of-time"

    def alive(self) -> bool:
        """Tell whether the node still runs."""
        return self.guard.poll() is None

    def joined(self) -> bool:
        """Tell whether the node became part of its cluster."""
        return "Ray runtime started" in self._printed()

    def busy(self) -> int:
        """Count the node's workers that train a pack."""
        names = [path.name for path in (self.temporary / "busy").glob("*")]
        return sum(psutil.pid_exists(int(name)) for name in names if name.isdigit())

    def release(self, *, limit_s: float) -> None:
        """Let workers leave checkpoints and give their packs back; wait until none is busy."""
        self.drain.touch()
        until = time.monotonic() + limit_s
        quiet = 0
        # Twice, for a worker that drew a pack just before it was told.
        while self.alive() and quiet < 2 and time.monotonic() < until:
            time.sleep(SETTLE_S)
            quiet = 0 if self.busy() else quiet + 1

    def end(self) -> None:
        """End the node and its workers, and remove its temporary folder."""
        if self.alive():
            self.guard.terminate()
        try:
            self.guard.wait(timeout=3 * GRACE_S)
        except subprocess.TimeoutExpired:
            self.guard.kill()
            self.guard.wait()
        shutil.rmtree(self.temporary, ignore_errors=True)

    def log(self) -> str:
        """Return the last lines that the node printed."""
        return "\n".join(self._printed().splitlines()[-15:])

    def _printed(self) -> str:
        log = self.temporary / "start.log"
        return log.read_text(encoding="utf-8", errors="replace") if log.exists() else ""


def make_token(path: Path) -> None:
    """Write a fresh token, readable by its owner only, unless one is there; it appears whole."""
    with contextlib.suppress(FileNotFoundError):
        if path.stat().st_size:
            return
        path.unlink()  # earlier versions left it empty on a full disk
    temporary = path.with_name(f".{path.name}-{secrets.token_hex(4)}")
    descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    try:
        with os.fdopen(descriptor, "w") as file:
            file.write(secrets.token_hex(32))
            file.flush()
            os.fsync(descriptor)
        try:
            path.hardlink_to(temporary)
        except FileExistsError:
            pass  # another launch was quicker
        except OSError:  # a file system without hard links
            temporary.rename(path)
    finally:
        temporary.unlink(missing_ok=True)


def environment(token: Path) -> dict[str, str]:
    """Return the variables that every Ray process of a sweep needs.

    `PYTHONWARNINGS` and proxies are left as they are; Ray's usage report is off.
    """
    return {
        "RAY_AUTH_MODE": "token",
        "RAY_AUTH_TOKEN_PATH": str(token),
        "RAY_USAGE_STATS_ENABLED": "0",
        "RAY_gcs_rpc_server_reconnect_timeout_s": "30",
    }


@contextlib.contextmanager
def variables(changed: Mapping[str, str]) -> Iterator[None]:
    """Set environment variables for a while."""
    before = {name: os.environ.get(name) for name in changed}
    os.environ.update(changed)
    try:
        yield
    finally:
        for name, value in before.items():
            if value is None:
                os.environ.pop(name, None)
            else:
                os.environ[name] = value


def free_port() -> int:
    """Return a TCP port that was free a moment ago."""
    with socket.socket() as probe:
        probe.bind(("", 0))
        port: int = probe.getsockname()[1]
        return port


def own_address() -> str:
    """Return this host's address as others see it, without asking anyone."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        try:
            probe.connect(("192.0.2.1", 9))
        except OSError:
            return "127.0.0.1"
        address: str = probe.getsockname()[0]
        return address


def start_head(
    *,
    token: Path,
    ip: str,
    port: int,
    memory_bytes: int,
    workers: int = 0,
    gpus: int = 0,
    place: Mapping[str, Any] | None = None,
) -> Node:
    """Start the driver's node.

    Args:
        token: Ray's token file.
        ip: this node's address for Ray.
        port: of the head.
        memory_bytes: what Ray may believe in.
        workers: places for packs that the node offers itself; none on most clusters.
        gpus: GPUs for them.
        place: what the node's workers find in `place.json`; None leaves none.
    """
    options = ["--head", f"--port={port}", "--include-dashboard=false", *_places(workers, gpus)]
    return _start(options, token=token, ip=ip, memory_bytes=memory_bytes, place=place)


def join(
    address: str,
    *,
    token: Path,
    ip: str,
    workers: int,
    gpus: int,
    memory_bytes: int,
    place: Mapping[str, Any],
) -> Node:
    """Start a node that offers `workers` places for packs to the head at `address`."""
    options = [f"--address={address}", *_places(workers, gpus)]
    return _start(options, token=token, ip=ip, memory_bytes=memory_bytes, place=place)


def _places(workers: int, gpus: int) -> list[str]:
    resources = f'--resources={{"worker": {workers}}}'
    return [f"--num-cpus={workers}", f"--num-gpus={gpus}", *([resources] if workers else [])]


def _start(
    options: list[str],
    *,
    token: Path,
    ip: str,
    memory_bytes: int,
    place: Mapping[str, Any] | None,
) -> Node:
    _remove_abandoned()
    # A short path: Ray's socket names live below it and may have 107 bytes.
    temporary = Path(tempfile.mkdtemp(prefix=PREFIX, dir=ABOVE))
    (temporary / "busy").mkdir()
    if place is not None:
        (temporary / "place.json").write_text(json.dumps(place), encoding="utf-8")
    command = [
        sys.executable, "-m", "cluster.guard", str(os.getpid()), str(temporary),
        _python(temporary), "-m", "ray.scripts.scripts", "start", "--block", *options,
        f"--node-ip-address={ip}",
        f"--temp-dir={temporary / 'r'}", f"--memory={memory_bytes}",
        f"--object-store-memory={OBJECT_STORE_BYTES}", "--min-worker-port=0",
        "--max-worker-port=0", "--disable-usage-stats",
    ]  # fmt: skip
    with (temporary / "start.log").open("wb") as log:
        guard = subprocess.Popen(
            command,
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=subprocess.STDOUT,
            env={**os.environ, **environment(token), NODE_VARIABLE: str(temporary)},
            start_new_session=True,
        )
    return Node(guard=guard, temporary=temporary)


def _remove_abandoned() -> None:
    """Remove folders of this user's nodes that were killed together with their guards."""
    for folder in ABOVE.glob(f"{PREFIX}*"):
        with contextlib.suppress(OSError), (folder / "lock").open("rb") as lock:
            if folder.stat().st_uid == os.getuid():
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)  # a guard that lives has it
                shutil.rmtree(folder, ignore_errors=True)


def _python(temporary: Path) -> str:
    """Return a path of this Python that a shell reads as one word.

    Ray writes it into a shell command without quotes, and waits for ever for workers whose command
    is broken by a space. Python finds its environment through a link to the environment's folder.
    """
    if shlex.quote(sys.executable) == sys.executable:
        return sys.executable
    link = temporary / "environment"
    link.symlink_to(sys.prefix, target_is_directory=True)
    return str(link / Path(sys.executable).relative_to(sys.prefix))
