"""What flags ask, on a sweep that was trained; and what intervals would cost."""

import json
from dataclasses import replace

import pytest

from cluster.profile import SlurmProfile
from orchestrator import answers, tabulate
from orchestrator.answers import Asked
from orchestrator.errors import SweepError
from tests.orchestrator import finished
from tests.orchestrator.made_results import plan, results


@pytest.fixture(scope="module")
def home(tmp_path_factory):
    home = tmp_path_factory.mktemp("answers")
    text = finished.SPEC.replace("num_folds: 2", "num_folds: 1")
    text += (
        "analysis: {arm: score, against: erm, metric: auroc, where: {losses.score.weight: 1}, "
        "margin: 0.05, margin_metric: balanced_accuracy}\n"
    )
    return finished.train(finished.planned(finished.write_spec(home, text=text), home / "results"))


def test_the_primary_analysis_is_shown_before_the_main_table(home, capsys):
    assert tabulate.aggregate(home, Asked(), mode="text") == 0
    told = capsys.readouterr()
    lines = told.out.splitlines()
    assert [line.split("\t")[5] for line in lines[1:3]] == ["primary", "primary"]
    assert lines[3].startswith("encoder\tarm")
    assert "primary analysis, declared in the spec: score against erm in auroc" in told.err


def test_metrics_rows_and_reference_are_shown_with_their_notes(home, capsys):
    asked = Asked(metrics=("auroc", "auprc"), by=("arm",), against="again", draws=100)
    assert tabulate.aggregate(home, asked, mode="text") == 0
    told = capsys.readouterr()
    assert "arm\ttrials\tpatients\tauroc\tauprc" in told.out
    assert "new patients" in told.err and "100 draws of patients" in told.err
    assert "no interval is made of auprc" in told.err
    assert (home.tables / "auroc_auprc_by_arm_against_again.tex").is_file()


def test_every_number_traces_to_its_trials(home, capsys):
    assert tabulate.aggregate(home, Asked(cells=(2,)), mode="json") == 0
    told = json.loads(capsys.readouterr().out)["trials"]
    assert [(row["arm"], row["seed"]) for row in told] == [("score", 0), ("score", 1)]
    assert tabulate.aggregate(home, Asked(cells=(0, 2)), mode="quiet") == 0
    assert len(capsys.readouterr().out.split()) == 4
    assert tabulate.aggregate(home, Asked(cells=(2,)), mode="text") == 0
    assert capsys.readouterr().out.splitlines()[0].startswith("cell\tencoder\tarm\tfold\tseed")
    with pytest.raises(SweepError, match="no row 99"):
        tabulate.aggregate(home, Asked(cells=(99,)), mode="json")


@pytest.mark.parametrize(
    ("asked", "message"),
    [
        (Asked(where=("arm",)), "'arm' is not KEY=VALUE"),
        (Asked(where=("arn=erm",)), "did you mean 'arm'"),
        (Asked(draws=0), "--draws 0: expected 1 or more"),
    ],
)
def test_wrong_flags_are_refused(home, asked, message):
    with pytest.raises(SweepError, match=message):
        tabulate.aggregate(home, asked, mode="json")


def test_intervals_that_cost_much_are_left_out_and_offered(home, monkeypatch, capsys):
    monkeypatch.setattr(answers, "BUDGET_S", 1e-6)
    assert tabulate.aggregate(home, Asked(), mode="text") == 0
    assert "CPU: sweep aggregate small --intervals" in capsys.readouterr().err
    made = results(plan())
    assert answers.request(Asked(), made, None).draws == 0
    assert answers.request(Asked(intervals=True), made, None).draws == 2000
    profile = SlurmProfile.model_validate(
        {"kind": "slurm", "partition": "gpu", "account": "path 1", "walltime_min": 60}
    )
    monkeypatch.setattr(answers.preparation, "last_cluster", lambda _: "site")
    monkeypatch.setattr(answers.profiles, "load", lambda _: profile)
    text = answers.dear(made, Asked(), home)
    assert "sbatch --partition=gpu '--account=path 1'" in text
    assert "'--wrap=sweep aggregate small --intervals'" in text


def test_files_of_what_was_asked_have_a_name_of_their_own():
    assert Asked().file_name == ""
    asked = Asked(metrics=("auroc",), by=("arm",), where=("arm=a/../b c",))
    assert asked.file_name == "auroc_arm=a_.._b_c_by_arm"
    other = replace(asked, against="erm", select="accuracy")
    assert other.file_name == "auroc_arm=a_.._b_c_by_arm_against_erm_accuracy"
    long = [Asked(metrics=("auroc",), where=(f"arm={'x' * 200}{n}",)).file_name for n in range(2)]
    assert long[0] != long[1] and len(long[0]) == 100
    assert answers.records(results(plan(("erm",))).plan.head(1))[0]["cell"] == 0
