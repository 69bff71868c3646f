"""A search whose plan grows while its driver and pilots run on a real SLURM."""

import pytest

from orchestrator import events
from orchestrator.folder import Folder
from tests.end_to_end.sweeps import status, sweep, table, wait
from tests.end_to_end.test_search import write

pytestmark = [pytest.mark.slurm, pytest.mark.usefixtures("testbed")]


def test_optuna_goes_on_in_rounds_to_the_same_table_as_here(tmp_path):
    spec = write(tmp_path, "optuna", 4, more="      batch: 2\n")
    local, cluster = tmp_path / "local", tmp_path / "cluster"
    sweep("launch", spec, "--results", local)
    sweep("launch", spec, "--cluster", "testbed", "--yes", "--results", cluster)
    wait(lambda: not status(cluster / "small")["running"], timeout=400)
    told = status(cluster / "small")
    assert told["done"] == told["trials"] == 20
    events_told = events.read_events(Folder(cluster / "small"))
    planned = [event for event in events_told if event["event"] == "planned"]
    assert [event.get("mode") for event in planned] == ["all", "added"]
    submitted = [e["by"] for e in events_told if e["event"] == "submitted" and e["role"] == "pilot"]
    assert submitted == ["launch", "launch"], "pilots stay from one round to the next"
    assert table(cluster / "small") == table(local / "small")
