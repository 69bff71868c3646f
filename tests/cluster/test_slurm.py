"""Texts as SLURM 22.05 printed them on the test bed; the calls themselves: tests/slurm."""

import contextlib
import subprocess
from datetime import UTC, datetime
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cluster import slurm, slurm_site, slurm_text
from cluster.errors import ClusterError

QUEUE = """\
45720003|FAILED|n1|2026-11-23T20:39:31|10:00|0:00|NonZeroExitCode
45720001_[10-40:3%2]|PENDING||N/A|10:00|0:00|JobArrayTaskLimit
45720005|PENDING||N/A|1-01:40:00|0:00|PartitionTimeLimit
45720001_4|RUNNING|n1|2026-11-23T20:39:31|9:58|0:02|None
45720007|RUNNING|n[1-2]|2026-11-23T20:39:31|UNLIMITED|1:00:03|odd | reason
"""
ACCOUNTS = """\
3|FAILED|3:0|0|n1|2026-11-23T20:39:31|2026-11-23T20:39:31
3.batch|FAILED|3:0|0|n1|2026-11-23T20:39:31|2026-11-23T20:39:31
4|FAILED|1:0|12|n1|2026-11-23T20:39:31|2026-11-23T20:39:43
4.0|OUT_OF_MEMORY|0:125|12|n1|2026-11-23T20:39:31|2026-11-23T20:39:43
5|CANCELLED by 0|0:15|0|None assigned|None|2026-11-23T20:39:31
6_2|COMPLETED|0:0|7|n3|2026-11-23T20:39:31|2026-11-23T20:39:38
6_[1-3]|PENDING|0:0|0|None assigned|Unknown|Unknown
"""
BEGUN = datetime(2026, 11, 23, 20, 39, 31, tzinfo=UTC)


def test_queue_lines_become_jobs() -> None:
    jobs = {job.id: job for job in slurm_text.parse_queue(QUEUE, wanted=["45720003", "45720007"])}
    assert jobs["45720007"] == slurm.Job(
        id="45720007",
        state="RUNNING",
        reason="odd | reason",
        node="n[1-2]",
        start=BEGUN,
        time_left_s=None,
        elapsed_s=3603,
    )
    assert list(jobs) == ["45720003", "45720007"]


def test_a_wanted_array_gives_all_its_elements() -> None:
    jobs = slurm_text.parse_queue(QUEUE, wanted=["45720001"])
    waiting = [f"45720001_{index}" for index in range(10, 41, 3)]
    assert [job.id for job in jobs] == [*waiting, "45720001_4"]
    assert jobs[-1].time_left_s == 9 * 60 + 58


def test_a_wanted_element_is_found_in_the_pending_range() -> None:
    (job,) = slurm_text.parse_queue(QUEUE, wanted=["45720001_13", "45720001_14"])
    assert (job.id, job.state, job.reason) == ("45720001_13", "PENDING", "JobArrayTaskLimit")
    assert job.start is None


def test_jobs_are_found_by_their_comment_among_others_with_hostile_ones() -> None:
    text = (
        "7_[1-2]|PENDING||N/A|10:00|0:00|Priority|sweep-a\n"
        "8|RUNNING|n1|2026-11-23T20:39:31|9:58|0:02|None|x|y\n"
        "9|RUNNING|n1|2026-11-23T20:39:31|9:58|0:02|None|first line\n"
        "sweep-a\n"
        "10|RUNNING|n1|2026-11-23T20:39:31|9:58|0:02|None|sweep-b\n"
    )
    found = slurm_text.parse_tagged(text, tags=["sweep-a", "sweep-b"])
    assert [(job.id, job.tag) for job in found] == [
        ("7_1", "sweep-a"),
        ("7_2", "sweep-a"),
        ("10", "sweep-b"),
    ]
    assert found[2].elapsed_s == 2


@pytest.mark.parametrize(
    ("expression", "elements"),
    [
        ("12", ["12"]),
        ("12_3", ["12_3"]),
        ("12_[4-6%2]", ["12_4", "12_5", "12_6"]),
        ("12_[4-9:5,11,13-14%1]", ["12_4", "12_9", "12_11", "12_13", "12_14"]),
        ("12+1", ["12+1"]),
    ],
)
def test_array_expressions_expand(expression: str, elements: list[str]) -> None:
    assert slurm_text.expand(expression) == elements


def test_an_array_expression_that_was_cut_short_is_refused() -> None:
    with pytest.raises(ClusterError, match=r"12_\[1,3,\.\.\.\]"):
        slurm_text.expand("12_[1,3,...]")


@given(st.sets(st.integers(0, 10_000), min_size=1, max_size=30), st.integers(1, 99))
def test_any_list_of_elements_expands_to_itself(indices: set[int], limit: int) -> None:
    expression = f"7_[{','.join(map(str, sorted(indices)))}%{limit}]"
    assert slurm_text.expand(expression) == [f"7_{index}" for index in sorted(indices)]


