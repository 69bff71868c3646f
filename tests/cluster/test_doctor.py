"""Sites as their programs tell them, of kinds that the test bed is not."""

from pathlib import Path

import pytest

from cluster import doctor, profile
from cluster.errors import ClusterError
from tests.cluster import sites


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("PATH", f"{tmp_path}:/usr/bin:/bin")
    return tmp_path


def test_a_site_is_read_with_seven_calls(folder: Path) -> None:
    calls = sites.install(folder)
    site = doctor.read()
    assert len(calls.read_text().split()) == 7
    assert site.config["ClusterName"] == "alps"
    assert [place.name for place in site.partitions] == ["gpu", "cpu"]
    assert site.partitions[0].gpu_types == {"h100": 4}
    assert (site.limits.max_submit, site.limits.max_jobs) == (50, 20)
    assert (site.one_host, site.loopback, site.accounting) == (False, False, "")


def test_a_profile_is_compared_with_five_calls(folder: Path) -> None:
    calls = sites.install(folder)
    wrong = {"kind": "slurm", "partition": "gpu", "gpu_type": "h10", "walltime_min": 999}
    found = doctor.problems(profile.parse(wrong, where="x"))
    assert len(calls.read_text().split()) == 5
    assert [line.split(":")[0] for line in found.problems] == [
        "walltime_min",
        "gpu_type",
        "driver.walltime_min",
    ]


def test_accounting_that_is_off_is_not_asked(folder: Path) -> None:
    off = sites.PROGRAMS["scontrol"].replace("accounting_storage/slurmdbd", "(null)")
    calls = sites.install(
        folder, scontrol=off, sacctmgr="echo 'accounting storage is disabled' >&2; exit 1"
    )
    site = doctor.read()
    assert site.accounting == "the site keeps no accounts"
    assert "disabled" in site.limits.unknown
    assert calls.read_text().split().count("sacct") == 0


def test_accounting_that_is_refused_or_slow_is_said_and_is_no_error(folder: Path) -> None:
    sites.install(folder, sacct="echo 'Access denied' >&2; exit 1", sacctmgr="exec sleep 60")
    site = doctor.read(timeout_s=0.3)
    assert "Access denied" in site.accounting
    assert "no answer within" in site.limits.unknown
    assert site.limits.max_array_size == 1001


def test_a_controller_that_does_not_answer_is_an_error(folder: Path) -> None:
    sites.install(folder, scontrol="exec sleep 60")
    fits = profile.parse({"kind": "slurm"}, where="x")
    with pytest.raises(ClusterError, match="no answer within"):
        doctor.read(timeout_s=0.1)
    with pytest.raises(ClusterError, match="no answer within"):
        doctor.problems(fits, timeout_s=0.1)
