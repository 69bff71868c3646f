from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cluster import profile
from cluster.errors import ClusterError
from cluster.profile import DriverJob, Larger, LocalProfile, SlurmProfile

SHIPPED = sorted(path.stem for path in profile.SHIPPED.glob("*.yaml"))
README = (Path(profile.__file__).parent / "README.md").read_text()


@pytest.mark.parametrize("name", SHIPPED)
def test_shipped_profiles_are_valid_and_named_in_the_readme(name):
    assert profile.load(name).kind in ("local", "slurm")
    assert f"| `{name}` |" in README


@pytest.mark.parametrize("model", [SlurmProfile, LocalProfile])
def test_every_key_stands_in_the_first_column_of_the_readme(model):
    rows = [line.split("|")[1] for line in README.splitlines() if line.startswith("| `")]
    assert [key for key in model.model_fields if not any(f"`{key}`" in row for row in rows)] == []


@pytest.mark.parametrize(("row", "model"), [("`driver`", DriverJob), ("`larger`", Larger)])
def test_every_key_of_a_part_stands_in_its_row(row, model):
    (line,) = [line for line in README.splitlines() if line.startswith(f"| {row} |")]
    missing = [k for k in model.model_fields if f"`{k}`" not in line and f"`{k}: " not in line]
    assert missing == []


def test_the_examples_ask_slurm_for_what_they_say():
    assert profile.load("slurm_h100").gpus_per_node == "h100:1"
    assert profile.load("slurm_h100").enlarged().gpus_per_node == "h200:1"
    assert profile.load("slurm_whole_node").billed_gpus == 4
    assert profile.load("slurm_fractional").billed_gpus == 1
    assert profile.load("slurm_one_allocation").driver.inside
    assert "apptainer exec" in profile.load("slurm_apptainer").python


def test_a_larger_class_changes_what_it_names_only():
    larger = {"partition": "big", "memory_gb": 99}
    plain = profile.parse({"kind": "slurm", "cpus": 7, "larger": larger}, where="x")
    assert plain.enlarged().partition == "big"
    assert (plain.enlarged().memory_gb, plain.enlarged().cpus) == (99, 7)
    bare = profile.parse({"kind": "slurm"}, where="x")
    assert bare.enlarged() == bare


@pytest.mark.parametrize(
    ("wrong", "said"),
    [
        ({"sbatch": {"array": "0-3"}}, "sbatch.array: sweep sets this itself"),
        ({"sbatch": {"job_name": "x"}}, "sbatch.job_name: sweep sets this itself"),
        ({"sbatch": {"mem": 3}}, "sbatch.mem: set memory_gb of the profile instead"),
        ({"sbatch": {"signal": "USR1"}}, "sbatch.signal: set signal_s of the profile instead"),
        ({"sbatch": {"p": "gpu"}}, "sbatch.p: expected an option of sbatch by its long name"),
        ({"sbatch": {"x y": 1}}, "sbatch.x y: expected an option of sbatch by its long name"),
        ({"sbatch": {"exclusive": False}}, "sbatch.exclusive: a bare flag is true"),
        ({"sbatch": {"reservation": "a\nb"}}, "sbatch.reservation: expected one line"),
        ({"sbatch": {"gres": "gpu:2"}}, "profile: gres: set gpus and gpu_type instead"),
        ({"partition": "a\n#SBATCH --uid=0"}, "partition: expected one line of printable text"),
        ({"exclude": ""}, "exclude: expected one line of printable text"),
        ({"setup": ["true", "a\nb"]}, "setup.1: expected one line of shell"),
        ({"setup": ["#SBATCH --mem=3"]}, "setup.0: sbatch does not read this here"),
        ({"python": "a\nb"}, "python: expected one line of shell"),
        ({"gpu_type": "a100;rm"}, "gpu_type: "),
        ({"device": "cuda", "gpus": 0}, "profile: device cuda needs gpus"),
        (
            {"device": "cuda", "gpus": 3, "workers": 2},
            "profile: device cuda needs workers to be a multiple of gpus, 3",
        ),
        (
            {"device": "cuda", "gpus": 2, "workers": 3},
            "profile: device cuda needs workers to be a multiple of gpus, 2",
        ),
        (
            {"device": "cuda", "gpus": 2},
            "profile: device cuda needs workers to be a multiple of gpus, 2",
        ),
        (
            {"device": "cuda", "larger": {"gpus": 2}},
            "profile: larger: device cuda needs workers to be",
        ),
        ({"node_gpus": 4}, "profile: node_gpus counts with billing: node only"),
        ({"walltime_min": 1}, "profile: signal_s is as long as walltime_min"),
        ({"larger": {"cpus": 4, "lanes_max": 8}}, "larger.cpus: unknown key"),
    ],
)
def test_what_would_break_a_batch_script_is_refused_with_its_key(wrong, said):
    with pytest.raises(ClusterError) as caught:
        profile.parse({"kind": "slurm", **wrong}, where="x.yaml")
    assert f"x.yaml: {said}" in caught.value.message


