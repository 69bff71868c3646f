import pytest

from cluster import profile
from cluster.errors import ClusterError


@pytest.mark.parametrize("name", ["local", "testbed", "slurm_a100"])
def test_shipped_profiles_are_valid(name):
    assert profile.load(name).kind in ("local", "slurm")


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
