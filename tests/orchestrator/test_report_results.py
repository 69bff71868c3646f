"""The sections of results: what they say where something is missing, marked or not tested."""

from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pytest

from orchestrator import evidence, figures, report_results
from orchestrator.evidence import Request
from orchestrator.spec_analysis import Analysis
from tests.orchestrator.made_results import plan, results

FEW = Request(draws=100, metrics=("auroc",))
ANALYSIS = Analysis(arm="score", against="erm", metric="auroc_gap", margin=0.7)


@pytest.fixture(scope="module")
def made():
    return results(plan(), good={"score": 3.0}, analysis=ANALYSIS)


def material(found, *, arms=("erm", "score")):
    cells = found.cells.drop_duplicates("arm")[["encoder", "arm"]]
    return SimpleNamespace(
        cells=found, axes=(), reference="erm", quality="auroc", against_control=None,
        joined=SimpleNamespace(cells=cells[cells["arm"].isin(arms)]),
    )  # fmt: skip


def test_a_declared_analysis_without_a_result_is_shown_with_the_reason(made):
    section = report_results.primary(material(evidence.of(made, replace(FEW, draws=0))))
    assert "declared in the spec: score against erm" in section.text[0]
    assert "no intervals were made" in section.text[1] and not section.tables
    none = evidence.of(replace(made, analysis=None), replace(FEW, draws=0))
    assert "declares none" in report_results.primary(material(none)).text[0]


def test_a_primary_metric_that_no_table_shows_is_judged_the_right_way_round(made):
    found = evidence.of(made, FEW)
    (table,) = report_results.primary(material(found)).tables
    told, verdict = table.frame["estimate"].iloc[0], table.frame["verdict"].iloc[0]
    assert verdict in ("not told apart", "better" if told < 0 else "worse")
    assert any("Less is better in auroc gap" in note for note in table.notes)
    assert found.notes.estimand in table.notes and found.notes.interval in table.notes


def test_marks_of_comparisons_are_columns_where_there_are_any(made):
    trials = made.trials.copy()
    trials.loc[trials["trial"] == "uni-score-1-0-0", "state"] = "failed"
    bad = evidence.of(replace(made, trials=trials, analysis=None), replace(FEW, allow_missing=True))
    marked, plain = (
        report_results._differences(material(found)).tables[0].frame
        for found in (bad, evidence.of(made, FEW))
    )
    assert marked["marks"].iloc[0].startswith("score: 1 failed") and "marks" not in plain


def test_arms_without_a_value_are_not_called_absent(made):
    nothing = replace(made, trials=made.trials.assign(state="failed"), analysis=None)
    found = evidence.of(nothing, FEW)
    section = report_results._differences(material(found))
    assert section.text[0].startswith("No cell can be compared with erm")
    alone = report_results._differences(material(found, arms=("erm",)))
    assert "There is no arm to compare with" in alone.text[0]


def test_a_forest_plot_has_room_for_estimates_and_margins(made, monkeypatch):
    limits = []
    monkeypatch.setattr(figures, "forest", lambda *_, **given: limits.append(given["limits"]))
    rows = report_results.judged(evidence.of(made, replace(FEW, draws=0)), ())
    report_results._forests(material(evidence.of(made, replace(FEW, draws=0))), rows, "auroc")
    assert limits[0] == (0.0, rows["estimate"].max())
    found = evidence.of(made, FEW)
    report_results._forests(material(found), report_results.judged(found, ()), "auroc_gap")
    assert limits[1][1] == 0.7 and np.isfinite(limits[1]).all()
