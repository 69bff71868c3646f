import importlib.metadata
import json
import signal
import time

import pytest

from cluster import pilot, ray_node
from cluster.pilot import Offer, Visit


class Clock:
    """A node that exists and whose workers do what the test says."""

    def __init__(self, folder, busy=0):
        self.out_of_time = folder / "out-of-time"
        self.pids = busy

    def busy(self):
        return self.pids


@pytest.fixture(autouse=True)
def job(monkeypatch):
    for name in ("SLURM_ARRAY_JOB_ID", "SLURM_JOB_END_TIME"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("SLURM_JOB_ID", "12")
    monkeypatch.setenv("SLURMD_NODENAME", "n3")


def offer(folder, **changes):
    values = {"workers": 1, "gpus": 0, "memory_gb": 1, "walltime_s": 600.0, "node_ip": None}
    return Offer(pool=folder, **{**values, **changes})


def serve(folder, **changes):
    told = []
    before = {n: signal.getsignal(n) for n in (signal.SIGTERM, signal.SIGUSR1, signal.SIGUSR2)}
    try:
        made = offer(folder, **changes)
        reason = pilot.run(
            made, on_event=lambda name, **fields: told.append({"event": name, **fields})
        )
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
    return reason, told


def test_a_pilot_without_a_driver_ends_and_tells_when_it_came_and_why_it_left(tmp_path):
    reason, (started, left) = serve(tmp_path, wait_s=0.0, charged_gpus=4, size="large")
    assert reason == left["reason"] == "no driver for 0 minutes"
    assert (started["event"], started["job"], started["node"]) == ("started", "12", "n3")
    assert started["versions"]["torch"] == importlib.metadata.version("torch")
    assert (started["gpus"], started["size"], started["walltime_s"]) == (4, "large", 600)
    assert left["event"] == "left" and left["seconds"] >= 0 and left["oom_kills"] >= 0


def test_a_pilot_of_a_driver_that_ended_ends(tmp_path):
    pilot.dismiss(tmp_path)
    assert serve(tmp_path)[0] == "the driver ended"


def test_a_dismissed_pilot_leaves_and_the_others_stay(tmp_path):
    pilot.announce(tmp_path, "10.0.0.1:1", dismissed=["12", "9_1"])
    assert serve(tmp_path)[0] == "dismissed"
    assert json.loads((tmp_path / "head.json").read_text()) == {
        "address": "10.0.0.1:1", "dismissed": ["12", "9_1"]
    }  # fmt: skip


def test_a_pilot_whose_time_is_over_does_not_begin(tmp_path):
    assert serve(tmp_path, walltime_s=0.0)[0] == "time limit"


def test_the_drivers_address_is_read_whole_or_not_at_all(tmp_path):
    assert pilot.read_head(tmp_path) == {}
    pilot.announce(tmp_path, "10.0.0.1:1")
    assert pilot.read_head(tmp_path)["address"] == "10.0.0.1:1"
    pilot.head_file(tmp_path).write_text("{")
    assert pilot.read_head(tmp_path) == {}
    assert pilot.head_file(tmp_path).stat().st_mode & 0o077 == 0


def visit(folder, **changes):
    return Visit(offer(folder, **changes), on_event=lambda *_, **__: None)


def test_the_place_tells_workers_when_they_must_have_finished(tmp_path):
    before = time.time()
    place = visit(tmp_path, walltime_s=1000.0, signal_s=100.0, workers=2, gpus=1).place()
    assert 899 < place.pop("ends") - before < 901
    assert place == {
        "pilot": "12", "node": "n3", "walltime_s": 1000.0, "size": "normal", "shares_gpu": True
    }  # fmt: skip
    assert not visit(tmp_path, workers=2, gpus=2).place()["shares_gpu"]
    short = visit(tmp_path, walltime_s=60.0, signal_s=90.0)
    assert 29 < short.ends - before < 32


def test_a_pilot_drains_when_no_waiting_pack_fits_and_none_trains(tmp_path):
    stay, node = visit(tmp_path), Clock(tmp_path, busy=1)
    assert stay.must_drain(node) == ""
    node.out_of_time.touch()
    assert stay.must_drain(node) == ""
    node.pids = 0
    assert stay.must_drain(node) == "no waiting pack fits the time left"


def test_the_first_signal_is_the_reason(tmp_path):
    stay = visit(tmp_path)
    stay.ask(signal.SIGUSR2, None)
    stay.ask(signal.SIGTERM, None)
    assert stay.must_drain() == "signal SIGUSR2"


def test_a_pilot_does_not_wait_for_ever_where_nobody_answers(tmp_path, monkeypatch):
    monkeypatch.setattr(pilot, "JOIN_S", 2.0)
    ray_node.make_token(tmp_path / "token")
    pilot.announce(tmp_path, f"127.0.0.1:{ray_node.free_port()}")
    reason, told = serve(tmp_path, wait_s=1.0, node_ip="127.0.0.1")
    assert reason.startswith("no driver for")
    assert [event["event"] for event in told] == ["started", "left"]
