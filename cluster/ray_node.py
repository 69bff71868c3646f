"""A Ray node of our own: started as a child process, ended by its pids, open to its owner only.

Token mode, no dashboard, a temporary folder of its own under a 0700 parent (Ray makes its folder
0777 and listens on all interfaces: the token and the parent are the wall). `ray stop` is never
used. The node runs under a small guard process (this module as a script) that dies with its starter
and takes every descendant along, so that kill -9 of the starter leaves nothing behind.
"""

import contextlib
import ctypes
import os
import secrets
import shlex
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

import psutil

OBJECT_STORE_BYTES = 128 * 2**20
GRACE_S = 5.0
DRAIN_VARIABLE = "SWEEP_DRAIN"
"""Environment of a worker: its node's `drain` file."""
_PR_SET_PDEATHSIG = 1
_PR_SET_CHILD_SUBREAPER = 36


@dataclass(frozen=True, slots=True, kw_only=True)
class Node:
    """A running Ray node: its guard process and its temporary folder."""

    guard: subprocess.Popen[bytes]
    temporary: Path

    @property
    def drain(self) -> Path:
        """The file whose existence tells the node's workers to give their packs back."""
        return self.temporary / "drain"

    def alive(self) -> bool:
        """Tell whether the node still runs."""
        return self.guard.poll() is None

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
        log = self.temporary / "start.log"
        text = log.read_text(encoding="utf-8", errors="replace") if log.exists() else ""
        return "\n".join(text.splitlines()[-15:])


def make_token(path: Path) -> None:
    """Write a fresh token, readable by its owner only, unless one is there."""
    try:
        descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    except FileExistsError:
        return
    with os.fdopen(descriptor, "w") as file:
        file.write(secrets.token_hex(32))


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
    *, token: Path, ip: str, port: int, memory_bytes: int, workers: int = 0, gpus: int = 0
) -> Node:
    """Start the driver's node; it offers `workers` places for packs itself, none on a cluster."""
    options = ["--head", f"--port={port}", "--include-dashboard=false"]
    return _start(options + _places(workers, gpus), token=token, ip=ip, memory_bytes=memory_bytes)


def join(address: str, *, token: Path, ip: str, workers: int, gpus: int, memory_bytes: int) -> Node:
    """Start a node that offers `workers` places for packs to the head at `address`."""
    options = [f"--address={address}", *_places(workers, gpus)]
    return _start(options, token=token, ip=ip, memory_bytes=memory_bytes)


def _places(workers: int, gpus: int) -> list[str]:
    resources = f'--resources={{"worker": {workers}}}'
    return [f"--num-cpus={workers}", f"--num-gpus={gpus}", *([resources] if workers else [])]


def _start(options: list[str], *, token: Path, ip: str, memory_bytes: int) -> Node:
    # A short path: Ray's socket names live below it and may have 107 bytes.
    temporary = Path(tempfile.mkdtemp(prefix="sweepray-", dir="/tmp"))
    command = [
        sys.executable, "-m", "cluster.ray_node", str(os.getpid()), str(temporary),
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
            env={**os.environ, **environment(token), DRAIN_VARIABLE: str(temporary / "drain")},
            start_new_session=True,
        )
    return Node(guard=guard, temporary=temporary)


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


def guard(temporary: Path, command: list[str], *, starter: int) -> int:
    """Run a command; end it and all its descendants when it, the starter or this process is ended.

    Args:
        temporary: the node's folder, removed when this process is told to end.
        command: program and arguments.
        starter: pid of the process whose death ends everything.
    """
    libc = ctypes.CDLL(None, use_errno=True)
    libc.prctl(_PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)
    libc.prctl(_PR_SET_PDEATHSIG, signal.SIGTERM, 0, 0, 0)
    signal.signal(signal.SIGTERM, _leave)
    signal.signal(signal.SIGINT, _leave)
    if os.getppid() != starter:
        return 1
    told = False
    try:
        return subprocess.Popen(command).wait()
    except SystemExit:
        told = True
        raise
    finally:
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
        _end_descendants()
        if told:
            shutil.rmtree(temporary, ignore_errors=True)


def _leave(_number: int, _frame: object) -> None:
    raise SystemExit(128 + signal.SIGTERM)


def _end_descendants() -> None:
    processes = psutil.Process().children(recursive=True)
    for process in processes:
        _signal(process, signal.SIGTERM)
    psutil.wait_procs(processes, timeout=1.0)
    left = psutil.Process().children(recursive=True)
    for process in left:
        _signal(process, signal.SIGKILL)
    psutil.wait_procs(left, timeout=GRACE_S)


def _signal(process: psutil.Process, number: int) -> None:
    try:
        process.send_signal(number)
    except psutil.NoSuchProcess:
        return


if __name__ == "__main__":
    sys.exit(guard(Path(sys.argv[2]), sys.argv[3:], starter=int(sys.argv[1])))
