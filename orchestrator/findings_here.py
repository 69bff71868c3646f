"""What `sweep doctor` says of this machine: folders, room, Ray, packages."""

import json
import os
import platform
import sys
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from cluster import machine, storage
from cluster.storage import FileSystem
from orchestrator import events
from orchestrator.findings import Finding, Level
from orchestrator.folder import Folder

GB = 1 << 30
ROOM_BYTES = 2 * GB
ROOM_FILES = 5_000
TEMPORARY_BYTES = 1 * GB
JOURNALS = 5


def of_folder(results: Path, *, nodes_elsewhere: bool) -> list[Finding]:
    """Judge the folder of all sweeps, with renames tried in it.

    Args:
        results: need not exist; then the nearest folder above it is judged.
        nodes_elsewhere: whether SLURM jobs run on other machines.
    """
    folder = storage.existing(results)
    system = storage.file_system(folder)
    return [
        _kind(folder, system, nodes_elsewhere=nodes_elsewhere),
        _renames(folder),
        _room(system),
        _quota(system),
    ]


def of_environment(*, nodes_elsewhere: bool) -> Finding:
    """Judge where this Python is: pilots start it from its folder."""
    system = storage.file_system(Path(sys.prefix))
    hidden = nodes_elsewhere and system.shared is False
    return Finding(
        topic="python",
        level="note" if hidden else "ok",
        found=f"{platform.python_version()} in {sys.prefix}, on {system.kind}",
        does="nodes that do not see this folder cannot start pilots: install it on a shared file"
        " system, or set python in the profile"
        if hidden
        else "pilots start this Python; Ray refuses nodes with another version of it",
    )


def of_packages(results: Path) -> Finding:
    """Compare the packages here with those of the latest launch."""
    here = machine.versions()
    shown = ", ".join(f"{name} {here[name]}" for name in ("torch", "ray", "submitit"))
    recorded = [folder / "code.json" for folder in _latest(results, "code.json")]
    does = "each launch records these; Ray refuses a node with another Python or another Ray"
    if not recorded:
        return Finding(topic="packages", found=f"{shown}; nothing launched yet", does=does)
    latest = recorded[0]
    differ = [
        f"{name} {then} then" for name, then in _recorded(latest) if here.get(name, "none") != then
    ]
    name = latest.parent.name
    return Finding(
        topic="packages",
        level="note" if differ else "ok",
        found=f"{shown}; "
        + (f"sweep {name} had {', '.join(differ)}" if differ else f"as in sweep {name}"),
        does="tables say which trials were trained by other versions" if differ else does,
    )


def of_nodes(results: Path) -> Finding | None:
    """Compare the packages here with those that the latest pilots found on their nodes.

    None where no pilot of a sweep has told.
    """
    here = machine.versions()
    for folder in _latest(results, "events"):
        told = dict(_told(folder))
        if not told:
            continue
        differ = [
            f"{name} {there.get(name, 'none')} on {node}, {own} here"
            for node, there in told.items()
            for name, own in here.items()
            if there.get(name) != own
        ]
        nodes = ", ".join(sorted(told))
        return Finding(
            topic="packages on nodes",
            level="note" if differ else "ok",
            found=f"sweep {folder.name}: "
            + ("; ".join(differ) if differ else f"as here on {nodes}"),
            does="pilots start the Python of the profile: set python or setup there so that nodes"
            " have what is here"
            if differ
            else "each pilot tells the versions of its node",
        )
    return None


def of_ray(*, nodes_elsewhere: bool) -> list[Finding]:
    """Judge what Ray needs here; pilots need the same on their nodes."""
    ground = machine.ray_ground()
    loopback = ground.address.startswith("127.")
    address = Finding(
        topic="ray address",
        level="note" if loopback and nodes_elsewhere else "ok",
        found=f"{ground.address} is what others would call this machine",
        does="set node_ip in the profile to the network that nodes share"
        if loopback and nodes_elsewhere
        else "node_ip in the profile names another network, where nodes have several",
    )
    port = Finding(
        topic="ray port",
        level="ok" if ground.port else "problem",
        found="a free port can be bound" if ground.port else "no TCP port can be bound",
        does="the driver takes a free port; Ray runs in token mode, without a dashboard, with a"
        " token per sweep that only you can read",
    )
    return [address, port, _temporary(ground)]


def of_machine() -> Finding:
    """Say what a sweep on this machine can use."""
    cores, gpus = len(os.sched_getaffinity(0)), machine.gpus()
    shown = f"{len(gpus)} GPUs: {'; '.join(gpus)}" if gpus else "no GPU"
    return Finding(
        topic="machine",
        found=f"{machine.host()}: {cores} cores, {machine.memory_bytes() / GB:.0f} GB, {shown}",
        does="a local sweep trains here in the foreground, one pack per core"
        + (" or GPU (device cuda in the profile)" if gpus else ""),
    )


