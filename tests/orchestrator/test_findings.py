"""What is said of sites: each finding has its level, what was read and what follows."""

from dataclasses import replace

import pytest

from cluster.doctor import Site
from cluster.profile_check import Verdict
from cluster.slurm_site import Limits
from orchestrator import findings
from tests.cluster.test_profile_check import CPU, GPU

CONFIG = {
    "ClusterName": "alps",
    "SLURM_VERSION": "24.05.1",
    "KillWait": "30 sec",
    "JobRequeue": "0",
    "PreemptType": "preempt/none",
}
SITE = Site(
    config=CONFIG,
    partitions=(GPU, CPU),
    limits=Limits(max_array_size=1001, accounts=("lab",)),
    addresses={"g1": "g1", "g2": "g2"},
    accounting="",
)


def told(topic, **changed):
    found = findings.of_site(replace(SITE, **changed))
    (one,) = [finding for finding in found if finding.topic == topic]
    return one


def test_a_common_site_is_fine_in_every_respect():
    found = findings.of_site(SITE)
    assert {finding.level for finding in found} == {"ok"}
    assert all(finding.found and finding.does for finding in found)


def test_partitions_say_their_gpus_limits_and_who_preempts_them():
    low = replace(CPU, name="scav", tier=0, preempt_mode="REQUEUE", grace_time_s=60)
    config = CONFIG | {"PreemptType": "preempt/partition_prio"}
    found = findings.of_site(replace(SITE, config=config, partitions=(GPU, low)))
    gpu, scav = [finding.found for finding in found if finding.topic == "partition"]
    assert "gpu (default): 4 nodes, up to 4 × a100, 32 cores and 256 GB each, 480 min" in gpu
    assert "no time limit, preempted by gpu (REQUEUE, 60 s of grace)" in scav


@pytest.mark.parametrize(
    ("topic", "changed", "level", "said"),
    [
        ("partition", {"partitions": (replace(GPU, state="DOWN"),)}, "note", "state DOWN"),
        ("partition", {"partitions": ()}, "problem", "you see no partition"),
        ("limits", {"limits": Limits(unknown="a\nAccess denied")}, "note", "Access denied"),
        ("limits", {"limits": Limits(max_submit=5)}, "ok", "at most 5 in the queue"),
        ("accounting", {"accounting": "the site keeps no accounts"}, "note", "keeps no accounts"),
        ("addresses", {"addresses": {"a": "h", "b": "h"}}, "note", "2 nodes share 1 address"),
        ("kill wait", {"config": CONFIG | {"KillWait": "5 sec"}}, "note", "5 s"),
        ("kill wait", {"config": {}}, "ok", "unknown"),
        ("requeue", {"config": CONFIG | {"JobRequeue": "1"}}, "ok", "requeued by default"),
        (
            "sbatch on nodes",
            {"partitions": (replace(GPU, submit_from="login[1-2]"),)},
            "note",
            "only from login[1-2]",
        ),
    ],
)
def test_what_differs_from_a_common_site_is_told(topic, changed, level, said):
    found = told(topic, **changed)
    assert (found.level, said in found.found) == (level, True)


def test_no_gpu_anywhere_is_a_note():
    found = findings.of_site(replace(SITE, partitions=(CPU,)))
    assert [one.found for one in found if one.level == "note"] == ["no partition has GPUs"]


@pytest.mark.parametrize(
    ("grace", "parameters", "level", "said"),
    [
        (0, "preempt_send_user_signal", "note", "grace 0 s, pilots get their signal"),
        (60, "(null)", "ok", "grace 60 s, TERM only"),
    ],
)
def test_preemption_says_what_a_pilot_hears(grace, parameters, level, said):
    low = replace(CPU, tier=0, preempt_mode="REQUEUE", grace_time_s=grace)
    config = {"PreemptType": "preempt/partition_prio", "SlurmctldParameters": parameters}
    found = told("preemption", partitions=(GPU, low), config=config)
    assert found.level == level
    assert said in found.found


def test_a_profile_is_judged_by_its_problems_and_notes():
    assert [one.level for one in findings.of_profile("mine", Verdict())] == ["ok"]
    both = findings.of_profile("mine", Verdict(problems=("a", "b"), notes=("c",)))
    assert [one.level for one in both] == ["problem", "problem", "note"]
