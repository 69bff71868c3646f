"""A profile beside a site that cannot give what it asks for."""

from dataclasses import replace

import pytest

from cluster import profile
from cluster.profile_check import Verdict, check
from cluster.slurm_site import Limits, Partition

GPU = Partition(
    name="gpu",
    state="UP",
    default=True,
    max_time_s=8 * 3600,
    num_nodes=4,
    gpus_per_node=4,
    cpus_per_node=32,
    memory_mb_per_node=256 * 1024,
    preempt_mode="OFF",
    grace_time_s=0,
    gpu_types={"a100": 4},
)
CPU = replace(GPU, name="cpu", default=False, gpus_per_node=0, gpu_types={}, max_time_s=None)
SITE = (GPU, CPU)


def verdict(*, site=SITE, limits=None, **keys) -> Verdict:
    driver = {"walltime_min": 400, **keys.pop("driver", {})}
    made = profile.parse({"kind": "slurm", **keys, "driver": driver}, where="x")
    return check(made, partitions=site, limits=limits or Limits())


def test_a_profile_that_fits_has_no_problem():
    assert verdict(gpu_type="a100", partition="gpu", driver={"partition": "cpu"}) == Verdict()


@pytest.mark.parametrize(
    ("keys", "said"),
    [
        ({"walltime_min": 481}, "walltime_min: 481 is over the 480 minutes of partition gpu"),
        ({"partition": "gpuu"}, "partition: there is no 'gpuu' here; did you mean gpu?"),
        ({"partition": "zzz"}, "partition: there is no 'zzz' here; there are: gpu, cpu"),
        ({"gpus": 5}, "gpus: 5 is more than the 4 GPUs of the largest node of gpu"),
        ({"cpus": 33}, "cpus: 33 is more than the 32 CPUs of the largest node of gpu"),
        ({"memory_gb": 257}, "memory_gb: 257 is more than the 256 GB of the largest node of gpu"),
        ({"gpu_type": "a1000"}, "gpu_type: partition gpu has no 'a1000'; did you mean a100?"),
        ({"driver": {"walltime_min": 900}}, "driver.walltime_min: 900 is over the 480 minutes"),
        ({"driver": {"partition": "cqu"}}, "driver.partition: there is no 'cqu' here; did you"),
        ({"larger": {"partition": "cpu"}}, "larger.gpus: 1 is more than the 0 GPUs"),
        ({"larger": {"gpu_type": "h100"}}, "larger.gpu_type: partition gpu has no 'h100'"),
    ],
)
def test_what_the_site_cannot_give_is_a_problem_with_its_key(keys, said):
    found = verdict(**keys)
    assert len([line for line in found.problems if line.startswith(said)]) == 1


def test_all_problems_are_told_at_once():
    assert len(verdict(walltime_min=999, gpus=9, cpus=99, memory_gb=999).problems) == 4


def test_one_partition_of_several_is_enough_and_the_other_is_a_note():
    found = verdict(partition="cpu,gpu", driver={"partition": "cpu"})
    assert found.problems == ()
    assert found.notes == ("gpus: 1 is more than the 0 GPUs of the largest node of cpu",)
    assert verdict(partition="cpu,gpu", gpus=9).problems


def test_a_driver_inside_a_pilot_is_no_job_of_its_own():
    assert verdict(driver={"walltime_min": 900, "inside": True}) == Verdict()


def test_a_site_without_a_default_partition_needs_a_name():
    found = verdict(site=(replace(GPU, default=False), CPU))
    assert "none is named and the site has no default; there are: gpu, cpu" in found.problems[0]


def test_a_partition_that_is_down_is_a_note_and_one_that_drains_a_problem():
    assert "is down" in verdict(site=(replace(GPU, state="DOWN"),)).notes[0]
    assert "takes no jobs now" in verdict(site=(replace(GPU, state="DRAIN"),)).problems[0]


def test_several_gpu_types_without_a_name_are_noted():
    mixed = replace(GPU, gpu_types={"a100": 4, "v100": 4})
    assert verdict(site=(mixed,)).notes == (
        "gpu_type: any of a100, v100 may come in gpu; name one",
    )
    assert verdict(site=(mixed,), gpu_type="v100").notes == ()


def test_more_pilots_than_may_be_submitted_are_a_note():
    found = verdict(pilots=9, limits=Limits(max_submit=5, max_jobs=3, max_gpus=4))
    assert found.problems == ()
    assert [line.split(":")[0] for line in found.notes] == ["pilots"] * 3


def test_limits_that_no_sweep_can_keep_are_problems():
    limits = Limits(max_submit=1, max_gpus=1, max_wall_s=3600)
    found = verdict(gpus=2, limits=limits)
    assert [line.split(":")[0] for line in found.problems] == [
        "walltime_min",
        "driver.walltime_min",
        "pilots",
        "gpus",
    ]
    alone = verdict(driver={"inside": True}, walltime_min=60, limits=limits)
    assert alone.problems == ()


def test_an_account_that_is_not_ones_own_is_a_problem_where_slurm_checks_it():
    known = Limits(accounts=("path01",), qos=("normal",))
    assert verdict(account="path02", limits=known).notes == (
        "account: 'path02' is not one of yours; did you mean path01?",
    )
    strict = replace(known, enforced=frozenset({"associations"}))
    assert len(verdict(account="path02", qos="high", limits=strict).problems) == 2
    assert verdict(account="anything", qos="at all").problems == ()