def _told(folder: Path) -> Iterable[tuple[str, dict[str, str]]]:
    """Read what the latest pilots of a sweep told, by node; a login node reads few files."""
    journals = sorted(Folder(folder).events.glob("pilot-*.jsonl"), key=lambda p: p.stat().st_mtime)
    for path in journals[-JOURNALS:]:
        for line in path.read_bytes().split(b"\n"):
            event = events.parse(line, path.stem) or {}
            if event.get("event") == "started" and isinstance(event.get("versions"), dict):
                yield event["node"], event["versions"]


def _latest(results: Path, name: str) -> list[Path]:
    """List the sweeps that have this file or folder, the latest first."""
    found = sorted(results.glob(f"*/{name}"), key=lambda path: path.stat().st_mtime, reverse=True)
    return [path.parent for path in found]


def _recorded(path: Path) -> Iterable[tuple[str, str]]:
    try:
        content: Any = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return
    if isinstance(content, dict):
        names = ("python", *machine.PACKAGES)
        yield from ((name, str(content[name])) for name in names if name in content)


def _kind(folder: Path, system: FileSystem, *, nodes_elsewhere: bool) -> Finding:
    level: Level = "ok"
    does = "every file is written beside its place and renamed into it; one writer per file"
    if system.kind in ("tmpfs", "ramfs"):
        level, does = "note", "results vanish when this machine restarts: use another --results"
    if nodes_elsewhere and system.shared is False:
        level = "problem"
        does = "pilots on other nodes would not see it: use --results on a shared file system"
    elif nodes_elsewhere and system.shared is None:
        level, does = "note", "make sure that compute nodes see this folder under the same path"
    return Finding(
        topic="file system",
        level=level,
        found=f"{folder} is on {system.kind} (mounted at {system.mount})",
        does=does,
    )


def _renames(folder: Path) -> Finding:
    try:
        tried = storage.try_renames(folder)
    except OSError as error:
        return Finding(
            topic="renames",
            level="problem",
            found=f"{folder} cannot be written: {error.strerror}",
            does="nothing can be stored here: use another --results",
        )
    found = (
        f"{tried.wrong} of {tried.reads} looks from a second process saw something half-made;"
        f" {1000 * tried.write_s:.1f} ms to write one small file safely"
    )
    if tried.seen_s is None:
        return Finding(
            topic="renames",
            level="problem",
            found=f"{found}; a new file was not seen in 5 s",
            does="results would be missed: use --results on another file system",
        )
    return Finding(
        topic="renames",
        level="problem" if tried.wrong else "ok",
        found=f"{found}; a new file is seen after {1000 * tried.seen_s:.1f} ms (on this machine)",
        does="half-made results could be read: use --results on another file system"
        if tried.wrong
        else "a segment appears whole or not at all; status and resume build on that",
    )


def _room(system: FileSystem) -> Finding:
    files = "files unlimited" if system.free_files is None else f"{system.free_files:,} files"
    few = system.free_bytes < ROOM_BYTES
    few |= system.free_files is not None and system.free_files < ROOM_FILES
    return Finding(
        topic="room",
        level="problem" if few else "ok",
        found=f"{system.free_bytes / GB:,.1f} GB and {files} free",
        does="too little for a sweep: make room, or use another --results"
        if few
        else "launch compares what a sweep will write with what is free",
    )


def _quota(system: FileSystem) -> Finding:
    quota = storage.quota(system)
    if quota is None:
        return Finding(
            topic="quota",
            found="unknown: no program here tells it for this file system",
            does="free space alone counts; a full disk stops the sweep and resume goes on",
        )
    pairs = (
        ("GB", quota.used_bytes / GB, None if quota.most_bytes is None else quota.most_bytes / GB),
        ("files", quota.used_files, quota.most_files),
    )
    shown = [f"{used:,.0f} of {most:,.0f} {unit}" for unit, used, most in pairs if most is not None]
    full = any(most is not None and used > 0.95 * most for _, used, most in pairs)
    return Finding(
        topic="quota",
        level="problem" if full else "ok",
        found=f"{', '.join(shown)} used" if shown else "none set",
        does="almost used up: make room, or use another --results"
        if full
        else "launch compares what a sweep will write with it",
    )


def _temporary(ground: machine.RayGround) -> Finding:
    free, chars = ground.temporary_free_bytes, ground.socket_chars
    if free is None:
        return Finding(
            topic="ray folder",
            level="problem",
            found="/tmp cannot be written",
            does="Ray cannot start here: its sockets and logs live below /tmp",
        )
    long = chars > machine.SOCKET_CHARS
    return Finding(
        topic="ray folder",
        level="problem" if long else "note" if free < TEMPORARY_BYTES else "ok",
        found=f"/tmp: {free / GB:,.1f} GB free; socket paths of {chars} characters, of which"
        f" {machine.SOCKET_CHARS} are allowed",
        does="each node has a folder of its own there that only you can enter, removed at its end",
    )
