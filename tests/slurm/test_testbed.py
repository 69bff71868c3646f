"""The test bed itself, and cluster/slurm.py against its real daemons."""

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path

import psutil
import pytest

from cluster import slurm, slurm_text
from cluster.errors import ClusterError
from cluster.testbed import layout, lifecycle, processes
from cluster.testbed.lifecycle import Report

pytestmark = pytest.mark.slurm
LIMIT_S = 30


def wait_for(condition: Callable[[], bool], *, limit_s: float = LIMIT_S) -> None:
    deadline = time.monotonic() + limit_s
    while not condition():
        assert time.monotonic() < deadline, "it did not come about in time"
        time.sleep(0.05)


def submit(folder: Path, command: str, *options: str) -> str:
    script = f"#!/bin/sh\n{command}\n"
    words = ["sbatch", "--parsable", f"--output={folder}/out-%a", "--time=5", *options]
    return slurm.call(words, timeout_s=LIMIT_S, stdin=script).stdout.strip()


def state(job_id: str) -> str:
    job = slurm.queue([job_id], ended=True).get(job_id)
    return job.state if job else slurm_text.UNKNOWN


def wait_until(job_id: str, wanted: str) -> None:
    wait_for(lambda: state(job_id) == wanted)


def cli(*words: str, root: Path) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "cluster.testbed", *words, "--dir", str(root)]
    return subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)


def alive_in(root: Path) -> list[str]:
    """Command lines of living processes that mention the directory or hold a file in it."""
    bed = layout.read(root) or layout.absent(root)
    found = [" ".join(process.cmdline()) for process in processes.leftovers(bed)]
    for process in psutil.process_iter(["cmdline"]):
        words = process.info["cmdline"] or []
        if process.pid != os.getpid() and any(f"{root}/" in word for word in words):
            found.append(" ".join(words))
    return found


def test_an_array_job_is_seen_by_elements_while_it_waits_and_when_it_ended(
    testbed: Report, tmp_path: Path
) -> None:
    array = submit(tmp_path, "echo $SLURM_ARRAY_TASK_ID", "--array=4-40:4%3", "--hold")
    elements = [f"{array}_{index}" for index in range(4, 41, 4)]
    waiting = slurm.queue([array])
    assert list(waiting) == elements
    assert {job.state for job in waiting.values()} == {"PENDING"}
    assert list(slurm.queue([elements[2], f"{array}_5"])) == [elements[2]]
    slurm.call(["scontrol", "release", array], timeout_s=LIMIT_S)
    wait_for(lambda: not slurm.queue([array]))
    ended = slurm.queue([array], ended=True)
    assert {job_id: job.state for job_id, job in ended.items()} == dict.fromkeys(
        elements, "COMPLETED"
    )
    written = sorted(int(path.read_text()) for path in tmp_path.glob("out-*"))
    assert written == list(range(4, 41, 4))


def test_a_gpu_request_sets_the_visible_devices(testbed: Report, tmp_path: Path) -> None:
    job = submit(tmp_path, "echo $CUDA_VISIBLE_DEVICES $SLURM_JOB_GPUS", "--gpus-per-node=2")
    wait_until(job, "COMPLETED")
    (written,) = [path.read_text().split() for path in tmp_path.glob("out-*")]
    assert written[0] == written[1]
    assert len(written[0].split(",")) == 2


def test_a_cancelled_job_leaves_the_queue_and_accounting_says_so(
    testbed: Report, tmp_path: Path
) -> None:
    since = datetime.now(UTC) - timedelta(hours=1)
    job = submit(tmp_path, "exec sleep 300")
    wait_until(job, "RUNNING")
    running = slurm.queue([job])[job]
    assert running.node in layout.NODES
    assert running.time_left_s is not None and 200 < running.time_left_s <= 300
    assert running.start is not None and abs(running.start - datetime.now(UTC)) < timedelta(0, 60)
    slurm.cancel([job])
    slurm.cancel([job, "4"])  # again, and one that never was
    wait_for(lambda: job not in slurm.queue([job]))
    wait_for(lambda: slurm.account([job], since=since)[job].state == "CANCELLED")
    assert slurm.account([job], since=since)[job].node == running.node
    assert slurm.account(["4"], since=since)["4"].state == slurm_text.UNKNOWN


