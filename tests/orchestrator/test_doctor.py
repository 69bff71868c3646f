"""`sweep doctor` where there is no SLURM, or one of another kind than the test bed."""

import contextlib
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from cluster import profile
from orchestrator import cli
from orchestrator import doctor as doctor_module
from tests.cluster import sites
from tests.orchestrator import finished


@pytest.fixture
def place(tmp_path, monkeypatch):
    """A folder with an empty PATH, an own configuration and no terminal."""
    for name in ("bin", "results"):
        (tmp_path / name).mkdir()
    monkeypatch.setenv("PATH", str(tmp_path / "bin"))
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "config"))
    monkeypatch.chdir(tmp_path)
    return tmp_path


def doctor(*words):
    return command("doctor", *words)


def launch(spec, *words):
    return command("launch", str(spec), *words)


def command(*words):
    sys.argv = ["sweep", *words]
    with pytest.raises(SystemExit) as done:
        cli.main()
    return done.value.code


@pytest.fixture(autouse=True)
def _arguments(monkeypatch):
    monkeypatch.setattr(sys, "argv", sys.argv)


def test_without_slurm_it_says_local_and_what_that_is(place, capsys):
    assert doctor() == 0
    told = capsys.readouterr()
    assert "none that this machine knows of" in told.out
    assert "cores" in told.out
    assert "kind: local" in told.err
    assert told.out.splitlines()[0].split("\t") == ["level", "topic", "found", "sweep"]


def test_json_is_one_value_with_findings_and_proposal(place, capsys):
    assert doctor("--json") == 0
    told = json.loads(capsys.readouterr().out)
    assert told["proposal"] == {"kind": "local"}
    assert (told["problems"], told["written"]) == (0, None)
    assert set(told["findings"][0]) == {"topic", "level", "found", "does"}


def test_quiet_prints_problems_only_and_they_are_exit_code_1(place, capsys):
    assert doctor("--quiet") == 0
    assert capsys.readouterr().out == ""
    assert doctor("--quiet", "--results", "/proc/sys") == 1
    assert "renames: /proc/sys cannot be written" in capsys.readouterr().out


def test_a_proposal_is_written_only_with_a_yes(place, capsys):
    assert doctor("--write") == 2
    assert "add --yes" in capsys.readouterr().err
    assert not profile.own().exists()
    assert doctor("--write", "--yes") == 0
    assert profile.default() == "default"
    assert profile.load("default").kind == "local"


def test_a_profile_that_was_there_is_kept_beside(place):
    profile.own().mkdir(parents=True)
    mine = profile.own() / "default.yaml"
    mine.write_text("kind: local\nworkers: 3\n")
    assert doctor("--write", "--yes", "--quiet") == 0
    assert profile.load("default").workers is None
    assert mine.with_name("default.yaml.before").read_text() == "kind: local\nworkers: 3\n"


def test_another_site_gets_findings_and_a_profile_that_fits_it(place, capsys, monkeypatch):
    sites.install(place / "bin")
    monkeypatch.setenv("PATH", f"{place / 'bin'}:/usr/bin:/bin")
    doctor("--json", "--write", "--yes")
    told = json.loads(capsys.readouterr().out)
    assert told["written"] == str(profile.own() / "default.yaml")
    made = profile.load("default")
    assert (made.device, made.partition, made.driver.partition) == ("cuda", "gpu", "cpu")
    assert (made.account, made.cpus, made.memory_gb, made.walltime_min) == ("lab", 16, 112, 360)
    doctor("--json", "--cluster", "default")
    again = json.loads(capsys.readouterr().out)
    (fits,) = [one for one in again["findings"] if one["topic"] == "profile"]
    assert fits["level"] == "ok"


def test_a_profile_that_does_not_fit_is_a_problem(place, capsys, monkeypatch):
    sites.install(place / "bin")
    monkeypatch.setenv("PATH", f"{place / 'bin'}:/usr/bin:/bin")
    assert doctor("--quiet", "--cluster", "slurm_a100") == 1
    assert "profile: gpu_type: partition gpu has no 'a100'" in capsys.readouterr().out


