"""The same spec on a real SLURM: driver job, pilots, another shell, a killed driver."""

import os
import signal

import psutil
import pytest

from cluster import slurm
from orchestrator import events
from orchestrator.folder import Folder
from tests.end_to_end.sweeps import accepted, status, sweep, table, wait, write_spec

pytestmark = [pytest.mark.slurm, pytest.mark.usefixtures("testbed")]


def launch(spec, results):
    done = sweep("launch", spec, "--cluster", "testbed", "--yes", "--results", results, "--quiet")
    jobs = done.stdout.split()
    assert len(jobs) == 3
    return jobs


def test_the_table_equals_the_local_one_and_every_job_ends(tmp_path):
    spec = write_spec(tmp_path)
    local, cluster = tmp_path / "local", tmp_path / "on 'slurm'"
    sweep("launch", spec, "--results", local)
    jobs = launch(spec, cluster)
    wait(lambda: not status(cluster / "small")["running"])
    told = status(cluster / "small")
    assert told["done"] == told["trials"] == 16
    assert table(cluster / "small") == table(local / "small")
    wait(lambda: slurm.queue(jobs) == {}, timeout=60)
    assert list((cluster / "small" / "checkpoints").iterdir()) == []
    submitit = cluster / "small" / "pool" / "submitit"
    for path in (cluster / "small").rglob("*"):
        assert path.stat().st_mode & 0o077 == 0 or submitit in path.parents, path


def test_a_second_launch_while_one_trains_is_refused(tmp_path):
    spec = write_spec(tmp_path, epochs=40)
    launch(spec, tmp_path / "results")
    again = ("launch", spec, "--cluster", "testbed", "--yes", "--results", tmp_path / "results")
    refused = sweep(*again, code=1)
    assert "training already" in refused.stderr and "sweep cancel small" in refused.stderr
    cancelled = sweep("cancel", "small", "--results", tmp_path / "results", "--quiet")
    assert len(cancelled.stdout.split()) == 3
    wait(lambda: not status(tmp_path / "results" / "small")["running"], timeout=60)


def test_a_driver_killed_in_the_middle_resumes_to_the_same_table(tmp_path):
    spec = write_spec(tmp_path, seeds=3, epochs=12)
    quiet, killed = tmp_path / "quiet", tmp_path / "killed"
    sweep("launch", spec, "--results", quiet)
    jobs = launch(spec, killed)
    wait(lambda: accepted(killed / "small") >= 1)
    driver = events.progress(Folder(killed / "small")).driver
    assert driver["job"] == jobs[0]
    os.kill(driver["pid"], signal.SIGKILL)
    wait(lambda: not psutil.pid_exists(driver["pid"]))
    wait(lambda: not status(killed / "small")["running"], timeout=60)
    assert status(killed / "small")["done"] < 24
    sweep("resume", "small", "--yes", "--results", killed)
    wait(lambda: not status(killed / "small")["running"])
    assert status(killed / "small")["done"] == 24
    assert table(killed / "small") == table(quiet / "small")
    wait(lambda: not status(killed / "small")["jobs"], timeout=90)
