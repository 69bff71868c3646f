"""Texts as SLURM 22.05 printed them on the test bed, limits as its manual pages name them."""

import pytest

from cluster import slurm_site

PARTITIONS = """\
PartitionName=gpu AllowGroups=ALL Default=YES QoS=N/A GraceTime=0 MaxTime=1-12:00:00 Nodes=n[1-4] \
PriorityTier=10 PreemptMode=REQUEUE State=UP TotalCPUs=32 TotalNodes=4 TRES=cpu=32,gres/gpu=16
PartitionName=scav Default=NO GraceTime=15 MaxTime=UNLIMITED Nodes=n[1-4] PreemptMode=REQUEUE \
State=DOWN TotalCPUs=32 TotalNodes=4
"""
NODES = """\
gpu|gpu:a100:4(S:0-1),shard:8|8|8000
gpu|gpu:2|64+|4000+
scav|(null)|8|8000
"""


def test_partitions_carry_limits_and_the_largest_node() -> None:
    gpu, scav = slurm_site.parse_partitions(PARTITIONS, nodes=NODES)
    assert (gpu.name, gpu.default, gpu.max_time_s, gpu.num_nodes) == ("gpu", True, 129_600, 4)
    assert (gpu.gpus_per_node, gpu.cpus_per_node, gpu.memory_mb_per_node) == (4, 64, 8000)
    assert (scav.state, scav.max_time_s, scav.grace_time_s) == ("DOWN", None, 15)
    assert scav.gpus_per_node == 0


def test_configuration_lines_become_a_mapping() -> None:
    text = "Configuration data as of 2026\nMaxArraySize            = 10001\nAuthInfo = a=b,c=5\n"
    assert slurm_site.parse_config(text) == {"MaxArraySize": "10001", "AuthInfo": "a=b,c=5"}


def test_partitions_carry_gpu_types_and_who_preempts() -> None:
    gpu, scav = slurm_site.parse_partitions(PARTITIONS, nodes=NODES)
    assert gpu.gpu_types == {"a100": 4, "": 2}
    assert (gpu.num_gpus, gpu.tier, scav.gpu_types) == (16, 10, {})
    assert slurm_site.preempted_by(scav, [gpu, scav], kind="preempt/partition_prio") == "gpu"
    assert slurm_site.preempted_by(gpu, [gpu, scav], kind="preempt/partition_prio") == ""
    assert slurm_site.preempted_by(scav, [gpu, scav], kind="preempt/none") == ""
    assert "quality of service" in slurm_site.preempted_by(gpu, [gpu], kind="preempt/qos")


@pytest.mark.parametrize(
    ("gres", "types"),
    [
        ("gpu:a100:4(S:0-1),shard:8", {"a100": 4}),
        ("gpu:h100:2(IDX:0-1),gpu:a100:2", {"h100": 2, "a100": 2}),
        ("gpu:4", {"": 4}),
        ("(null)", {}),
        ("craynetwork:4", {}),
    ],
)
def test_gpus_are_counted_by_type(gres: str, types: dict[str, int]) -> None:
    assert slurm_site.gpu_types(gres) == types


def test_the_partition_that_is_not_named_is_the_default_one() -> None:
    found = slurm_site.parse_partitions(PARTITIONS, nodes=NODES)
    assert slurm_site.find(found, None) == found[0]
    assert slurm_site.find(found, "scav") == found[1]
    assert slurm_site.find(found, "none") is None


def test_limits_that_slurm_does_not_enforce_do_not_count() -> None:
    known = slurm_site.Limits(max_submit=3, accounts=("lab",))
    strict = slurm_site.merge(known, {"AccountingStorageEnforce": "associations,safe"})
    loose = slurm_site.merge(known, {"AccountingStorageEnforce": "none"})
    assert (strict.max_submit, loose.max_submit) == (3, None)
    assert (loose.accounts, loose.enforced) == (("lab",), frozenset())
    assert strict.enforced == {"associations", "safe"}


def test_the_strictest_of_all_limits_counts() -> None:
    users = "lab|lab||7|50|3|99|30:00||gres/gpu=9|long,normal|long\nlab|dbg|debug|1|1||||||x|x\n"
    qos = "long|5|20|||1-00:00:00|cpu=64,gres/gpu=8||40|60\nnormal|||||||||\n"
    limits = slurm_site.parse_limits(users, qos=qos, account=None, named_qos=None, partition=None)
    assert (limits.max_jobs, limits.max_submit, limits.max_gpus) == (3, 20, 8)
    assert (limits.max_wall_s, limits.accounts) == (1800, ("lab", "dbg"))
    assert limits.qos == ("long", "normal")


def test_accounting_that_knows_nothing_of_the_user_limits_nothing() -> None:
    limits = slurm_site.parse_limits("", qos="", account="x", named_qos="y", partition=None)
    assert limits == slurm_site.Limits()
