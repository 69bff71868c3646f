"""What a launch asks of a real SLURM before and after it submits."""

import json

import pytest

from cluster import slurm
from orchestrator import events
from orchestrator.folder import Folder
from tests.end_to_end.sweeps import status, sweep, wait, write_spec

pytestmark = [pytest.mark.slurm, pytest.mark.usefixtures("testbed")]
TESTBED = ("--cluster", "testbed")


def test_a_dry_run_shows_scripts_and_a_start_and_leaves_nothing(tmp_path):
    spec = write_spec(tmp_path)
    found = sweep("launch", spec, *TESTBED, "--results", tmp_path / "r", "-n", "--script", "--json")
    told = json.loads(found.stdout)
    assert told["start"]["pilot"] and not told["start"]["unknown"]
    for role, gpus in (("driver", False), ("pilot", True)):
        assert f"--job-name=sweep-small-{role}" in told["scripts"][role]
        assert ("--gpus-per-node" in told["scripts"][role]) is gpus
        slurm.test_only(told["scripts"][role])
    assert [path.name for path in tmp_path.iterdir()] == ["small.yaml"]


def test_a_profile_that_the_site_cannot_serve_is_refused_with_all_problems(tmp_path):
    profile = tmp_path / "site.yaml"
    profile.write_text("kind: slurm\npartition: gppu\ndriver: {partition: cppu}\n")
    for extra in ((), ("--dry-run",)):
        done = sweep(
            "launch", write_spec(tmp_path), "--cluster", profile, "--yes", *extra,
            "--results", tmp_path / "r", code=2,
        )  # fmt: skip
        assert "did you mean gpu?" in done.stderr and "driver.partition" in done.stderr
    assert not (tmp_path / "r").exists()


def test_gpu_time_is_not_spent_without_consent(tmp_path):
    results = tmp_path / "results"
    done = sweep("launch", write_spec(tmp_path), *TESTBED, "--results", results, code=2)
    assert "--yes" in done.stderr and not (results / "small").exists()


def test_an_edited_spec_reaches_the_driver_that_runs(tmp_path):
    results, where = tmp_path / "results", ("--results", tmp_path / "results")
    sweep("launch", write_spec(tmp_path, epochs=60), *TESTBED, "--yes", *where)
    folder = Folder(results / "small")
    spec = write_spec(tmp_path, epochs=60)
    spec.write_text(spec.read_text().replace("seeds: 2", "seeds: [1, 2]"))
    done = sweep("launch", spec, "--cluster", "testbed", "--yes", "--cancel-removed", *where)
    assert "a driver works on this sweep" in done.stderr
    modes = [e.get("mode") for e in events.read_events(folder) if e["event"] == "planned"]
    assert modes == ["all", "added"]
    wait(lambda: not status(folder.root)["running"])
    state = events.progress(folder)
    assert (
        set(state.trials) == state.accepted.keys() & set(state.trials) and len(state.trials) == 16
    )
    assert len([e for e in state.submitted if e["role"] == "driver"]) == 1
