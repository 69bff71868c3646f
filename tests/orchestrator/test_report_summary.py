"""The verbs of the summary: intervals and adjusted p decide, and what does not win is said so."""

from dataclasses import replace
from types import SimpleNamespace

import pandas as pd
import pytest

from orchestrator import report_summary
from orchestrator.evidence import Evidence
from orchestrator.evidence_notes import Notes

NOTES = Notes(estimand="", interval="", selection="", multiplicity="", primary="", licences={},
              remarks=())  # fmt: skip


def row(arm, estimate, low, high, p, *, metric="auroc", encoder="uni", **more):
    return {
        "encoder": encoder, "arm": arm, "against": "erm", "metric": metric, "estimate": estimate,
        "low": low, "high": high, "p": p, "p_adjusted": p, "primary": False, "margin": float("nan"),
        "noninferior": None, **more,
    }  # fmt: skip


def evidence(rows):
    cells = pd.DataFrame([{"marks": ""}])
    return Evidence(
        cells=cells, differences=pd.DataFrame(rows), trials=pd.DataFrame(), notes=NOTES,
        lower_is_better=frozenset({"inconsistency"}),
    )  # fmt: skip


def material(rows, *, control=None, missing=0, **more):
    names = dict.fromkeys(each["arm"] for each in rows)
    marks = pd.Series(["1 of 2 trials missing" if missing else ""])
    tradeoff = pd.DataFrame(
        {"encoder": "uni", "arm": list(names), "front": [True] + [False] * (len(names) - 1)}
    )
    given = {
        "cells": evidence(rows), "against_control": control, "axes": (), "quality": "auroc",
        "reference": "erm", "control": "all", "losses": {"score": ("score",)},
        "settings": {"score": {"views": "all"}},
        "tradeoff": tradeoff, "spec": None, "folder": SimpleNamespace(name="s"),
        "joined": SimpleNamespace(marks=marks, allow_missing=False, cells=pd.DataFrame()),
    }  # fmt: skip
    return SimpleNamespace(**given | more)


def told(made):
    return {f"{f.verdict}: {f.lead} {f.text}" for f in report_summary.findings(made)}


@pytest.mark.parametrize(
    ("metric", "low", "high", "p", "wanted"),
    [
        ("auroc", 0.01, 0.2, 0.01, "better"),
        ("auroc", -0.2, -0.01, 0.01, "worse"),
        ("inconsistency", -0.2, -0.01, 0.01, "better"),
        ("inconsistency", 0.01, 0.2, 0.01, "worse"),
        ("auroc", 0.01, 0.2, 0.05, "unclear"),
        ("auroc", -0.01, 0.2, 0.01, "unclear"),
        ("auroc", 0.0, 0.2, 0.01, "unclear"),
        ("auroc", float("nan"), float("nan"), float("nan"), "untested"),
    ],
)
def test_interval_and_adjusted_p_must_agree_before_a_cell_is_called_better_or_worse(
    metric, low, high, p, wanted
):
    found = report_summary.verdict(
        pd.Series(row("a", 0.1, low, high, p, metric=metric)), {"inconsistency"}
    )
    assert found == wanted


def test_the_summary_counts_and_names_the_largest_difference():
    rows = [row("score", 0.1, 0.05, 0.2, 0.001), row("infonce", 0.05, 0.01, 0.1, 0.01),
            row("vrex", 0.3, -0.1, 0.4, 0.2)]  # fmt: skip
    assert (
        "better: uni, AUROC: of 3 cells compared with erm, 2 better (most score +0.100 [+0.050, "
        "+0.200], adjusted p = 0.001) and 1 not told apart from it." in told(material(rows))
    )


def test_the_largest_of_several_is_not_taken_at_its_word():
    rows = [row("score", 0.1, 0.05, 0.2, 0.001), row("infonce", 0.05, 0.01, 0.1, 0.01)]
    assert any("largest of several" in line for line in told(material(rows)))
    assert not any("largest of several" in line for line in told(material(rows[:1])))


def test_gains_and_losses_together_are_mixed():
    rows = [row("score", 0.1, 0.05, 0.2, 0.001), row("vrex", -0.3, -0.4, -0.1, 0.0001)]
    lines = [line for line in told(material(rows)) if line.startswith("mixed: uni")]
    assert len(lines) == 1 and "1 worse (vrex −0.300" in lines[0] and "p < 0.001" in lines[0]


