"""Pilots that come, go, and are replaced, on a real SLURM."""

import subprocess
import time
from datetime import datetime

import pytest
import yaml

from cluster import profile as profiles
from cluster import slurm
from cluster.errors import ClusterError
from orchestrator import events
from orchestrator.folder import Folder
from tests.end_to_end.sweeps import kill_driver, status, sweep, wait, write_spec

pytestmark = [pytest.mark.slurm, pytest.mark.usefixtures("testbed")]
WHOLE_NODE = 8  # cores: two such pilots never share a node


def profile(folder, **changes):
    content = yaml.safe_load((profiles.SHIPPED / "testbed.yaml").read_text())
    content |= {"lanes_max": 2, "signal_s": 30, "walltime_min": 10, "memory_gb": 2} | changes
    content["driver"] = {"cpus": 1, "memory_gb": 2, "walltime_min": 30} | changes.get("driver", {})
    path = folder / "site.yaml"
    path.write_text(yaml.safe_dump(content))
    return path


def launch(spec, site, results, *further):
    sweep(
        "launch", spec, "--cluster", site, "--yes", "--results", results, "--quiet", *further
    )  # fmt: skip
    return results / spec.stem


def told(folder, *names, **fields):
    found = [event for event in events.read_events(Folder(folder)) if event["event"] in names]
    return [event for event in found if fields.items() <= event.items()]


def call(*command):
    return slurm.call(command, timeout_s=30).stdout.strip()


def at(event):
    return datetime.fromisoformat(event["time"])


def finish(folder, *, timeout=240):
    """Wait for the driver's last word and for every job's end; seconds from one to the other."""
    wait(lambda: told(folder, "ended"), timeout=timeout)
    jobs = [event["job"] for event in told(folder, "submitted")]
    ended = time.monotonic()
    wait(lambda: slurm.queue(jobs) == {}, timeout=40)
    return time.monotonic() - ended


def bring_back(node):
    """Return a node to service; it may have come back by itself (ReturnToService=2)."""
    try:
        call("scontrol", "update", f"nodename={node}", "state=resume")
    except ClusterError as error:
        assert "Invalid node state" in error.message


def all_done(folder):
    seen = status(folder)
    return seen["done"] == seen["trials"] > 0


def test_a_pilot_of_a_failed_node_is_replaced_and_idle_ones_leave(tmp_path):
    spec = write_spec(tmp_path, epochs=200)
    folder = launch(spec, profile(tmp_path, cpus=WHOLE_NODE),
                    tmp_path / "results")  # fmt: skip
    wait(lambda: len({event["pilot"] for event in told(folder, "assigned")}) == 2, timeout=120)
    victim = told(folder, "assigned")[-1]
    try:
        call("scontrol", "update", f"nodename={victim['node']}", "state=down", "reason=test")
        wait(lambda: told(folder, "excluded"), timeout=30)
    finally:
        bring_back(victim["node"])
    seconds = finish(folder)
    assert all_done(folder)
    (excluded,) = told(folder, "excluded")
    assert excluded["node"] == victim["node"] and victim["pilot"] in excluded["reason"]
    fresh = told(folder, "submitted", by="driver")
    assert fresh and victim["node"] not in {
        event["node"] for event in told(folder, "started") if event["job"] == fresh[0]["job"]
    }
    assert [event["failure"] for event in told(folder, "failed")] in (["node_fail"], [])
    assert seconds < 15


def test_preemption_is_free_and_a_requeued_driver_goes_on(tmp_path):
    spec = write_spec(tmp_path, epochs=300)
    site = profile(tmp_path, partition="scavg", cpus=WHOLE_NODE,
                   driver={"partition": "gpu"})  # fmt: skip
    folder = launch(spec, site, tmp_path / "results")
    wait(lambda: len({event["pilot"] for event in told(folder, "assigned")}) == 2, timeout=120)
    victim = told(folder, "assigned")[-1]
    urgent = call(
        "sbatch", "--parsable", "--partition=urgent", f"--nodelist={victim['node']}", "--exclusive",
        "--mem=100", "--time=1", "--output=/dev/null", "--wrap=sleep 300",
    )  # fmt: skip
    wait(lambda: told(folder, "left", job=victim["pilot"]), timeout=40)
    slurm.cancel([urgent])
    first = told(folder, "driving")[0]
    call("scontrol", "requeue", first["job"])
    wait(lambda: len(told(folder, "driving")) == 2, timeout=60)
    assert told(folder, "driving")[1]["job"] == first["job"]
    finish(folder)
    assert all_done(folder)
    assert told(folder, "released", worker=victim["worker"])[0]["reason"] == "drain"
    assert not told(folder, "failed", final=True)
    assert told(folder, "submitted", by="driver")


def test_a_pilot_out_of_time_leaves_a_checkpoint_for_the_next_one(tmp_path):
    spec = write_spec(tmp_path, seeds=1, epochs=700)
    site = profile(tmp_path, pilots=1, walltime_min=2, signal_s=90, lanes_max=16)
    folder = launch(spec, site, tmp_path / "results")
    wait(lambda: told(folder, "released", "accepted"), timeout=240)
    finish(folder, timeout=480)
    assert all_done(folder)
    released = told(folder, "released")
    assert released and 0 < released[0]["share"] < 1
    assert len(told(folder, "joined")) >= 2
    left = told(folder, "left")[0]
    assert left["reason"] in ("time limit", "signal SIGUSR2") and left["seconds"] < 120


def test_a_driver_inside_its_first_pilot_is_resumed_after_kill_9_and_obeys_a_budget(tmp_path):
    spec = write_spec(tmp_path, epochs=400)
    site = profile(tmp_path, driver={"inside": True})
    folder = launch(spec, site, tmp_path / "results")
    wait(lambda: told(folder, "accepted"), timeout=120)
    own = told(folder, "driving")[0]["job"]
    assert told(folder, "assigned", pilot=own) and told(folder, "joined", job=own)
    pid = kill_driver(folder)
    wait(lambda: own not in slurm.queue([own]), timeout=40)
    assert subprocess.run(["ps", "-p", str(pid)], capture_output=True).returncode == 1
    done = status(folder)["done"]
    assert 0 < done < 16
    sweep("resume", "small", "--yes", "--results", folder.parent, "--max-gpu-hours", "0.008")
    wait(lambda: told(folder, "ended"), timeout=120)
    finish(folder)
    assert told(folder, "ended")[0]["reason"] == "budget"
    assert told(folder, "stopped")[0]["reason"] == "budget"
    assert done <= status(folder)["done"]


def test_a_cancelled_driver_takes_its_pilots_along(tmp_path):
    spec = write_spec(tmp_path, epochs=400)
    folder = launch(spec, profile(tmp_path), tmp_path / "results")
    wait(lambda: told(folder, "assigned"), timeout=120)
    driver = told(folder, "driving")[0]
    slurm.cancel([driver["job"]])
    wait(lambda: told(folder, "left") != [], timeout=60)  # a worker that starts is given 20 s
    jobs = [event["job"] for event in told(folder, "submitted")]
    wait(lambda: slurm.queue(jobs) == {}, timeout=60)
    assert {event["reason"] for event in told(folder, "left")} <= {
        "the driver ended", "dismissed", "the driver left"
    }  # fmt: skip
