import fcntl
import os
import resource
import signal
import subprocess
import sys
import time
from pathlib import Path

import psutil
import pytest

from cluster import ray_node
from cluster.ray_node import Node

SLEEP = "import time; time.sleep(60)"


def node(folder, program=SLEEP):
    (folder / "busy").mkdir(exist_ok=True)
    guard = subprocess.Popen([sys.executable, "-c", program])
    return Node(guard=guard, temporary=folder)


def ended(made):
    made.guard.kill()
    made.guard.wait()


def test_busy_workers_are_counted_while_they_live(tmp_path):
    made = node(tmp_path)
    try:
        assert made.busy() == 0
        (tmp_path / "busy" / str(os.getpid())).touch()
        (tmp_path / "busy" / str(2**22 + 1)).touch()
        (tmp_path / "busy" / "notes").touch()
        assert made.busy() == 1
    finally:
        ended(made)


def test_a_release_ends_as_soon_as_no_worker_is_busy_and_never_exceeds_its_limit(tmp_path):
    made = node(tmp_path)
    try:
        began = time.monotonic()
        made.release(limit_s=20)
        assert time.monotonic() - began < 5
        assert made.drain.exists()
        (tmp_path / "busy" / str(os.getpid())).touch()
        began = time.monotonic()
        made.release(limit_s=0.5)
        assert 0.5 <= time.monotonic() - began < 5
    finally:
        ended(made)


def test_a_node_has_joined_when_ray_says_so(tmp_path):
    made = node(tmp_path)
    try:
        assert not made.joined()
        (tmp_path / "start.log").write_text("Local node IP: 127.0.0.9\nRay runtime started.\n")
        assert made.joined() and made.log().endswith("Ray runtime started.")
    finally:
        ended(made)


def test_signals_of_a_scheduler_to_every_process_do_not_end_what_is_guarded(tmp_path):
    program = f"from cluster import guard; import os, sys; " \
              f"sys.exit(guard.guard(__import__('pathlib').Path({str(tmp_path)!r}), " \
              f"[sys.executable, '-c', {SLEEP!r}], starter={os.getpid()}))"  # fmt: skip
    guard = subprocess.Popen(
        [sys.executable, "-c", program], cwd=Path(ray_node.__file__).parents[1]
    )
    try:
        process = psutil.Process(guard.pid)
        until = time.monotonic() + 20
        while not process.children():
            assert time.monotonic() < until
        (child,) = process.children()
        while child.cmdline()[-1:] != [SLEEP]:  # empty between fork and exec
            assert time.monotonic() < until
        for one in (process, child):
            one.send_signal(signal.SIGUSR2)
            one.send_signal(signal.SIGUSR1)
        guard.terminate()
        assert guard.wait(timeout=20) == 128 + signal.SIGTERM
        assert not child.is_running()
    finally:
        guard.kill()
        guard.wait()


def test_folders_of_nodes_that_were_killed_with_their_guards_are_removed(tmp_path, monkeypatch):
    monkeypatch.setattr(ray_node, "ABOVE", tmp_path)
    abandoned, alive, starting = (tmp_path / f"sweepray-{name}" for name in "abc")
    for folder in (abandoned, alive, starting):
        folder.mkdir()
    (abandoned / "lock").touch()
    with (alive / "lock").open("wb") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        ray_node._remove_abandoned()
        assert sorted(tmp_path.iterdir()) == [alive, starting]


def test_a_token_that_the_disk_did_not_take_is_made_at_the_next_launch(tmp_path):
    token = tmp_path / "token"
    _, hard = before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (0, hard))
    try:
        with pytest.raises(OSError, match="too large"):
            ray_node.make_token(token)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
    assert list(tmp_path.iterdir()) == []
    token.touch()  # as earlier versions left it
    ray_node.make_token(token)
    assert len(made := token.read_text()) == 64
    ray_node.make_token(token)
    assert token.read_text() == made
    assert token.stat().st_mode & 0o777 == 0o600 and list(tmp_path.iterdir()) == [token]
