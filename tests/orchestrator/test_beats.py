"""How a driver sees its signals, and leaves; on a real SLURM: tests/slurm/test_pool.py."""

import os
import signal
import threading

import pytest

from cluster import pilot, slurm
from cluster import profile as profiles
from cluster.errors import ClusterError
from cluster.ray_node import Node
from orchestrator.beats import Watch
from orchestrator.broker import Broker
from orchestrator.events import Journal
from orchestrator.folder import Folder
from orchestrator.leaving import Leaving
from orchestrator.supervisor import Supervisor


@pytest.fixture
def folder(tmp_path):
    made = Folder(tmp_path / "s")
    made.create()
    return made


@pytest.fixture
def desk(folder):
    return Broker([], attempts={}, journal=Journal(folder, "driver"))


@pytest.fixture
def supervisor(folder, desk):
    return Supervisor(folder, desk, Journal(folder, "supervisor"))


@pytest.fixture
def handlers():
    numbers = (signal.SIGTERM, signal.SIGUSR1, signal.SIGUSR2, signal.SIGINT)
    before = {number: signal.getsignal(number) for number in numbers}
    yield
    for number, handler in before.items():
        signal.signal(number, handler)


def test_a_supervisor_that_breaks_takes_the_driver_along(supervisor, handlers, monkeypatch):
    def breaks(_now):
        raise KeyError("a bug of ours")

    monkeypatch.setattr(supervisor, "beat", breaks)
    monkeypatch.setattr(threading, "excepthook", lambda _: None)
    with pytest.raises(KeyboardInterrupt), Watch(supervisor):
        threading.Event().wait(20)


def test_a_signal_leads_to_an_orderly_end_before_the_process_is_interrupted(supervisor, handlers):
    reasons = []
    watch = Watch(supervisor, leave=lambda reason: reasons.append(reason) is None)
    with pytest.raises(KeyboardInterrupt), watch:
        os.kill(os.getpid(), signal.SIGUSR2)
        threading.Event().wait(20)
    assert reasons == ["signal SIGUSR2"]


def test_an_orderly_end_does_not_wait_for_a_beat_that_slurm_keeps_waiting(
    supervisor, handlers, monkeypatch
):
    asks, answer, beats = threading.Event(), threading.Event(), []

    def beat(now):
        beats.append(now)
        asks.set()
        answer.wait(20)

    monkeypatch.setattr(supervisor, "beat", beat)
    waited = []

    def leave(_reason):
        waited.append(not answer.is_set())
        answer.set()
        return True

    with pytest.raises(KeyboardInterrupt), Watch(supervisor, leave=leave):
        assert asks.wait(20)
        os.kill(os.getpid(), signal.SIGTERM)
        threading.Event().wait(20)
    assert waited == [True] and len(beats) == 1


def test_a_signal_is_heard_while_the_main_thread_is_deep_inside_a_library(supervisor, handlers):
    reading, writing = os.pipe()
    reasons = []

    def leave(reason):
        reasons.append(reason)
        os.write(writing, b"x")
        return True

    late = threading.Timer(20, os.write, (writing, b"x"))
    late.start()
    try:
        with pytest.raises(KeyboardInterrupt), Watch(supervisor, leave=leave):
            # The signal reaches another thread; this one stays in read, where no handler runs.
            signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGTERM])
            threading.Timer(0.1, os.kill, (os.getpid(), signal.SIGTERM)).start()
            os.read(reading, 1)
            assert reasons == ["signal SIGTERM"]
            threading.Event().wait(20)
    finally:
        late.cancel()
        signal.pthread_sigmask(signal.SIG_UNBLOCK, [signal.SIGTERM])
        os.close(reading)
        os.close(writing)


def test_a_beat_that_breaks_by_the_signal_does_not_prevent_the_orderly_end(
    supervisor, handlers, monkeypatch
):
    told, reasons = threading.Event(), []

    def beat(_now):
        told.wait(20)
        raise KeyError("Ray is gone")

    monkeypatch.setattr(supervisor, "beat", beat)
    monkeypatch.setattr(threading, "excepthook", lambda _: None)
    watch = Watch(supervisor, leave=lambda reason: reasons.append(reason) is None)
    with pytest.raises(KeyboardInterrupt), watch:
        os.kill(os.getpid(), signal.SIGTERM)
        told.set()
        threading.Event().wait(20)
    assert reasons == ["signal SIGTERM"]


def test_a_reason_that_cannot_be_found_out_is_asked_for_again(supervisor, handlers):
    answers, reasons = iter([OSError("the disk is full"), "", "time limit"]), []

    def asked():
        answer = next(answers)
        if isinstance(answer, OSError):
            raise answer
        return answer

    watch = Watch(supervisor, leave=lambda reason: reasons.append(reason) is None, asked=asked)
    with pytest.raises(KeyboardInterrupt), watch:
        threading.Event().wait(20)
    assert reasons == ["time limit"]


def test_without_an_orderly_end_a_signal_interrupts_at_once(supervisor, handlers):
    with pytest.raises(KeyboardInterrupt), Watch(supervisor):
        os.kill(os.getpid(), signal.SIGTERM)
        threading.Event().wait(20)


@pytest.fixture
def leaving(folder):
    site = profiles.load("testbed")
    return Leaving(folder, site, Journal(folder, "supervisor"), job="12")


def test_pilots_hear_of_a_leave_before_slurm_is_asked(folder, desk, leaving, tmp_path, monkeypatch):
    heads = []

    def restarts(_job):
        heads.append(pilot.read_head(folder.pool))
        return 0

    monkeypatch.setattr(slurm, "restarts", restarts)
    leaving.announce("127.0.0.2:1", ["7"])
    assert pilot.read_head(folder.pool) == {"address": "127.0.0.2:1", "dismissed": ["7"]}
    node = Node(guard=None, temporary=tmp_path)
    assert leaving.leave(desk, node, "signal SIGTERM")
    assert [head["address"] for head in heads] == [""] and node.drain.exists()
    assert pilot.read_head(folder.pool) == {"ended": True}


def test_pilots_are_dismissed_where_the_signal_ended_the_node_already(
    folder, desk, leaving, tmp_path, monkeypatch
):
    monkeypatch.setattr(slurm, "restarts", lambda _job: 0)
    leaving.leave(desk, Node(guard=None, temporary=tmp_path / "gone"), "signal SIGTERM")
    assert pilot.read_head(folder.pool) == {"ended": True}


def test_slurm_is_asked_again_whether_a_driver_comes_back(
    folder, desk, leaving, tmp_path, monkeypatch
):
    answers = iter([ClusterError("scontrol: no answer"), 0])

    def restarts(_job):
        answer = next(answers)
        if isinstance(answer, ClusterError):
            raise answer
        return answer

    monkeypatch.setattr(slurm, "restarts", restarts)
    leaving.leave(desk, Node(guard=None, temporary=tmp_path), "signal SIGTERM")
    assert pilot.read_head(folder.pool) == {"ended": True}


def test_a_beat_that_ends_late_does_not_call_pilots_back(
    folder, desk, leaving, tmp_path, monkeypatch
):
    monkeypatch.setattr(slurm, "restarts", lambda _job: 0)
    leaving.leave(desk, Node(guard=None, temporary=tmp_path), "signal SIGTERM")
    leaving.announce("127.0.0.2:1", ["7"])
    assert pilot.read_head(folder.pool) == {"ended": True}
