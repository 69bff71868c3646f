"""Profiles proposed for sites of several kinds; each is read as any profile is."""

from dataclasses import replace

import yaml
from hypothesis import given
from hypothesis import strategies as st

from cluster import profile, proposal
from cluster.profile_check import check
from cluster.slurm_site import Limits, Partition
from tests.cluster.test_profile_check import CPU, GPU

FEW = replace(GPU, num_gpus=16)
MANY = replace(GPU, name="many", default=False, num_gpus=400, tier=5, preempt_mode="REQUEUE")


def proposed(*partitions, limits=None, kind="preempt/none", **keys):
    limits = limits or Limits()
    made = proposal.propose(partitions, limits=limits, preemption=kind, **keys)
    read = profile.parse(yaml.safe_load(made.text()), where="x")
    assert check(read, partitions=partitions, limits=limits).problems == ()
    return read, made


def test_pilots_go_where_most_gpus_are_and_the_driver_where_none_is():
    read, _ = proposed(FEW, MANY, CPU)
    assert (read.partition, read.driver.partition) == ("many", "cpu")
    assert (read.device, read.gpus, read.cpus, read.memory_gb) == ("cuda", 1, 8, 57)
    assert (read.walltime_min, read.driver.walltime_min) == (360, 24 * 60)
    assert (read.pilots, read.gpu_type) == (8, None)


def test_the_partition_and_the_users_limits_bound_it():
    short = replace(FEW, max_time_s=1800)
    limits = Limits(max_submit=3, max_wall_s=1200, accounts=("lab", "other"))
    read, made = proposed(short, limits=limits)
    assert (read.walltime_min, read.driver.walltime_min, read.pilots) == (20, 20, 2)
    assert read.account == "lab"
    assert any("lab, other" in line for line in made.reasons)
    assert any("the driver takes cores of a GPU node" in line for line in made.reasons)


def test_a_preempted_partition_is_said_so():
    _, made = proposed(replace(FEW, tier=9), MANY, CPU, kind="preempt/partition_prio")
    assert any("Preempted by gpu" in line for line in made.reasons)


def test_one_gpu_type_of_several_is_chosen():
    read, _ = proposed(replace(FEW, gpu_types={"v100": 2, "a100": 4}))
    assert read.gpu_type == "a100"


def test_a_site_without_gpus_trains_on_cores():
    read, _ = proposed(CPU)
    assert (read.device, read.gpus, read.cpus) == ("cpu", 0, 8)


def test_nodes_of_one_host_get_an_address_for_each_job():
    read, _ = proposed(FEW, one_host=True, real_gpus=False)
    assert (read.node_ip, read.device) == (profile.load("testbed").node_ip, "cpu")
    assert read.setup == profile.load("testbed").setup


def test_a_machine_without_slurm_is_local():
    assert proposal.local(num_gpus=0).content == {"kind": "local"}
    made = yaml.safe_load(proposal.local(num_gpus=2).text())
    assert profile.parse(made, where="x").workers == 2


PARTITIONS = st.builds(
    Partition,
    name=st.sampled_from(["a", "b", "c"]),
    state=st.sampled_from(["UP", "DOWN"]),
    default=st.booleans(),
    max_time_s=st.none() | st.integers(1, 9000).map(lambda minutes: 60 * minutes),
    num_nodes=st.integers(1, 900),
    gpus_per_node=st.integers(0, 16),
    cpus_per_node=st.integers(1, 256),
    memory_mb_per_node=st.integers(2048, 4_000_000),
    preempt_mode=st.sampled_from(["OFF", "REQUEUE", "CANCEL"]),
    grace_time_s=st.integers(0, 600),
    num_gpus=st.integers(0, 4000),
    tier=st.integers(0, 3),
)
LIMITS = st.builds(
    Limits,
    max_submit=st.none() | st.integers(2, 99),
    max_jobs=st.none() | st.integers(1, 99),
    max_gpus=st.none() | st.integers(1, 99),
    max_wall_s=st.none() | st.integers(1, 9000).map(lambda minutes: 60 * minutes),
)


@given(st.lists(PARTITIONS, min_size=1, max_size=3, unique_by=lambda one: one.name), LIMITS)
def test_what_is_proposed_for_any_site_is_valid_and_fits_it(partitions, limits):
    proposed(*partitions, limits=limits, kind="preempt/partition_prio")
