"""Ask SLURM, through its own programs; the only file that runs them for the orchestrator.

Every call is bounded by a timeout and fails as `ClusterError` with the command and what it wrote to
stderr. The texts are read by `cluster.slurm_text`. Submission is not here: submitit does it
(orchestrator/pool.py). Which cluster answers is the caller's `SLURM_CONF`; times come back in UTC.
"""

import logging
import os
import pwd
import shlex
import subprocess
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime

from cluster import slurm_site, slurm_text
from cluster.errors import ClusterError
from cluster.slurm_site import QOS_FIELDS, USER_FIELDS
from cluster.slurm_site import Limits as Limits
from cluster.slurm_site import Partition as Partition
from cluster.slurm_text import Account as Account
from cluster.slurm_text import Estimate as Estimate
from cluster.slurm_text import Job as Job

log = logging.getLogger(__name__)

# Users may set these to change what squeue, sacct, sinfo and scancel select and how they print it.
USER_FORMATS = ("SQUEUE_", "SACCT_", "SINFO_", "SCANCEL_")
MESSAGE_CHARS = 2000
GONE = ("Invalid job id specified", "completing or completed", "no longer pending execution")
QUEUE_FORMAT = "%i|%T|%N|%S|%L|%M|%r"


def call(
    command: Sequence[str],
    *,
    timeout_s: float,
    env: Mapping[str, str] | None = None,
    stdin: str = "",
) -> subprocess.CompletedProcess[str]:
    """Run a program to its end, at most `timeout_s` seconds.

    Raises:
        ClusterError: It is not installed, did not answer in time, or failed.
    """
    shown = shlex.join(command)
    shown = shown if len(shown) <= 300 else f"{shown[:300]}…"
    try:
        done = subprocess.run(
            list(command),
            input=stdin,
            capture_output=True,
            encoding="utf-8",
            errors="replace",
            timeout=timeout_s,
            env=_environment() if env is None else dict(env),
            check=False,
        )
    except FileNotFoundError as error:
        raise ClusterError(
            f"{command[0]!r} is not installed here",
            hint="use a SLURM login node, or bring up the test bed: python -m cluster.testbed up",
        ) from error
    except subprocess.TimeoutExpired as error:
        raise ClusterError(
            f"no answer within {timeout_s:g} s from: {shown}",
            hint="SLURM is busy or down, see: scontrol ping",
        ) from error
    if done.returncode != 0:
        said = (done.stderr.strip() or done.stdout.strip())[-MESSAGE_CHARS:]
        raise ClusterError(f"exit code {done.returncode} from: {shown}\n{said}")
    return done


def available(*, timeout_s: float = 5) -> bool:
    """Whether SLURM's programs are here and a controller answers."""
    try:
        return " is UP" in call(["scontrol", "ping"], timeout_s=timeout_s).stdout
    except ClusterError as error:
        log.debug("slurm is not available: %s", error.message)
        return False


def configured(*, timeout_s: float = 5) -> bool:
    """Whether SLURM's programs are here and know of a cluster, be it reachable or not."""
    absent = ("Could not establish a configuration source", "is not installed here")
    try:
        call(["scontrol", "ping"], timeout_s=timeout_s)
    except ClusterError as error:
        return not any(text in error.message for text in absent)
    return True


def queue(job_ids: Sequence[str], *, timeout_s: float = 10, ended: bool = False) -> dict[str, Job]:
    """Find the asked jobs that wait, run or are completing, with one squeue call.

    Args:
        job_ids: `12` (all elements if it is an array, each by its id) or `12_3`.
        timeout_s: for the one call.
        ended: also those that ended and that the controller still remembers (MinJobAge seconds).

    Raises:
        ClusterError: squeue failed or did not answer.
    """
    if not job_ids:
        return {}
    arrays = ",".join(dict.fromkeys(slurm_text.array(job_id) for job_id in job_ids))
    command = ["squeue", "--noheader", "--states=all", f"--format={QUEUE_FORMAT}"]
    try:
        text = call([*command, f"--jobs={arrays}"], timeout_s=timeout_s).stdout
    except ClusterError as error:
        # Only said when a single job was asked for; of several, the unknown ones are left out.
        if "Invalid job id specified" not in error.message:
            raise
        return {}
    jobs = slurm_text.parse_queue(text, wanted=job_ids)
    return {job.id: job for job in jobs if ended or job.state not in slurm_text.ENDED}


