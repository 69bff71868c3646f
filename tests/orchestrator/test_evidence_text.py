import re
from dataclasses import replace

import numpy as np
import pandas as pd
import pytest

from orchestrator import evidence, evidence_text
from orchestrator.evidence import Request
from orchestrator.spec_analysis import Analysis
from tests.orchestrator.made_results import plan, results

HOSTILE = 'a_b%$&#{}~^\\<b>|"'


@pytest.fixture(scope="module")
def found():
    made = results(plan(("erm", HOSTILE)), good={HOSTILE: 3.0})
    analysis = Analysis(arm=HOSTILE, against="erm", metric="auroc", margin=0.05)
    return evidence.of(
        replace(made, analysis=analysis), Request(draws=200, metrics=("auroc", "flip_rate"))
    )


def test_latex_prints_hostile_names_as_they_are():
    assert evidence_text.escape(HOSTILE) == (
        r"a\_b\%\$\&\#\{\}\textasciitilde{}\textasciicircum{}\textbackslash{}"
        r"\textless{}b\textgreater{}\textbar{}\textquotedbl{}"
    )
    assert evidence_text.escape("[a]") == "{}[a]" and evidence_text.escape("*") == "{}*"
    assert evidence_text.escape("0.8 [0.7, 0.9]") == "0.8 [0.7, 0.9]"
    assert evidence_text.escape("a\nb\x1b[0m") == "a b[0m"
    assert evidence_text.escape("Δ − ×") == r"$\Delta$ $-$ $\times$"


def test_latex_has_as_many_columns_in_every_row(found):
    for show in (evidence_text.estimates, evidence_text.differences):
        text = evidence_text.latex(show(found), found.notes.lines())
        columns = re.search(r"\\begin\{tabular\}\{([lr]+)\}", text).group(1)
        body = text[text.index(r"\toprule") : text.index(r"\bottomrule")]
        for line in [line for line in body.splitlines() if line.endswith(r"\\")]:
            assert len(re.findall(r"(?<!\\)&", line)) == len(columns) - 1
        assert text.count(r"\footnotesize") == len(found.notes.lines())


def test_markdown_has_as_many_columns_in_every_row_and_no_html(found):
    text = evidence_text.markdown(evidence_text.estimates(found), found.notes.lines())
    rows = [line for line in text.splitlines() if line.startswith("|")]
    assert len({len(re.findall(r"(?<!\\)\|", line)) for line in rows}) == 1
    assert "<b>" not in text and "<" not in text.replace("&lt;", "")


def test_estimates_show_the_interval_and_differences_the_primary_first(found):
    shown = evidence_text.estimates(found)
    assert shown.columns[-2:] == ("auroc", "flip_rate")
    assert re.fullmatch(r"0\.\d{3} \[0\.\d{3}, [01]\.\d{3}\]", shown.rows[0][-2])
    compared = evidence_text.differences(found)
    kinds = [row[compared.columns.index("analysis")] for row in compared.rows]
    assert kinds == ["primary", "exploratory", "exploratory"]
    assert compared.rows[0][-1] == "yes" and compared.rows[1][-1] == ""


def test_files_are_equal_for_equal_evidence_and_read_back(found, tmp_path):
    first = evidence_text.files(found, tmp_path)
    names = [path.name for path in first]
    assert names == [f"{name}.{end}" for name in ("estimates", "differences")
                     for end in ("csv", "parquet", "tex", "md")]  # fmt: skip
    content = {path: path.read_bytes() for path in first}
    evidence_text.files(found, tmp_path)
    assert {path: path.read_bytes() for path in first} == content
    back = pd.read_parquet(tmp_path / "estimates.parquet")
    np.testing.assert_array_equal(back["estimate"], found.cells["estimate"])
    told = pd.read_parquet(tmp_path / "differences.parquet")
    assert told["noninferior"].to_list()[0] is True
    assert [path.name for path in evidence_text.files(found, tmp_path, name="x")][4] == (
        "x_differences.csv"
    )
