"""`sweep doctor` on the test bed: what it reads, and a proposal with which a sweep trains."""

import json
import shlex
import sys
from pathlib import Path

import pytest

from cluster import doctor, profile
from cluster.testbed.lifecycle import Report
from tests.end_to_end.sweeps import status, sweep, wait, write_spec

pytestmark = pytest.mark.slurm


@pytest.fixture(autouse=True)
def _own_profiles(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "config"))


def test_the_test_bed_is_read_as_it_was_set_up(testbed: Report, tmp_path: Path) -> None:
    site = doctor.read()
    assert (site.one_host, site.loopback, site.accounting) == (True, True, "")
    told = json.loads(sweep("doctor", "--json", "--results", tmp_path).stdout)
    found = {one["topic"]: one for one in told["findings"]}
    assert told["problems"] == 0
    assert "22.05" in found["slurm"]["found"]
    assert "grace 0 or 15 s, pilots get their signal" in found["preemption"]["found"]
    assert found["addresses"]["level"] == found["kill wait"]["level"] == "note"


def test_shipped_profiles_are_judged_by_the_site(testbed: Report) -> None:
    assert doctor.problems(profile.load("testbed")).problems == ()
    wrong = doctor.problems(profile.load("slurm_a100")).problems
    assert [line.split(":")[0] for line in wrong] == [
        "walltime_min",
        "gpu_type",
        "memory_gb",
        "driver.partition",
    ]


def test_a_sweep_trains_with_the_proposed_profile_as_the_default(
    testbed: Report, tmp_path: Path
) -> None:
    results = tmp_path / "results"
    sweep("doctor", "--write", "--yes", "--results", results)
    with (profile.own() / "default.yaml").open("a") as file:
        file.write(f"python: env SWEEP_WRAPPED=yes {shlex.quote(sys.executable)}\n")
    spec = write_spec(tmp_path)
    sweep("launch", spec, "--cluster", "default", "--yes", "--results", results)
    wait(lambda: not status(results / "small")["running"])
    assert status(results / "small")["done"] == 16
