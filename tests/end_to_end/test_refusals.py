"""Bad input is refused before anything is written, with exit codes as agreed.

In this process, but for one refusal: what a process of its own adds is its exit code.
"""

import json

import pytest

from tests.bad_inputs import command
from tests.bad_inputs.command import Answer
from tests.end_to_end import sweeps
from tests.end_to_end.sweeps import write_spec


def sweep(*arguments: object, code: int = 0) -> Answer:
    answer = command.sweep(*arguments)
    assert answer.code == code, answer
    return answer


@pytest.fixture
def spec(tmp_path):
    return write_spec(tmp_path)


def test_problems_of_a_spec_come_all_at_once_with_their_lines(spec, tmp_path):
    spec.write_text(
        spec.read_text().replace("attention_dim", "atention_dim").replace("[tiny]", "[]")
    )
    done = sweep("launch", spec, "--results", tmp_path / "results", code=2)
    assert "2 problems" in done.err
    assert "small.yaml:13: head.atention_dim" in done.err
    assert "attention_dim?" in done.err
    assert not (tmp_path / "results").exists()


def test_errors_are_json_where_json_is_asked(spec, tmp_path):
    spec.write_text("arms: [")
    done = sweep("launch", spec, "--json", "--results", tmp_path / "results", code=2)
    told = json.loads(done.out)["error"]
    assert told["kind"] == "SpecError" and "small.yaml" in told["problems"][0]


def test_a_missing_spec_an_unknown_sweep_and_an_unknown_flag_are_usage_errors(tmp_path):
    sweeps.sweep("launch", tmp_path / "nothing.yaml", code=2)
    sweep("status", "nothing", "--results", tmp_path, code=2)
    sweep("resume", "nothing", "--results", tmp_path, code=2)
    sweep("aggregate", "nothing", "--results", tmp_path, code=2)
    done = sweep("launch", "--frobnicate", code=2)
    assert "sweep launch --help" in done.err


def test_an_unknown_profile_is_a_usage_error_with_names(spec, tmp_path):
    done = sweep("launch", spec, "--cluster", "testbd", "--results", tmp_path / "r", code=2)
    assert "testbed" in done.err
    assert not (tmp_path / "r").exists()


def test_gpu_time_is_not_spent_without_consent(spec, tmp_path):
    results = tmp_path / "results"
    done = sweep("launch", spec, "--cluster", "testbed", "--results", results, code=2)
    assert "--yes" in done.err
    assert not (results / "small").exists()


def test_a_dry_run_writes_nothing(spec, tmp_path):
    done = sweep("launch", spec, "--dry-run", "--results", tmp_path / "results")
    assert "16 trials in 4 cells" in done.out
    assert sorted(path.name for path in tmp_path.iterdir()) == ["small.yaml"]


def test_missing_embeddings_are_listed_and_refused(spec, tmp_path):
    text = spec.read_text()
    spec.write_text("data: nowhere\n" + text[text.index("task:") :])
    done = sweep("launch", spec, "--dry-run", "--json", "--results", tmp_path / "results")
    told = json.loads(done.out)
    assert told["missing_encoders"] == {"tiny": 16} and told["missing"] == 16
    refused = sweep("launch", spec, "--results", tmp_path / "results", code=2)
    assert "tiny" in refused.err and "sweep index" in refused.err
    assert not (tmp_path / "results").exists()