@given(st.integers(0, 400), st.integers(0, 23), st.integers(0, 59), st.integers(0, 59))
def test_durations_are_read_in_all_their_forms(
    days: int, hours: int, minutes: int, seconds: int
) -> None:
    total = ((days * 24 + hours) * 60 + minutes) * 60 + seconds
    assert slurm_text.parse_duration(f"{days}-{hours:02}:{minutes:02}:{seconds:02}") == total
    if not days:
        assert slurm_text.parse_duration(f"{hours}:{minutes:02}:{seconds:02}") == total


@pytest.mark.parametrize("text", ["UNLIMITED", "INVALID", "NOT_SET", "N/A", ""])
def test_what_is_no_duration_is_none(text: str) -> None:
    assert slurm_text.parse_duration(text) is None


def test_accounts_tell_how_jobs_ended() -> None:
    wanted = ["3", "4", "5", "6"]
    found = {one.id: one for one in slurm_text.parse_account(ACCOUNTS, wanted=wanted)}
    assert list(found) == ["3", "4", "5", "6_2", "6_1", "6_3"]
    assert (found["3"].state, found["3"].exit_code, found["3"].signal) == ("FAILED", 3, 0)
    assert (found["5"].state, found["5"].signal, found["5"].node) == ("CANCELLED", 15, "")
    assert found["5"].start is None


def test_a_step_out_of_memory_explains_its_job() -> None:
    (found,) = slurm_text.parse_account(ACCOUNTS, wanted=["4"])
    assert found.state == "OUT_OF_MEMORY"
    assert (found.elapsed_s, found.start) == (12, BEGUN)


def test_an_element_that_ended_counts_before_the_waiting_range_of_its_array() -> None:
    for text in (ACCOUNTS, "".join(reversed(ACCOUNTS.splitlines(keepends=True)))):
        (found,) = slurm_text.parse_account(text, wanted=["6_2"])
        assert found.state == "COMPLETED"


def test_lines_with_other_fields_are_left_out_and_numbers_may_be_missing() -> None:
    odd = "squeue: a word to all users\n\n7|RUNNING\n"
    jobs = slurm_text.parse_queue(odd + QUEUE, wanted=["7", "45720003"])
    assert [job.id for job in jobs] == ["45720003"]
    bare = "9|FAILED|||n1||\n10.batch\n10|FAILED\n11.0|FAILED|0:0|0\n"
    (found,) = slurm_text.parse_account(bare, wanted=["9", "10", "11"])
    assert (found.id, found.exit_code, found.signal, found.elapsed_s) == ("9", None, None, 0)
    assert slurm_text.parse_time("2026-13-45T25:61:00") is None


PIECES = st.sampled_from(
    ["\n", "|", "12", "12_", "[1-5:0]", "[0-3]", "12_[8-9", ".batch", ":", "-", "RUNNING", "x", "٣",
     "OUT_OF_MEMORY", "2026-11-23T20:39:31", "2026-99-99T99:99:99", "9" * 5000, "Restarts=",
     "to start at ", " on nodes n1", "gpu:a100:", "gres/gpu=", "=", ",", "PartitionName=p ",
     "MaxTime=", "TotalNodes=", "TRES=", " ", *QUEUE.splitlines(), *ACCOUNTS.splitlines()]
)  # fmt: skip
TEXTS = st.lists(PIECES | st.text(max_size=3), max_size=40).map("".join)


@given(TEXTS, TEXTS)
def test_no_text_is_a_bug_of_ours(text: str, other: str) -> None:
    asked = ["12", "3", "45720001", ""]
    for read in (
        lambda: slurm_text.parse_queue(text, wanted=asked),
        lambda: slurm_text.parse_tagged(text, tags=["", "12"]),
        lambda: slurm_text.parse_account(text, wanted=asked),
        lambda: slurm_text.parse_estimate(text),
        lambda: slurm_text.parse_restarts(text),
        lambda: slurm_site.parse_partitions(text, nodes=other),
        lambda: slurm_site.merge(slurm.Limits(), slurm_site.parse_config(text)),
        lambda: slurm_site.parse_limits(
            text, qos=other, account=None, named_qos=None, partition=None
        ),
    ):
        with contextlib.suppress(ClusterError):
            read()


@pytest.mark.parametrize("digits", ["9" * 5000, "²", "-1", "", "1-1-1", "0"])
def test_no_number_is_a_bug_of_ours(digits: str) -> None:
    slurm_text.parse_account(f"12|FAILED|{digits}:{digits}|{digits}|n1|None|None", wanted=["12"])
    slurm_text.parse_restarts(f"Restarts={digits}")
    slurm_text.parse_duration(f"{digits}-{digits}:{digits}:00")
    nodes = f"gpu|gpu:a100:{digits}|{digits}|{digits}"
    slurm_site.parse_partitions(f"PartitionName=gpu TotalNodes={digits}", nodes=nodes)
    row = "|".join(["lab", "lab", "", *[digits] * 5, *[f"gres/gpu={digits}"] * 2, "", ""])
    slurm_site.parse_limits(row, qos="", account=None, named_qos=None, partition=None)
    for elements in (f"1-{digits}:2", digits, f"1-2:{digits}"):
        with contextlib.suppress(ClusterError):
            slurm_text.expand(f"12_[{elements}]")


