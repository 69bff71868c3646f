import json
import logging
import os
import time

import pytest

from cluster import ray_node
from orchestrator.surroundings import Node
from orchestrator.worker import Place


@pytest.fixture
def folder(tmp_path, monkeypatch):
    made = tmp_path / "node with space"
    made.mkdir()
    monkeypatch.setenv(ray_node.NODE_VARIABLE, str(made))
    return made


def test_outside_a_sweep_there_is_no_node(monkeypatch):
    monkeypatch.delenv(ray_node.NODE_VARIABLE, raising=False)
    node = Node.here()
    assert node.place() == Place() and not node.draining()
    with node.busy():
        node.say_out_of_time()


def test_a_worker_knows_its_pilot_and_the_time_it_has(folder):
    told = {"pilot": "12_3", "node": "gpu07", "ends": time.time() + 100, "walltime_s": 3600.0,
            "size": "large", "shares_gpu": True}  # fmt: skip
    (folder / "place.json").write_text(json.dumps(told))
    place = Node.here().place()
    assert (place.pilot, place.node, place.size, place.shares_gpu) == (
        "12_3", "gpu07", "large", True
    )  # fmt: skip
    assert 90 < place.seconds_left <= 100 and place.walltime_s == 3600


def test_a_local_node_has_no_place(folder):
    assert Node.here().place() == Place()


def test_a_worker_hears_of_a_drain_and_says_what_it_does(folder):
    node = Node.here()
    assert not node.draining()
    (folder / "drain").touch()
    assert node.draining()
    with pytest.raises(ZeroDivisionError), node.busy():
        assert [path.name for path in (folder / "busy").iterdir()] == [str(os.getpid())]
        _ = 1 / 0
    assert list((folder / "busy").iterdir()) == []
    node.say_out_of_time()
    assert (folder / "out-of-time").exists()


def test_each_process_logs_to_a_file_of_its_own(folder, tmp_path):
    logs = tmp_path / "logs"
    logs.mkdir(mode=0o700)
    loggers = [logging.getLogger(name) for name in ("orchestrator", "training")]
    before = [(log, log.level, list(log.handlers)) for log in loggers]
    Node.here().log_to(logs)
    try:
        logging.getLogger("orchestrator.worker").info("pack=%s attempt=%d epoch=%d", "p", 1, 3)
    finally:
        for log, level, handlers in before:
            for handler in set(log.handlers) - set(handlers):
                handler.close()
                log.removeHandler(handler)
            log.setLevel(level)
    (path,) = logs.iterdir()
    assert path.name == f"local-{os.getpid()}.log" and path.stat().st_mode & 0o777 == 0o600
    assert path.read_text().endswith(" INFO pack=p attempt=1 epoch=3\n")
