import os

import pytest

from cluster import allocation

V1 = "12:cpu,cpuacct:/x\n9:memory:/slurm/uid_0/job_1/step_0\n0::/ignored\n"
V2 = "0::/system.slice/job_1/step_0\n"


def test_an_element_of_an_array_is_named_as_squeue_names_it():
    assert allocation.own_job({"SLURM_JOB_ID": "15"}) == "15"
    element = {"SLURM_JOB_ID": "15", "SLURM_ARRAY_JOB_ID": "12", "SLURM_ARRAY_TASK_ID": "3"}
    assert allocation.own_job(element) == "12_3"
    assert allocation.own_job({}) == ""


@pytest.mark.parametrize(
    ("cgroup", "file"),
    [
        (V1, "memory/slurm/uid_0/job_1/step_0/memory.oom_control"),
        (V2, "system.slice/job_1/step_0/memory.events"),
    ],
)
def test_kills_for_memory_are_read_from_either_version_of_cgroups(tmp_path, cgroup, file):
    own = tmp_path / "cgroup"
    own.write_text(cgroup)
    assert allocation.oom_kills(cgroup=own, root=tmp_path) == 0
    counter = tmp_path / file
    counter.parent.mkdir(parents=True)
    counter.write_text("oom_kill_disable 0\nunder_oom 0\noom_kill 3\n")
    assert allocation.oom_kills(cgroup=own, root=tmp_path) == 3


def test_no_cgroups_mean_no_kills(tmp_path):
    assert allocation.oom_kills(cgroup=tmp_path / "none", root=tmp_path) == 0
    assert allocation.oom_kills() >= 0


def test_slurms_word_on_the_time_limit_counts_before_the_walltime(monkeypatch):
    monkeypatch.delenv("SLURM_JOB_END_TIME", raising=False)
    assert allocation.time_limit(60, now=1000.0) == 1060
    monkeypatch.setenv("SLURM_JOB_END_TIME", "1042")
    assert allocation.time_limit(60, now=1000.0) == 1042


def test_a_submission_does_not_see_the_job_it_is_made_in(monkeypatch):
    for name in ("SLURM_JOB_ID", "SLURM_CONF", "SLURM_MEM_PER_NODE", "SBATCH_PARTITION"):
        monkeypatch.setenv(name, "1")
    monkeypatch.setenv("SLURMD_NODENAME", "n1")
    with allocation.hidden():
        left = {name for name in os.environ if name.startswith(("SLURM", "SBATCH"))}
        assert left == {"SLURM_CONF", "SLURMD_NODENAME"}
    assert os.environ["SLURM_JOB_ID"] == os.environ["SBATCH_PARTITION"] == "1"