def queue_by_tag(tags: Sequence[str], *, timeout_s: float = 10) -> dict[str, Job]:
    """Find this user's jobs that were submitted with one of these comments, with one squeue call.

    Raises:
        ClusterError: squeue failed or did not answer.
    """
    if not tags:
        return {}
    user = f"--user={os.getuid()}"
    command = ["squeue", "--noheader", "--states=all", user, f"--format={QUEUE_FORMAT}|%k"]
    found = slurm_text.parse_tagged(call(command, timeout_s=timeout_s).stdout, tags=tags)
    return {job.id: job for job in found if job.state not in slurm_text.ENDED}


def requeue(job_id: str, *, timeout_s: float = 30) -> None:
    """Let a running job end now and start again later under its id.

    Raises:
        ClusterError: SLURM refused it (submitted with --no-requeue, not ours, ended) or is away.
    """
    call(["scontrol", "requeue", job_id], timeout_s=timeout_s)


def restarts(job_id: str, *, timeout_s: float = 5) -> int:
    """Count how often a job was requeued, a requeue that has only begun among them.

    Raises:
        ClusterError: The controller does not know the job, or does not answer.
    """
    shown = call(["scontrol", "--oneliner", "show", "job", job_id], timeout_s=timeout_s).stdout
    return slurm_text.parse_restarts(shown)


def update_excluded(job_ids: Sequence[str], nodes: Sequence[str], *, timeout_s: float = 30) -> None:
    """Let pending jobs avoid these nodes and no others; those that no longer wait are fine.

    Raises:
        ClusterError: scontrol failed for another reason, or did not answer.
    """
    if not job_ids:
        return
    what = f"JobId={','.join(job_ids)}", f"ExcNodeList={','.join(nodes)}"
    try:
        call(["scontrol", "update", *what], timeout_s=timeout_s)
    except ClusterError as error:
        _raise_unless_gone(error)


def cancel(job_ids: Sequence[str], *, signal: str = "", timeout_s: float = 30) -> None:
    """Cancel jobs, or only send them a signal; those that have ended or never were are fine.

    Raises:
        ClusterError: scancel failed for another reason, or did not answer.
    """
    if not job_ids:
        return
    option = [f"--signal={signal}"] if signal else []
    try:
        call(["scancel", "--quiet", *option, *job_ids], timeout_s=timeout_s)
    except ClusterError as error:
        _raise_unless_gone(error)


def account(
    job_ids: Sequence[str], *, since: datetime, timeout_s: float = 20
) -> dict[str, Account]:
    """Ask accounting (sacct) how jobs ended; never fails because accounting does.

    Accounting may be off, and lags behind the queue by seconds: a job it does not know yet is
    `UNKNOWN`, so a caller decides by `queue` and its own files first.

    Args:
        job_ids: `12` (all elements if it is an array) or `12_3`.
        since: an aware time before the jobs were submitted.
        timeout_s: for the one call.
    """
    if not job_ids:
        return {}
    arrays = ",".join(dict.fromkeys(slurm_text.array(job_id) for job_id in job_ids))
    fields = "JobID,State,ExitCode,ElapsedRaw,NodeList,Start,End"
    command = ["sacct", "--noheader", "--parsable2", f"--jobs={arrays}", f"--format={fields}"]
    begin = since.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%S")
    try:
        text = call([*command, f"--starttime={begin}"], timeout_s=timeout_s).stdout
        told = slurm_text.parse_account(text, wanted=job_ids)
    except ClusterError as error:
        log.warning("accounting does not answer: %s", error.message)
        told = []
    found = {one.id: one for one in told}
    known = {slurm_text.array(job_id) for job_id in found}
    for job_id in job_ids:
        if job_id not in found and not ("_" not in job_id and job_id in known):
            found[job_id] = Account(id=job_id)
    return found