def test_a_slurm_that_does_not_answer_is_exit_code_3(place, capsys, monkeypatch):
    sites.install(place / "bin", scontrol="echo 'Unable to contact slurm controller' >&2; exit 1")
    monkeypatch.setenv("PATH", f"{place / 'bin'}:/usr/bin:/bin")
    assert doctor() == 3
    assert "Unable to contact" in capsys.readouterr().err


def test_programs_without_a_cluster_are_no_slurm(place, capsys, monkeypatch):
    unknown = "echo 'error: Could not establish a configuration source' >&2; exit 1"
    sites.install(place / "bin", scontrol=unknown)
    assert doctor() == 0
    assert "kind: local" in capsys.readouterr().err


def test_a_profile_for_slurm_where_there_is_none_is_exit_code_3(place, capsys):
    assert doctor("--cluster", "slurm_a100") == 3
    assert "not installed" in capsys.readouterr().err


def on_a_terminal(program, answer):
    """Run a program on a terminal of its own and answer its one question."""
    ours, theirs = os.openpty()
    child = subprocess.Popen(program, stdin=theirs, stdout=theirs, stderr=theirs)
    os.close(theirs)
    said = b""
    with contextlib.suppress(OSError):  # the terminal ends with the program
        while part := os.read(ours, 4096):
            said += part
            if part.endswith(b"[y/N] "):
                os.write(ours, answer + b"\n")
    os.close(ours)
    assert child.wait(timeout=30) == 0
    return said.decode()


@pytest.mark.parametrize(("answer", "written"), [(b"", False), (b"no", False), (b"y", True)])
def test_a_terminal_is_shown_the_profile_and_asked_with_no_as_the_default(place, answer, written):
    sweep = str(Path(sys.executable).with_name("sweep"))
    said = on_a_terminal([sweep, "doctor", "--write"], answer)
    assert "kind: local" in said
    assert (profile.own() / "default.yaml").exists() is written


@pytest.mark.parametrize(("answer", "written"), [(b"n", False), (b"y", True)])
def test_a_launch_without_a_profile_is_offered_one_on_a_terminal(
    place, answer, written, monkeypatch
):
    sites.install(place / "bin")
    monkeypatch.setenv("PATH", f"{place / 'bin'}:/usr/bin:/bin")
    program = "from orchestrator import doctor; print('offered', doctor.offer())"
    said = on_a_terminal([sys.executable, "-c", program], answer)
    assert "partition: gpu" in said
    assert f"offered {written}" in said
    assert (profile.own() / "default.yaml").exists() is written


@pytest.mark.parametrize("accepted", [False, True])
def test_a_launch_that_no_profile_serves_goes_on_with_the_one_that_was_offered(
    place, accepted, monkeypatch, capsys
):
    sites.install(place / "bin")
    spec = finished.write_spec(place)

    def offer():
        if accepted:
            profile.own().mkdir(parents=True)
            (profile.own() / "default.yaml").write_text("kind: local\n")
        return accepted

    monkeypatch.setattr(doctor_module, "offer", offer)
    assert launch(spec, "--dry-run") == (0 if accepted else 2)
    told = capsys.readouterr()
    assert ("to train" in told.out) is accepted
    assert ("sweep doctor --write" in told.err) is not accepted
    monkeypatch.setattr(doctor_module, "offer", pytest.fail)
    (profile.own() / "default.yaml").unlink(missing_ok=True)
    assert launch(spec, "--dry-run", "--json") == 2


def test_nothing_is_offered_off_a_terminal_and_slurm_is_not_asked(place, monkeypatch):
    calls = sites.install(place / "bin")
    assert not doctor_module.offer()
    assert not calls.exists()


def test_results_that_are_not_there_are_not_made(place):
    doctor("--results", str(Path("nowhere") / "results"))
    assert not Path("nowhere").exists()
