import numpy as np
import pandas as pd
import pytest

from orchestrator import measure, measure_cases
from tests.orchestrator.predicted import frame


def rows(trial, scans):
    """Make predictions from (patient, scanner, label, score): a slide per patient."""
    return [(trial, p, f"{p}-1", f"{p}-1-{s}", s, True, y, score) for p, s, y, score in scans]


def test_a_scan_of_an_unknown_scanner_is_left_out_where_others_name_theirs():
    named = [("p", "A", 0, 0.0), ("q", "A", 1, 1.0), ("p", "B", 0, 0.2), ("q", "B", 1, 0.7)]
    unknown = [("p", "", 0, 9.0), ("q", "", 1, -9.0), ("r", "", 1, -9.0)]
    threshold = pd.Series({"t": 0.5})
    found = measure.trials(threshold, frame(rows("t", [*named, *unknown])), unseen=[()])
    expected = measure.trials(threshold, frame(rows("t", named)), unseen=[()])
    pd.testing.assert_frame_equal(found, expected)
    assert found.loc["t", "auroc"] == 1


def test_where_no_scan_names_its_scanner_all_count_as_of_one():
    threshold = pd.Series({"t": 0.5, "u": 0.5})
    scans = [("p", "", 0, 0.0), ("q", "", 1, 1.0)]
    both = frame([*rows("t", scans), *rows("u", [("p", "A", 0, 1.0), ("q", "A", 1, 0.0)])])
    found = measure.trials(threshold, both, unseen=[(), ()])
    assert found["auroc"].to_list() == [1, 0]


def test_parts_hold_every_row_once_and_never_split_a_trial(monkeypatch):
    draw = np.random.default_rng(0)
    trials = [f"t{k}" for k in range(7)]
    many = frame(
        [
            row
            for trial in trials
            for row in rows(
                trial, [(f"p{i}", "AB"[i % 2], i % 2, float(draw.normal())) for i in range(9)]
            )
        ]
    )
    found = measure_cases.cases(pd.Series(0.0, index=trials), many, unseen=[()] * 7)
    whole = measure.by_scanner(found)
    monkeypatch.setattr(measure_cases, "_ROWS", 20)
    parts = list(measure_cases.parts(found))
    assert [part.trials for part in parts] == [slice(0, 3), slice(3, 6), slice(6, 7)]
    assert sum(len(part.group) for part in parts) == len(many)
    for name, values in measure.by_scanner(found).items():
        np.testing.assert_array_equal(values, whole[name])


def test_a_mean_is_over_the_scans_of_a_member_on_a_scanner():
    given = [("t", "p", "p-1", "1", "A", True, 1, 2.0), ("t", "p", "p-2", "2", "A", True, 1, 4.0)]
    found = measure_cases.cases(pd.Series({"t": 2.5}), frame(given), unseen=[("A",)])
    assert found.patient.score.tolist() == [[3.0]] and found.predicted.tolist() == [1]
    assert found.slide.score.tolist() == [[2.0], [4.0]]
    assert found.seen.tolist() == [[False]]
    assert found.scanners.to_list() == pytest.approx(["A"])