def test_gpus_are_shared_evenly_or_refused():
    local = {"kind": "local", "device": "cuda"}
    for even in ({}, {"gpus": 2}, {"gpus": 2, "workers": 4}, {"workers": 3}):
        profile.parse({**local, **even}, where="x")
    profile.parse({**local, "device": "cpu", "gpus": 2, "workers": 3}, where="x")
    with pytest.raises(ClusterError, match="workers to be a multiple of gpus, 2"):
        profile.parse({**local, "gpus": 2, "workers": 3}, where="x")


@given(st.text(max_size=30))
def test_no_text_of_a_profile_starts_a_second_line(text):
    for key in ("partition", "account", "constraint", "node_ip", "python"):
        try:
            read = profile.parse({"kind": "slurm", key: text}, where="x")
        except ClusterError:
            continue
        assert len(getattr(read, key).splitlines()) <= 1


def test_the_default_is_the_users_own_else_local_without_slurm(tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path))
    monkeypatch.setenv("PATH", str(tmp_path))
    assert profile.default() == "local"
    scontrol = tmp_path / "scontrol"
    unknown = "Could not establish a configuration source"
    scontrol.write_text(f"#!/bin/sh\necho 'scontrol: error: {unknown}' >&2; exit 1\n")
    scontrol.chmod(0o755)
    assert profile.default() == "local"
    scontrol.write_text("#!/bin/sh\necho 'Slurmctld(primary) at login is DOWN'\n")
    with pytest.raises(ClusterError, match="no profile says") as caught:
        profile.default()
    assert "sweep doctor" in caught.value.hint
    profile.own().mkdir(parents=True)
    (profile.own() / "default.yaml").write_text("kind: slurm\n")
    assert profile.default() == "default"
    assert profile.load(profile.default()).kind == "slurm"


def test_all_problems_are_listed_with_near_matches():
    wrong = {"kind": "slurm", "pilotts": 3, "driver": {"cpuss": 1}, "gpus": -1}
    with pytest.raises(ClusterError) as caught:
        profile.parse(wrong, where="x.yaml")
    lines = caught.value.message.splitlines()
    assert len(lines) == 3
    assert "x.yaml: pilotts: unknown key; did you mean pilots?" in lines
    assert "x.yaml: driver.cpuss: unknown key; did you mean cpus?" in lines


@pytest.mark.parametrize("content", [None, [], 3, "x", {}, {"kind": "cloud"}])
def test_content_that_is_no_profile_is_refused(content):
    with pytest.raises(ClusterError, match=r"x\.yaml"):
        profile.parse(content, where="x.yaml")


def test_an_unknown_name_offers_near_ones():
    with pytest.raises(ClusterError, match="testbed") as caught:
        profile.load("testbd")
    assert "local" in caught.value.hint


def test_the_users_own_profile_comes_first(tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path))
    folder = tmp_path / "sweep" / "profiles"
    folder.mkdir(parents=True)
    (folder / "local.yaml").write_text("kind: local\nworkers: 7\n")
    assert profile.load("local").workers == 7


def test_a_path_with_spaces_and_bad_yaml_is_named(tmp_path):
    path = tmp_path / "my 'site'.yaml"
    path.write_text("kind: [")
    with pytest.raises(ClusterError, match="site"):
        profile.load(str(path))
