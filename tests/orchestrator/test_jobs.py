import os
import signal
import subprocess
import sys

import psutil
import pytest

from cluster import slurm
from orchestrator import events, jobs
from orchestrator.events import Journal, Progress, fold
from orchestrator.folder import Folder


def launching(writer="launch-1", **changes):
    return {"event": "launching", "writer": writer, **jobs.identity(), **changes}


def test_a_launch_runs_while_its_process_lives_and_until_it_says_that_it_ended():
    assert jobs.running(fold([launching()], []), {})
    ended = {"event": "launched", "writer": "launch-1"}
    assert not jobs.running(fold([launching(), ended], []), {})


def test_a_pid_that_now_belongs_to_another_process_is_not_a_launch():
    state = fold([launching(created=psutil.Process().create_time() - 60)], [])
    assert not jobs.running(state, {})


def test_a_launch_of_another_host_or_of_a_dead_process_is_over():
    assert not jobs.running(fold([launching(host="elsewhere")], []), {})
    done = subprocess.run([sys.executable, "-c", "import os; print(os.getpid())"],
                          capture_output=True, text=True, check=True)  # fmt: skip
    assert not jobs.running(fold([launching(pid=int(done.stdout))], []), {})


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


def job(name, state, reason="None"):
    return slurm.Job(
        id=name, state=state, reason=reason, node="", start=None, time_left_s=None, elapsed_s=0
    )


def test_of_two_launches_the_first_goes_on():
    state = fold([launching("launch-a"), launching("launch-b")], [])
    assert jobs.first(state, "launch-a") and not jobs.first(state, "launch-b")


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
        journal.write("launching", **{**jobs.identity(), "pid": victim.pid, "created": 1.0})
        assert jobs.cancel(folder) == []
        assert victim.poll() is None
        created = psutil.Process(victim.pid).create_time()
        journal.write("launching", **{**jobs.identity(), "pid": victim.pid, "created": created})
        assert jobs.cancel(folder) == [str(victim.pid)]
        assert victim.wait(timeout=10) == -signal.SIGTERM
    finally:
        victim.kill()
        victim.wait()


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
