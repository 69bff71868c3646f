"""Where `sweep resume` takes its profile from, and what the help says of variables."""

import pytest
from click.testing import CliRunner

from cluster.errors import ProfileError
from orchestrator import cli
from tests.orchestrator.specs import SMALL
from tests.orchestrator.stories import Story


@pytest.fixture
def resume(tmp_path, monkeypatch):
    """A sweep that was launched with a profile that is gone; returns which one resume wants."""
    story = Story(tmp_path / "small", monkeypatch)
    story.folder.spec.write_text(f"name: small\n{SMALL}")
    monkeypatch.setenv("SWEEP_CLUSTER", str(tmp_path / "variable.yaml"))
    story.plan({"p": ["t"]}, cluster=str(tmp_path / "last.yaml"))

    def ask(*options):
        asked = ["resume", "small", "--dry-run", "--results", str(tmp_path), *options]
        with pytest.raises(ProfileError) as error:
            cli.cli.main(asked, standalone_mode=False)
        return error.value.message

    return ask


def test_resume_goes_on_with_the_last_profile_whatever_the_variable_says(resume):
    assert "last.yaml" in resume()


def test_an_option_wins_over_the_last_profile(resume, tmp_path):
    assert "given.yaml" in resume("--cluster", str(tmp_path / "given.yaml"))


@pytest.mark.parametrize(
    ("command", "variables"),
    [
        ("launch", {"SWEEP_CLUSTER", "SWEEP_RESULTS"}),
        ("doctor", {"SWEEP_CLUSTER", "SWEEP_RESULTS"}),
        ("status", {"SWEEP_RESULTS"}),
    ],
)
def test_the_help_names_the_variables_that_are_read(command, variables):
    shown = CliRunner().invoke(cli.cli, [command, "--help"]).output
    assert {name for name in ("SWEEP_CLUSTER", "SWEEP_RESULTS") if name in shown} == variables