def test_accounting_knows_the_exit_code(testbed: Report, tmp_path: Path) -> None:
    since = datetime.now(UTC) - timedelta(hours=1)
    job = submit(tmp_path, "exit 3")
    wait_for(lambda: slurm.account([job], since=since)[job].state == "FAILED")
    assert slurm.account([job], since=since)[job].exit_code == 3


def test_a_signal_reaches_the_batch_script_and_does_not_end_it(
    testbed: Report, tmp_path: Path
) -> None:
    script = "trap 'echo told; exit 0' USR2; echo ready; while :; do sleep 0.1; done"
    job = submit(tmp_path, script)
    wait_for(lambda: any(p.read_text() == "ready\n" for p in tmp_path.glob("out-*")))
    slurm.cancel([job], signal="USR2")
    assert state(job) in {"RUNNING", "COMPLETING", "COMPLETED"}
    slurm.call(["scancel", "--batch", "--signal=USR2", job], timeout_s=LIMIT_S)
    wait_until(job, "COMPLETED")


def test_a_requeued_job_starts_again_under_its_id(testbed: Report, tmp_path: Path) -> None:
    script = f'echo "$SLURM_RESTART_COUNT" >> {tmp_path}/starts; exec sleep 300'
    job = submit(tmp_path, script, "--requeue")
    starts = tmp_path / "starts"
    wait_for(starts.exists)
    slurm.call(["scontrol", "requeue", job], timeout_s=LIMIT_S)
    wait_for(lambda: len(starts.read_text().split("\n")) == 3, limit_s=60)
    assert starts.read_text() == "\n1\n"
    slurm.cancel([job])


def test_a_job_over_its_memory_reads_out_of_memory(testbed: Report, tmp_path: Path) -> None:
    if "task/none" in testbed.slurm_conf.read_text():
        pytest.skip("no cgroup v1 memory controller here: SLURM says FAILED")
    since = datetime.now(UTC) - timedelta(hours=1)
    eater = "import time; x = bytearray(150 * 2**20); x[::4096] = x[::4096]; time.sleep(1)"
    command = f"exec srun {sys.executable} -c '{eater}'"
    job = submit(tmp_path, command, "--mem=60M")
    wait_for(lambda: slurm.account([job], since=since)[job].state == "OUT_OF_MEMORY")


def test_hostile_job_names_do_not_disturb_the_queue(testbed: Report, tmp_path: Path) -> None:
    mark = tmp_path / "mark"
    name = f"a|b;$(touch {mark})`touch {mark}`'\"\n12|RUNNING|é % %j"
    job = submit(tmp_path, "exit 0", f"--job-name={name}", "--comment=x|y\nz", "--hold")
    assert list(slurm.queue([job])) == [job]
    slurm.call(["scontrol", "release", job], timeout_s=LIMIT_S)
    wait_until(job, "COMPLETED")
    assert not mark.exists()


def test_partitions_and_limits_are_as_documented(testbed: Report) -> None:
    found = {partition.name: partition for partition in slurm.partitions()}
    assert set(found) == {"gpu", "scav", "scavg", "urgent", "short"}
    assert found["gpu"].default
    assert {partition.gpus_per_node for partition in found.values()} == {4}
    assert (found["short"].max_time_s, found["gpu"].max_time_s) == (60, 3600)
    assert (found["scavg"].preempt_mode, found["scavg"].grace_time_s) == ("REQUEUE", 15)
    assert slurm.config()["MaxArraySize"] == "10001"
    assert slurm.available()