def partitions(*, timeout_s: float = 10) -> list[Partition]:
    """List the partitions that this user sees, in SLURM's order."""
    shown = call(["scontrol", "--oneliner", "show", "partition"], timeout_s=timeout_s).stdout
    nodes = call(["sinfo", "--noheader", "--exact", "--format=%R|%G|%c|%m"], timeout_s=timeout_s)
    return slurm_site.parse_partitions(shown, nodes=nodes.stdout)


def addresses(*, timeout_s: float = 10) -> dict[str, str]:
    """Find how SLURM reaches each node."""
    command = ["sinfo", "--noheader", "--Node", "--format=%N|%o"]
    lines = call(command, timeout_s=timeout_s).stdout.splitlines()
    return dict(line.split("|", 1) for line in lines if "|" in line)


def config(*, timeout_s: float = 10) -> dict[str, str]:
    """Read the cluster's configuration (`MaxArraySize`, `ClusterName`, ...) as SLURM prints it."""
    return slurm_site.parse_config(call(["scontrol", "show", "config"], timeout_s=timeout_s).stdout)


def limits(
    *,
    account: str | None = None,
    qos: str | None = None,
    partition: str | None = None,
    settings: Mapping[str, str] | None = None,
    here: Sequence[Partition] | None = None,
    timeout_s: float = 10,
) -> Limits:
    """Ask what the site allows this user's jobs; accounting that does not answer is no error.

    `settings` and `here` are what `config` and `partitions` returned: asked for unless given. At
    most five calls, each of at most `timeout_s` seconds.

    Raises:
        ClusterError: The controller does not answer.
    """
    settings = config(timeout_s=timeout_s) if settings is None else settings
    here = partitions(timeout_s=timeout_s) if here is None else here
    ask = ["sacctmgr", "--noheader", "--parsable2", "--readonly", "show"]
    mine = ["user", _own_name(), "withassoc", f"cluster={settings.get('ClusterName', '')}"]
    wanted = ([*mine, f"format={USER_FIELDS}"], ["qos", f"format={QOS_FIELDS}"])
    try:
        users, services = (call([*ask, *what], timeout_s=timeout_s).stdout for what in wanted)
    except ClusterError as error:
        return slurm_site.merge(Limits(unknown=error.message), settings)
    names = {"account": account, "named_qos": qos}
    place = slurm_site.find(here, partition)
    known = slurm_site.parse_limits(users, qos=services, partition=place, **names)
    return slurm_site.merge(known, settings)


def test_only(script: str, *, timeout_s: float = 20) -> Estimate:
    """Let SLURM check a batch script and say when it would start; nothing is submitted.

    A walltime above the partition's limit may pass: compare it with `partitions` yourself.

    Raises:
        ClusterError: The request can never run here (too many GPUs, no such partition, ...).
    """
    done = call(["sbatch", "--test-only"], timeout_s=timeout_s, stdin=script)
    return slurm_text.parse_estimate(done.stderr)


def _environment() -> dict[str, str]:
    """Take the caller's environment without what would change SLURM's answers.

    Array expressions are cut at 64 characters unless SLURM_BITSTR_LEN is 0 (squeue(1)).
    """
    fixed = {"LC_ALL": "C.UTF-8", "TZ": "UTC", "SLURM_TIME_FORMAT": "standard"}
    kept = {key: value for key, value in os.environ.items() if not key.startswith(USER_FORMATS)}
    return kept | fixed | {"SLURM_BITSTR_LEN": "0"}


def _own_name() -> str:
    try:
        return pwd.getpwuid(os.getuid()).pw_name
    except KeyError:
        return str(os.getuid())


def _raise_unless_gone(error: ClusterError) -> None:
    said = error.message.splitlines()[1:]
    if not said or any(not any(word in line for word in GONE) for line in said):
        raise error
