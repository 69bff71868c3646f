"""Submission to an sbatch whose answers a test bed cannot give; real ones: tests/slurm."""

import pytest

from cluster import profile as profiles
from cluster.errors import ClusterError, NoAnswerError
from cluster.slurm import Limits
from orchestrator import jobs, pool, submission, watch
from orchestrator.events import Journal, progress, read_events
from orchestrator.folder import Folder

REFUSAL = "Job violates accounting/QOS policy (job submit limit, user's size and/or time limits)"
SBATCH = """#!/bin/sh
echo "$1" >> {calls}
size=$(sed -n 's/^#SBATCH --array=0-\\([0-9]*\\)%.*/\\1/p' "$1")
room={room}
used=$(cat {used})
[ $((used + ${{size:-0}} + 1)) -gt $room ] && {{ echo "{refusal}" >&2; exit 1; }}
echo $((used + ${{size:-0}} + 1)) > {used}
echo "Submitted batch job $((1000 + used))"
"""


@pytest.fixture
def site(tmp_path, monkeypatch):
    """A site with room for some jobs; returns how to set that, and the sweep's folder."""
    programs = tmp_path / "bin"
    programs.mkdir()
    monkeypatch.setenv("PATH", f"{programs}:/usr/bin:/bin")
    monkeypatch.setattr(pool, "PACE_S", 0.0)
    (tmp_path / "used").write_text("0")
    (tmp_path / "calls").write_text("")
    folder = Folder(tmp_path / "a 'b' $(touch hurt)")
    folder.create()

    def make(*, room, refusal=REFUSAL):
        text = SBATCH.format(
            room=room, refusal=refusal, used=tmp_path / "used", calls=tmp_path / "calls"
        )
        for name, content in (("sbatch", text), ("srun", "#!/bin/sh\n")):
            (programs / name).write_text(content)
            (programs / name).chmod(0o755)
        return folder

    return make


def profile(**changes):
    return profiles.parse({"kind": "slurm", **changes}, where="test")


def submitter(folder, limits=None, **changes):
    journal = Journal(folder, "launch")
    return pool.Submitter(
        folder, profile(**changes), journal, by="launch", limits=limits or Limits()
    )


def told(folder, *names):
    return [event for event in read_events(folder) if event["event"] in names]


def test_each_submission_has_a_tag_that_is_written_down_before_it(site):
    folder = site(room=9)
    taken = submitter(folder).pilots(3)
    assert taken == pool.Taken(jobs=("1000_0", "1000_1", "1000_2"))
    before, *after = told(folder, "submitting", "submitted")
    assert (before["event"], before["role"], before["count"]) == ("submitting", "pilot", 3)
    assert [event["job"] for event in after] == list(taken.jobs)
    assert {event["tag"] for event in after} == {before["tag"]}
    assert {(event["size"], event["gpus"], event["by"]) for event in after} == {
        ("normal", 1, "launch")
    }
    (script,) = (folder.pool / "submitit").glob("1000_submission.sh")
    assert f"--comment={before['tag']}\n" in script.read_text()


def test_arrays_are_split_where_the_site_bounds_them(site, tmp_path):
    folder = site(room=99)
    taken = submitter(folder, Limits(max_array_size=4)).pilots(9)
    assert len(taken.jobs) == 9 and not taken.refused
    assert len((tmp_path / "calls").read_text().splitlines()) == 3


def test_what_a_submit_limit_leaves_room_for_is_kept(site):
    folder = site(room=5)
    taken = submitter(folder).pilots(8)
    assert len(taken.jobs) == 5 and taken.limited and "submit limit" in taken.refused
    tags = {event["tag"] for event in told(folder, "submitted", "refused")}
    assert tags == {event["tag"] for event in told(folder, "submitting")}


def test_a_known_limit_is_not_tried_out(site, tmp_path):
    folder = site(room=99)
    taken = submitter(folder, Limits(max_submit=4)).pilots(8, others=1)
    assert len(taken.jobs) == 3 and taken.limited
    assert len((tmp_path / "calls").read_text().splitlines()) == 1
    full = submitter(folder, max_submitted=2).pilots(2, others=2)
    assert full.jobs == () and full.limited


def test_another_refusal_is_not_met_with_fewer_pilots(site, tmp_path):
    folder = site(room=0, refusal="invalid partition specified: gpux")
    taken = submitter(folder).pilots(8)
    assert taken.jobs == () and not taken.limited and "gpux" in taken.refused
    assert len((tmp_path / "calls").read_text().splitlines()) == 1
    with pytest.raises(ClusterError, match="gpux"):
        submitter(folder).driver(print)
    assert not taken.silent and progress(folder).untracked == []


TIMED_OUT = "sbatch: error: Batch job submission failed: Socket timed out on send/recv operation"


