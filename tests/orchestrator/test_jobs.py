import os
import signal
import subprocess
import sys
from datetime import UTC, datetime, timedelta

import psutil
import pytest

from cluster import slurm
from cluster.errors import ClusterError
from orchestrator import events, jobs
from orchestrator.errors import StoreError
from orchestrator.events import Journal, Progress, fold
from orchestrator.folder import Folder


def launching(writer="launch-1", *, ago_s=0.0, **changes):
    time = (datetime.now(UTC) - timedelta(seconds=ago_s)).isoformat()
    return {"event": "launching", "writer": writer, "time": time, **jobs.identity(), **changes}


def test_a_launch_runs_while_its_process_lives_and_until_it_says_that_it_ended():
    assert jobs.running(fold([launching()], []), {})
    ended = {"event": "launched", "writer": "launch-1"}
    assert not jobs.running(fold([launching(), ended], []), {})


def test_a_pid_that_now_belongs_to_another_process_is_not_a_launch():
    state = fold([launching(since_boot=jobs.identity()["since_boot"] - 60)], [])
    assert not jobs.running(state, {})


def test_a_clock_that_is_stepped_does_not_end_a_launch():
    told = jobs.identity()
    stepped = launching(created=told["created"] - 3600)  # booted an hour later by the new clock
    assert jobs.running(fold([stepped], []), {})


def test_a_launch_of_an_earlier_version_is_known_by_its_time():
    old = launching()
    del old["since_boot"]
    assert jobs.running(fold([old], []), {})
    assert not jobs.running(fold([{**old, "created": old["created"] - 60}], []), {})


def test_a_launch_of_a_dead_process_is_over():
    done = subprocess.run([sys.executable, "-c", "import os; print(os.getpid())"],
                          capture_output=True, text=True, check=True)  # fmt: skip
    assert not jobs.running(fold([launching(pid=int(done.stdout))], []), {})


def test_a_launch_of_another_host_counts_as_dead_after_five_minutes_without_a_word():
    assert jobs.running(fold([launching(host="elsewhere", ago_s=-3)], []), {})
    assert jobs.running(fold([launching(host="elsewhere", ago_s=290)], []), {})
    assert not jobs.running(fold([launching(host="elsewhere", ago_s=310)], []), {})
    ended = {"event": "launched", "writer": "launch-1"}
    assert not jobs.running(fold([launching(host="elsewhere"), ended], []), {})


def test_a_training_on_another_host_runs_while_it_says_so():
    there = {"host": "elsewhere", "pid": 42}
    old, new = (
        launching("launch-1", ago_s=7200, **there),
        launching("launch-2", ago_s=3600, **there),
    )
    alive = {**launching("supervisor-1", ago_s=200, **there), "event": "alive"}
    state = fold([old, new, alive], [])
    assert jobs.running(state, {})
    state.launches.pop("launch-2")  # the first has the same pid, and is dead
    assert not jobs.running(state, {})
    assert not jobs.running(fold([new, {**alive, "pid": 43}], []), {})
    silent = {**launching("supervisor-1", ago_s=310, **there), "event": "alive"}
    assert not jobs.running(fold([new, silent], []), {})


def test_a_launch_in_an_allocation_of_another_host_runs_while_slurm_has_the_allocation():
    state = fold([launching(host="elsewhere", job="7")], [])
    assert jobs.running(state, {"7": job("7", "RUNNING")})
    assert jobs.running(state, None)
    assert not jobs.running(state, {})


@pytest.mark.parametrize("reason", ["JobHeldUser", "JobHeldAdmin", "launch failed requeued held"])
def test_a_driver_that_slurm_holds_does_not_run_and_is_named(reason):
    state = fold([{"event": "submitted", "role": "driver", "job": "12"}], [])
    held = {"12": job("12", "PENDING", reason)}
    assert not jobs.running(state, held) and jobs.stuck(state, held) == ["12"]
    waits = {"12": job("12", "PENDING", "Resources")}
    assert jobs.running(state, waits) and jobs.stuck(state, waits) == []


def test_a_driver_that_slurm_is_ending_is_named_while_it_did_not_say_that_it_ended():
    submitted = {"event": "submitted", "role": "driver", "job": "12"}
    state, queue = fold([submitted], []), {"12": job("12", "COMPLETING")}
    assert jobs.running(state, queue) and jobs.ending(state, queue) == ["12"]
    assert jobs.ending(state, {"12": job("12", "RUNNING")}) == jobs.ending(state, None) == []
    assert jobs.ending(fold([submitted, {"event": "ended", "job": "12"}], []), queue) == []


def job(name, state, reason="None"):
    return slurm.Job(
        id=name, state=state, reason=reason, node="", start=None, time_left_s=None, elapsed_s=0
    )


def test_of_two_launches_the_first_goes_on():
    state = fold([launching("launch-a"), launching("launch-b")], [])
    assert jobs.first(state, "launch-a") and not jobs.first(state, "launch-b")


