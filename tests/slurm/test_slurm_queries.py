"""Questions and orders of cluster/slurm.py, answered by the real daemons of the test bed."""

import time
from collections.abc import Callable
from pathlib import Path

import pytest

from cluster import slurm
from cluster.errors import ClusterError
from cluster.testbed.lifecycle import Report
from tests.cluster import sites

pytestmark = pytest.mark.slurm
LIMIT_S = 30


def wait_for(condition: Callable[[], bool], *, limit_s: float = LIMIT_S) -> None:
    deadline = time.monotonic() + limit_s
    while not condition():
        assert time.monotonic() < deadline, "it did not come about in time"
        time.sleep(0.05)


def submit(folder: Path, command: str, *options: str) -> str:
    words = ["sbatch", "--parsable", f"--output={folder}/out-%a", "--time=5", *options]
    script = f"#!/bin/sh\n{command}\n"
    return slurm.call(words, timeout_s=LIMIT_S, stdin=script).stdout.strip()


def shown(job: str) -> dict[str, str]:
    said = slurm.call(["scontrol", "--oneliner", "show", "job", job], timeout_s=LIMIT_S).stdout
    return dict(word.split("=", 1) for word in said.split() if "=" in word)


def excluded(job: str) -> set[str]:
    return set(shown(job)["ExcNodeList"].split(","))


def test_jobs_are_found_by_tag_and_tell_how_long_they_ran(testbed: Report, tmp_path: Path) -> None:
    tag = f"sweep-{tmp_path.name}"
    mine = submit(tmp_path, "exec sleep 300", f"--comment={tag}", "--array=0-2", "--hold")
    running = submit(tmp_path, "exec sleep 300", f"--comment={tag}")
    other = submit(tmp_path, "exec sleep 300", f"--comment={tag}|x\n{tag}", "--hold")
    try:
        wait_for(lambda: slurm.queue([running])[running].elapsed_s > 0)
        found = slurm.queue_by_tag([tag, "another"])
        assert set(found) == {f"{mine}_{index}" for index in range(3)} | {running}
        assert {job.tag for job in found.values()} == {tag}
        assert found[running].elapsed_s > 0
        assert found[f"{mine}_0"].elapsed_s == 0
    finally:
        slurm.cancel([mine, running, other])
    wait_for(lambda: not slurm.queue_by_tag([tag]))


def test_pending_jobs_avoid_nodes_and_others_do_not_mind(testbed: Report, tmp_path: Path) -> None:
    array = submit(tmp_path, "exec sleep 300", "--array=0-1", "--hold")
    job = submit(tmp_path, "exec sleep 300", "--hold")
    running = submit(tmp_path, "exec sleep 300")
    try:
        wait_for(lambda: slurm.queue([running])[running].state == "RUNNING")
        slurm.update_excluded([job, running, "4", f"{array}_1"], ["n1", "n3"])
        assert excluded(job) == excluded(f"{array}_1") == {"n1", "n3"}
        slurm.update_excluded([job], ["n2"])
        assert excluded(job) == {"n2"}
        with pytest.raises(ClusterError, match="exit code"):
            slurm.update_excluded([job], ["no-such-node"])
    finally:
        slurm.cancel([array, job, running])


def test_a_running_job_is_requeued_and_a_refusal_is_told(testbed: Report, tmp_path: Path) -> None:
    job = submit(tmp_path, "exec sleep 300", "--requeue")
    never = submit(tmp_path, "exec sleep 300", "--no-requeue")
    try:
        wait_for(lambda: {slurm.queue([one])[one].state for one in (job, never)} == {"RUNNING"})
        slurm.requeue(job)
        wait_for(lambda: shown(job)["Restarts"] == "1", limit_s=60)
        with pytest.raises(ClusterError, match="disabled"):
            slurm.requeue(never)
        with pytest.raises(ClusterError, match="Invalid job id"):
            slurm.requeue("4")
    finally:
        slurm.cancel([job, never])


def test_limits_are_read_where_slurm_enforces_none(testbed: Report) -> None:
    limits = slurm.limits()
    assert (limits.max_array_size, limits.max_job_count) == (10001, 20000)
    assert (limits.max_submit, limits.unknown) == (None, "")
    assert "root" in limits.accounts
    assert "normal" in limits.qos


def test_limits_of_real_accounting_are_read_where_they_are_enforced(testbed: Report) -> None:
    """The real sacctmgr answers; only the switch that enforces limits is told otherwise."""
    manager = ["sacctmgr", "--immediate"]
    account = f"lab{time.time_ns() % 10**9}"
    slurm.call([*manager, "add", "account", account, "MaxSubmitJobs=50"], timeout_s=LIMIT_S)
    try:
        user = ["add", "user", "root", f"account={account}", "MaxJobs=7", "MaxWall=30"]
        slurm.call([*manager, *user], timeout_s=LIMIT_S)
        strict = slurm.config() | {"AccountingStorageEnforce": "associations,limits"}
        limits = slurm.limits(account=account, settings=strict)
        assert (limits.max_submit, limits.max_jobs, limits.max_wall_s) == (50, 7, 1800)
        assert account in limits.accounts
    finally:
        slurm.call([*manager, "delete", "user", "root", f"account={account}"], timeout_s=LIMIT_S)
        slurm.call([*manager, "delete", "account", account], timeout_s=LIMIT_S)


def test_nodes_have_addresses_and_partitions_their_gpus(testbed: Report) -> None:
    assert slurm.addresses() == {f"n{number}": "127.0.0.1" for number in range(1, 5)}
    gpu = slurm.partitions()[0]
    assert (gpu.num_gpus, gpu.gpu_types, gpu.submit_from) == (16, {"": 4}, "ALL")


def test_a_slow_accounting_leaves_limits_unknown_beside_a_real_controller(
    testbed: Report, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    sites.install(tmp_path, sacctmgr="exec sleep 60")
    for name in ("scontrol", "sinfo", "sacct", "sbatch"):
        (tmp_path / name).unlink()
    monkeypatch.setenv("PATH", f"{tmp_path}:/usr/bin:/bin")
    limits = slurm.limits(timeout_s=1)
    assert "no answer within 1 s" in limits.unknown
    assert limits.max_array_size == 10001