@pytest.mark.parametrize(
    "answer",
    [
        f"echo '{TIMED_OUT}' >&2; exit 1",
        "echo 'sbatch: error: Unable to contact slurm controller (connect failure)' >&2; exit 1",
        "echo 'done (job submit limit)'",
        "kill -KILL $$",
        "exit 1",
    ],
)
def test_what_slurm_may_have_taken_is_not_written_down_as_refused(site, tmp_path, answer):
    folder = site(room=9)
    (tmp_path / "bin" / "sbatch").write_text(f"#!/bin/sh\n{answer}\n")
    made = submitter(folder)
    with pytest.raises(NoAnswerError, match="did not say whether it took the job") as caught:
        made.driver(print)
    assert f"sweep status {folder.name}" in caught.value.hint
    taken = made.pilots(8)
    assert taken.silent and taken.jobs == () and not taken.limited
    tags = [event["tag"] for event in told(folder, "submitting")]
    assert len(tags) == 2 and progress(folder).untracked == tags
    assert not told(folder, "refused", "submitted")


def test_a_driver_that_slurm_took_without_a_word_is_shown_and_cancelled(site, tmp_path, capsys):
    folder = site(room=9)
    tag, ended = tmp_path / "tag", tmp_path / "ended"
    keep = f"sed -n 's/^#SBATCH --comment=//p' \"$1\" > {tag}"
    programs = {
        "sbatch": f"{keep}; echo '{TIMED_OUT}' >&2; exit 1",
        "squeue": f'echo "77|PENDING||N/A|10:00|0:00|Priority|$(cat {tag})"',
        "scancel": f'echo "$*" > {ended}',
    }
    for name, text in programs.items():
        (tmp_path / "bin" / name).write_text(f"#!/bin/sh\n{text}\n")
        (tmp_path / "bin" / name).chmod(0o755)
    folder.plan.touch()
    with pytest.raises(NoAnswerError):
        submitter(folder).driver(print)
    watch.status(folder, mode="text")
    shown = capsys.readouterr().out
    assert "77 queued (Priority)" in shown and "nothing runs" not in shown
    seen = watch.value(folder)
    assert seen["running"] and seen["jobs"][0]["id"] == "77"
    assert jobs.cancel(folder) == ["77"] and ended.read_text() == "--quiet 77\n"


def test_a_launch_that_cannot_know_of_its_pilots_says_so_and_takes_its_driver_back(site, tmp_path):
    folder = site(room=9)
    first = f"[ -e {tmp_path}/driver ] || {{ touch {tmp_path}/driver; echo job 5; exit; }}"
    programs = {
        "sbatch": f"{first}\necho '{TIMED_OUT}' >&2; exit 1",
        "scancel": f'echo "$*" >> {tmp_path}/ended',
    }
    for name, text in programs.items():
        (tmp_path / "bin" / name).write_text(f"#!/bin/sh\n{text}\n")
        (tmp_path / "bin" / name).chmod(0o755)
    journal = Journal(folder, "launch")
    with pytest.raises(NoAnswerError, match="Socket timed out") as caught:
        submission.submit(folder, profile(), "setting", journal, pilots=2)
    assert "sweep cancel" in caught.value.hint
    assert (tmp_path / "ended").read_text() == "--quiet 5\n"
    assert len(progress(folder).untracked) == 1


def test_sbatch_is_called_once_a_second_at_most(site, monkeypatch):
    naps = []
    monkeypatch.setattr(pool, "PACE_S", 1.0)
    monkeypatch.setattr(pool.time, "sleep", naps.append)
    made = submitter(site(room=99), Limits(max_array_size=2))
    made.driver(print)
    made.pilots(4)
    assert naps[0] == 0 and all(0.5 < nap <= 1 for nap in naps[1:]) and len(naps) == 3


def test_nothing_from_a_path_or_a_profile_reaches_a_shell_unquoted(site):
    folder = site(room=9)
    hostile = "a b; touch hurt $(touch hurt) 'q'"
    scripts = pool.scripts(folder, profile(account=hostile, sbatch={"reservation": hostile}))
    assert set(scripts) == {"driver", "pilot"}
    quoted = "'a b; touch hurt $(touch hurt) '\"'\"'q'\"'\"''"
    for text in scripts.values():
        assert f"#SBATCH --account={quoted}" in text and f"--reservation={quoted}" in text
        commands = [line for line in text.splitlines() if line and not line.startswith("#")]
        assert all(
            "$(touch hurt)" not in line.replace("b'\"'\"' $(touch hurt)", "") for line in commands
        )
    assert "#SBATCH --no-requeue" in scripts["pilot"] and "#SBATCH --requeue" in scripts["driver"]
    assert not (folder.pool / "submitit").exists()


def test_a_large_pilot_takes_the_larger_class_and_avoids_sick_nodes(site):
    folder = site(room=9)
    larger = {"partition": "big", "gpus": 2, "memory_gb": 64}
    submitter(folder, larger=larger, exclude="n9").pilots(1, size="large", avoid=["n2", "n1"])
    (script,) = (folder.pool / "submitit").glob("*_submission.sh")
    text = script.read_text()
    for line in ("--partition=big", "--gpus-per-node=2", "--mem=65536MB", "--exclude=n9,n1,n2"):
        assert f"#SBATCH {line}\n" in text
    assert told(folder, "submitted")[0]["gpus"] == 2


def test_a_driver_that_serves_packs_itself_is_submitted_as_a_pilot_that_comes_back(site):
    folder = site(room=9)
    text = pool.scripts(folder, profile(driver={"inside": True}, gpus=4))["driver"]
    assert "--gpus-per-node=4\n" in text and "--requeue" in text and "no-requeue" not in text