def test_of_launches_on_two_hosts_the_first_goes_on(monkeypatch):
    here, there = launching("launch-b"), launching("launch-a", host="elsewhere")
    assert not jobs.first(fold([there, here], []), "launch-b")
    assert jobs.first(fold([launching("launch-a", host="elsewhere", ago_s=310), here], []),
                      "launch-b")  # fmt: skip
    inside = launching("launch-a", host="elsewhere", job="7", ago_s=3600)
    monkeypatch.setattr(slurm, "queue", lambda _: {"7": job("7", "RUNNING")})
    assert not jobs.first(fold([inside, here], []), "launch-b")
    monkeypatch.setattr(slurm, "queue", lambda _: {})
    assert jobs.first(fold([inside, here], []), "launch-b")


def test_slurm_that_does_not_answer_counts_as_running_unless_the_driver_ended():
    submitted = {"event": "submitted", "role": "driver", "job": "12"}
    assert jobs.running(fold([submitted], []), None)
    assert not jobs.running(fold([submitted], []), {})
    assert not jobs.running(fold([submitted, {"event": "ended", "job": "12"}], []), None)
    assert not jobs.running(Progress(), None)


def test_cancel_signals_only_a_launch_that_is_really_ours(tmp_path):
    folder = Folder(tmp_path / "s")
    folder.create()
    folder.plan.touch()
    victim = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(60)"])
    try:
        journal = Journal(folder, "launch")
        journal.write("launching", **{**jobs.identity(), "pid": victim.pid, "since_boot": 1.0})
        assert jobs.cancel(folder) == []
        assert victim.poll() is None
        journal.write("launching", **{**jobs.identity(), **jobs._process(victim.pid)})
        assert jobs.cancel(folder) == [str(victim.pid)]
        assert victim.wait(timeout=10) == -signal.SIGTERM
    finally:
        victim.kill()
        victim.wait()


@pytest.fixture
def far(tmp_path, monkeypatch):
    """A sweep that trains in the foreground, in allocation 7 of another host."""
    folder = Folder(tmp_path / "s")
    folder.create()
    folder.plan.touch()
    there = {**jobs.identity(), "host": "elsewhere", "pid": 42, "job": "7"}
    Journal(folder, "launch").write("launching", **there)
    monkeypatch.setattr(slurm, "queue", lambda ids: {i: job(i, "RUNNING") for i in ids})
    return folder


def test_cancel_names_a_sweep_in_the_foreground_of_another_host(far):
    with pytest.raises(StoreError, match="on elsewhere, process 42; end it there") as caught:
        jobs.cancel(far)
    assert "scancel 7" in caught.value.hint


def test_cancel_ends_what_it_can_before_it_names_what_it_cannot(far, monkeypatch):
    Journal(far, "launch").write("submitted", role="pilot", job="8", size="normal", gpus=1)
    ended = []
    monkeypatch.setattr(slurm, "cancel", ended.extend)
    with pytest.raises(StoreError, match="8 is cancelled"):
        jobs.cancel(far)
    assert ended == ["8"]


def test_cancel_says_nothing_of_an_allocation_that_is_over(far, monkeypatch):
    monkeypatch.setattr(slurm, "queue", lambda _: {})
    assert jobs.cancel(far) == []


def test_cancel_names_a_launch_of_another_host_that_is_in_no_allocation(far, monkeypatch):
    monkeypatch.setattr(slurm, "queue", lambda _: {})
    there = {**jobs.identity(), "host": "login2", "pid": 43, "job": ""}
    Journal(far, "launch").write("launching", **there)
    with pytest.raises(StoreError, match="on login2, process 43; end it there"):
        jobs.cancel(far)


def test_an_identity_names_this_process():
    told = jobs.identity()
    assert told["pid"] == os.getpid() and told["created"] == pytest.approx(
        psutil.Process().create_time()
    )


def test_events_of_a_live_launch_are_folded_from_disk(tmp_path):
    folder = Folder(tmp_path / "s")
    folder.create()
    Journal(folder, "launch").write("launching", **jobs.identity())
    assert jobs.running(events.progress(folder), {})


def test_pilots_that_slurm_still_has_are_not_submitted_again():
    state = fold(
        [{"event": "submitted", "role": role, "job": job}
         for role, job in (("driver", "1"), ("pilot", "2_0"), ("pilot", "2_1"))], []
    )  # fmt: skip
    assert jobs.pilots(state, {"1": job("1", "RUNNING"), "2_1": job("2_1", "RUNNING")}) == ["2_1"]
    assert jobs.pilots(state, None) == []


def test_jobs_that_slurm_may_have_are_not_said_to_be_none_while_it_does_not_answer(
    tmp_path, monkeypatch
):
    monkeypatch.setenv("PATH", "")
    folder = Folder(tmp_path / "s")
    folder.create()
    folder.plan.touch()
    Journal(folder, "launch").write("submitting", role="driver", count=1, tag="sweep-driver-1")
    with pytest.raises(ClusterError, match="squeue"):
        jobs.cancel(folder)