def test_a_request_that_no_node_can_meet_is_refused_with_slurms_words(testbed: Report) -> None:
    with pytest.raises(ClusterError, match=r"sbatch --test-only\n.*not available"):
        slurm.test_only("#!/bin/sh\n#SBATCH --gpus-per-node=9\ntrue\n")
    estimate = slurm.test_only("#!/bin/sh\n#SBATCH --gpus-per-node=4 --time=1\ntrue\n")
    assert estimate.start > datetime.now(UTC) - timedelta(minutes=1)


def test_up_on_a_healthy_test_bed_changes_nothing(testbed: Report) -> None:
    before = lifecycle.up(testbed.root)  # other tests killed and brought back some of its daemons
    again = lifecycle.up(testbed.root)
    assert (again.changed, again.daemons) == ((), before.daemons)


def test_a_second_test_bed_lives_beside_the_first_and_leaves_nothing(
    testbed: Report, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    root = tmp_path / "bed"
    done = cli("up", root=root)
    assert done.returncode == 0, done.stderr
    assert done.stdout == f"export SLURM_CONF={root}/slurm.conf\n"
    assert lifecycle.status(testbed.root).healthy
    monkeypatch.setenv("SLURM_CONF", str(root / "slurm.conf"))
    job = submit(tmp_path, "setsid --fork sleep 300; exec sleep 301")
    stubborn = submit(tmp_path, "trap '' TERM; sleep 302")
    wait_until(job, "RUNNING")
    wait_until(stubborn, "RUNNING")
    ended = json.loads(cli("down", "--json", root=root).stdout)
    assert set(ended["changed"]) == set(testbed.daemons)
    assert alive_in(root) == []
    assert lifecycle.down(root).changed == ()
    assert cli("status", root=root).returncode == 1
    assert lifecycle.status(testbed.root).healthy


def test_up_and_down_mend_a_kill_9_of_everything_and_trust_no_pid_file(
    testbed: Report, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    root = tmp_path / "bed"
    first = lifecycle.up(root)
    monkeypatch.setenv("SLURM_CONF", str(first.slurm_conf))
    job = submit(tmp_path, "exec sleep 300")
    wait_until(job, "RUNNING")
    bystander = subprocess.Popen(["sleep", "300"])
    try:
        for name, pid in first.daemons.items():
            assert pid is not None
            os.kill(pid, signal.SIGKILL)
            (root / "run" / f"{name}.pid").write_text(f"{bystander.pid}\n")
        wait_for(lambda: not any(lifecycle.status(root).daemons.values()))
        second = lifecycle.up(root)
        assert second.healthy
        assert set(second.changed) == set(first.daemons)
        pid = second.daemons["slurmd.n2"]
        assert pid is not None
        os.kill(pid, signal.SIGKILL)
        third = lifecycle.up(root)
        assert third.changed == ("slurmd.n2",)
        job = submit(tmp_path, "setsid --fork sleep 300; exec sleep 301")
        wait_until(job, "RUNNING")
        for pid in third.daemons.values():
            assert pid is not None
            os.kill(pid, signal.SIGKILL)
        lifecycle.down(root)
        assert alive_in(root) == []
        assert bystander.poll() is None
        lifecycle.up(root)
        assert slurm.queue([job]) == {}
    finally:
        lifecycle.down(root)
        bystander.kill()
        bystander.wait()


def test_a_removed_directory_leaves_no_daemon_behind(testbed: Report, tmp_path: Path) -> None:
    root = tmp_path / "bed"
    assert lifecycle.up(root).healthy
    shutil.rmtree(root)
    assert lifecycle.status(root).daemons == {}
    assert alive_in(root)
    lifecycle.down(root)
    assert not alive_in(root)


def test_a_directory_that_slurm_cannot_hold_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ClusterError, match="has characters that"):
        lifecycle.up(tmp_path / "a b")
    with pytest.raises(ClusterError, match="allow 70"):
        lifecycle.up(tmp_path / ("x" * 80))
    assert cli("up", root=tmp_path / "a#b").returncode == 3