def test_an_estimate_names_time_and_node() -> None:
    said = (
        "sbatch: Job 45720009 to start at 2026-11-23T20:39:31 using 2 processors "
        "on nodes n[1-2] in partition gpu\n"
    )
    assert slurm_text.parse_estimate(said) == slurm.Estimate(start=BEGUN, node="n[1-2]")


def test_an_answer_without_an_estimate_is_refused() -> None:
    with pytest.raises(ClusterError, match="no estimate: 'sbatch: hm'"):
        slurm_text.parse_estimate("sbatch: hm\n")


def test_no_ids_need_no_call(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", "")
    assert slurm.queue([]) == {}
    assert slurm.account([], since=BEGUN) == {}
    slurm.cancel([])
    slurm.update_excluded([], ["n1"])
    assert slurm.queue_by_tag([]) == {}


def test_without_slurm_it_is_not_available(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", "")
    assert not slurm.available()
    with pytest.raises(ClusterError, match="'squeue' is not installed") as caught:
        slurm.queue(["1"])
    assert "cluster.testbed up" in caught.value.hint


def fake(folder: Path, name: str, script: str) -> None:
    """Put a program on a PATH folder, for an answer that a test bed cannot give."""
    program = folder / name
    program.write_text(f"#!/bin/sh\n{script}\n")
    program.chmod(0o755)


@pytest.fixture
def path(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("PATH", f"{tmp_path}:/usr/bin:/bin")
    return tmp_path


def test_a_slow_controller_is_given_up_on(path: Path) -> None:
    fake(path, "squeue", "exec sleep 60")
    with pytest.raises(ClusterError, match=r"no answer within 0\.1 s from: squeue") as caught:
        slurm.queue(["1"], timeout_s=0.1)
    assert isinstance(caught.value.__cause__, subprocess.TimeoutExpired)


def test_a_failure_shows_command_and_stderr(path: Path) -> None:
    fake(path, "scancel", "echo 'access denied' >&2; exit 4")
    with pytest.raises(ClusterError, match=r"exit code 4 from: scancel --quiet 7\naccess denied"):
        slurm.cancel(["7"])


def test_accounting_that_is_off_makes_every_job_unknown(path: Path) -> None:
    fake(path, "sacct", "echo 'Slurm accounting storage is disabled' >&2; exit 1")
    found = slurm.account(["7", "8_1"], since=BEGUN)
    assert found == {"7": slurm.Account(id="7"), "8_1": slurm.Account(id="8_1")}
    assert found["7"].state == slurm_text.UNKNOWN


def test_users_formats_do_not_reach_slurm(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SQUEUE_STATES", "PENDING")
    fake(path, "squeue", 'echo "7|RUNNING|$SLURM_BITSTR_LEN|N/A|1:00|0:01|$SQUEUE_STATES$TZ"')
    (job,) = slurm.queue(["7"]).values()
    assert (job.node, job.reason) == ("0", "UTC")


SITE = """\
case "$*" in
  *config) echo "MaxArraySize = 1001"; echo "MaxJobCount = 10000"
    echo "AccountingStorageEnforce = associations,limits,qos" ;;
  *partition) echo "PartitionName=gpu Default=YES QoS=gpuq MaxTime=1:00:00 State=UP" ;;
esac
"""


def test_limits_of_an_accounting_that_refuses_are_unknown_and_not_an_error(path: Path) -> None:
    fake(path, "scontrol", SITE)
    fake(path, "sinfo", "echo 'gpu|gpu:4|8|8000'")
    fake(path, "sacctmgr", "echo 'Access denied' >&2; exit 1")
    limits = slurm.limits()
    assert (limits.max_array_size, limits.max_job_count) == (1001, 10000)
    assert (limits.max_submit, limits.max_jobs) == (None, None)
    assert "Access denied" in limits.unknown


def test_limits_come_from_account_qos_and_the_partitions_qos(path: Path) -> None:
    fake(path, "scontrol", SITE)
    fake(path, "sinfo", "echo 'gpu|gpu:4|8|8000'")
    user = "lab|lab||9|100||||||normal,long|normal"
    services = "normal|5||||||||\ngpuq||20|||12:00:00|gres/gpu=6|||\nlong|1||||||||"
    fake(path, "sacctmgr", f"case $* in *' user '*) echo '{user}';; *) echo '{services}';; esac")
    limits = slurm.limits()
    assert (limits.max_submit, limits.max_jobs, limits.max_gpus) == (20, 5, 6)
    assert limits.max_wall_s == 12 * 3600
    assert (limits.accounts, limits.qos, limits.unknown) == (("lab",), ("normal", "long"), "")
    assert slurm.limits(qos="long").max_jobs == 1
    assert slurm.limits(account="other").max_submit == 20


def test_a_job_that_may_not_be_requeued_is_told_in_slurms_words(path: Path) -> None:
    fake(path, "scontrol", "echo 'Requested operation is presently disabled' >&2; exit 1")
    with pytest.raises(ClusterError, match="presently disabled"):
        slurm.requeue("7")
