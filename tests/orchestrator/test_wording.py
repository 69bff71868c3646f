"""Numbers, names and lists as the report writes them."""

import pytest

from orchestrator import wording


@pytest.mark.parametrize(
    ("column", "label"),
    [
        ("auroc", "AUROC"),
        ("worst_scanner_auroc", "AUROC, worst scanner"),
        ("worst_scanner_auroc_difference", "AUROC, worst scanner (difference)"),
        ("losses.score.weight", "score.weight"),
        ("seed_sd", "seed (SD over folds)"),
    ],
)
def test_columns_have_names_for_people(column, label):
    assert wording.label_of(column) == label


def test_numbers_are_rounded_with_a_true_minus_and_a_dash_where_there_is_none():
    assert wording.number(0.12345) == "0.123"
    assert wording.number(-1.5) == "−1.500"
    assert wording.number(float("nan")) == wording.signed(float("nan")) == "–"
    assert wording.number(12345.6) == "12,346"
    assert wording.signed(0.01) == "+0.010" and wording.signed(-0.01) == "−0.010"
    assert wording.number(float("-inf")) == "−∞"


def test_small_p_values_are_bounded():
    assert [wording.chance(p) for p in (0.0, 0.0009, 0.001, 0.5)] == [
        "< 0.001", "< 0.001", "0.001", "0.500",
    ]  # fmt: skip


def test_long_lists_are_counted():
    assert wording.joined([]) == ""
    assert wording.joined(["a"]) == "a"
    assert wording.joined(["a", "b", "c"]) == "a, b and c"
    assert wording.joined(list("abcdefgh"), most=3) == "a, b and 6 more"
    assert wording.counted(1, "cell") == "1 cell" and wording.counted(1200, "cell") == "1,200 cells"