def test_a_loss_that_does_not_win_over_the_scans_themselves_is_said_so():
    rows = [row("score", 0.1, 0.05, 0.2, 0.001)]
    own = [row("score", 0.0, -0.1, 0.1, 0.9), row("erm", -0.1, -0.2, -0.05, 0.001)]
    lines = told(material(rows, control=evidence(own)))
    assert (
        "unclear: No loss is better than all (AUROC): against all, which has the same paired scans "
        "and no loss, of 1 cell with losses 0 better, 0 worse, 1 not told apart." in lines
    )
    own = [row("score", 0.2, 0.1, 0.3, 0.001)]
    lines = told(material(rows, control=evidence(own)))
    assert any("1 better (uni/score), 0 worse, 0 not told apart" in line for line in lines)


def test_the_primary_analysis_comes_first_with_its_margin():
    rows = [row("score", -0.002, -0.008, 0.004, 0.6, primary=True, margin=0.01, noninferior=True),
            row("infonce", 0.05, 0.01, 0.1, 0.01)]  # fmt: skip
    first = report_summary.findings(material(rows))[0]
    assert first.verdict == "unclear"
    assert first.lead == "Primary analysis (uni, AUROC): score is not told apart from erm:"
    assert first.text.endswith("; non-inferior at the declared margin of 0.010.")
    rows[0]["noninferior"] = False
    first = report_summary.findings(material(rows))[0]
    assert first.text.endswith("; non-inferiority is not shown at the declared margin of 0.010.")


def test_without_a_primary_analysis_everything_is_called_exploratory():
    first = report_summary.findings(material([row("score", 0.1, 0.05, 0.2, 0.001)]))[0]
    assert first.lead.startswith("No primary analysis") and "exploratory" in first.text


def test_holes_losses_and_limits_are_told():
    lines = told(material([row("score", 0.1, 0.05, 0.2, 0.001)], missing=2))
    assert any(
        line.startswith(
            "warning: 1 of 1 cell is not whole (1 of 2 trials missing) and has no value."
        )
        for line in lines
    )
    assert any("The robustness losses are a reconstruction:" in line for line in lines)
    assert any("is not “equal”" in line for line in lines)
    assert not any("simulated" in line for line in lines)


def test_without_intervals_nothing_is_told_apart_or_not():
    nan = float("nan")
    rows = [row("score", 0.1, nan, nan, nan)]
    lines = told(material(rows, control=evidence(rows)))
    assert "untested: uni, AUROC: of 1 cell compared with erm, 1 not tested." in lines
    assert not any("told apart" in line.lower() or "No loss is better" in line for line in lines)


def test_a_declared_analysis_without_a_result_is_not_called_undeclared():
    made = material([row("score", 0.1, 0.05, 0.2, 0.001)])
    notes = replace(NOTES, untested="the primary analysis is not tested: no intervals were made")
    first = report_summary.findings(
        SimpleNamespace(**{**vars(made), "cells": replace(made.cells, notes=notes)})
    )[0]
    assert (first.verdict, first.lead) == ("warning", "The primary analysis is not tested:")
    assert "No primary analysis" not in first.lead


def test_a_loss_on_other_scans_is_not_compared_with_the_control_in_words():
    rows = [row("score", 0.1, 0.05, 0.2, 0.001)]
    made = material(rows, control=evidence(rows), settings={"score": {"views": "routine"}})
    assert not any("the same paired scans" in line for line in told(made))


def test_trials_that_a_search_retired_are_no_holes_and_the_bias_is_told():
    cells = pd.DataFrame([{"arm": "score", "search": "asha", "retired": 3}])
    joined = SimpleNamespace(marks=pd.Series(["3 retired"]), allow_missing=True, cells=cells)
    lines = told(material([row("score", 0.1, 0.05, 0.2, 0.001)], joined=joined))
    assert not any("whole" in line for line in lines)
    assert any("warning: Arm score:" in line and "biased" in line for line in lines)


def test_cells_without_a_value_are_not_spoken_of():
    nan = float("nan")
    lines = told(material([row("score", nan, nan, nan, nan)]))
    assert not any("uni, AUROC" in line for line in lines)
