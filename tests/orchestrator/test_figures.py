"""What figures say in their captions; how they look is for people to judge."""

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from orchestrator import figures, figures_scanners
from orchestrator.figures import Estimate
from orchestrator.figures_scanners import Pair


def texts(figure):
    return figure.svg()


def test_a_forest_plot_names_its_cells_and_says_what_it_leaves_out():
    rows = [Estimate(name=f"arm<{n}>", value=0.1, low=0.0, high=0.2, told=n < 3) for n in range(70)]
    made = figures.forest("uni", "auroc", rows, reference="erm", limits=(-1, 1), lower=False)
    assert "The first 60 of 70 cells." in made.caption and "further right is better" in made.caption
    assert "3 of them told from zero" in made.alt
    assert "arm&lt;59&gt;" in texts(made) and "arm&lt;60&gt;" not in texts(made)


def test_training_curves_are_averaged_over_the_trials_of_an_arm():
    curves = pd.DataFrame(
        {"trial": ["a", "a", "b"], "epoch": [1, 2, 1], "quantity": "task_loss",
         "value": [1.0, 2.0, 3.0]}
    )  # fmt: skip
    arms = pd.DataFrame({"trial": ["a", "b"], "encoder": "uni", "arm": "erm"})
    made = figures.training(curves, arms, quantities=["task_loss", "validation_loss"])
    assert [one.name for one in made] == ["training-task_loss-uni"]
    assert "task loss by epoch" in made[0].caption
    assert made[0].svg().count("<text") > 5


def test_scores_are_laid_out_by_slide_and_scanner_as_means_of_scans():
    rows = pd.DataFrame(
        [("t", "s1", "v1", "A", True, 1, 1.0), ("t", "s1", "v2", "A", True, 1, 3.0),
         ("t", "s1", "v3", "B", True, 1, 5.0), ("t", "s2", "v4", "A", False, 0, 9.0),
         ("u", "s1", "v1", "A", True, 1, 9.0), ("t", "s3", "v5", "", True, 1, 9.0)],
        columns=["trial", "slide", "view", "scanner", "held_out", "label", "score"],
    )  # fmt: skip
    wide = figures_scanners.wide(rows, ["t"])
    assert wide.to_dict("index") == {("t", "s1"): {"A": 2.0, "B": 5.0}}


@given(st.lists(st.lists(st.floats(-20, 20), min_size=3, max_size=3), min_size=1, max_size=5))
def test_the_score_of_several_classes_is_the_log_odds_of_the_right_one(logits):
    label = np.arange(len(logits)) % 3
    rows = pd.DataFrame(
        {"trial": "t", "slide": [f"s{n}" for n in range(len(logits))], "scanner": "A",
         "held_out": True, "label": label, "score": pd.Series(logits, dtype=object)}
    )  # fmt: skip
    found = figures_scanners.wide(rows, ["t"])["A"].to_numpy()
    p = np.exp(np.array(logits)) / np.exp(np.array(logits)).sum(1, keepdims=True)
    right = p[np.arange(len(label)), label]
    rest = np.where(np.arange(3) == label[:, None], 0, p).sum(1)
    np.testing.assert_allclose(found, np.log(right) - np.log(rest), atol=1e-9)


def test_one_score_in_a_list_is_that_score():
    rows = pd.DataFrame({"trial": "t", "slide": ["a", "b"], "scanner": "A", "held_out": True,
                         "label": [0, 1], "score": [[0.5], [1.5]]})  # fmt: skip
    assert figures_scanners.wide(rows, ["t"])["A"].to_list() == [0.5, 1.5]


def test_the_scanners_that_differ_the_most_are_chosen():
    scores = pd.DataFrame({"A": [0.0, 1], "B": [0.1, 1.1], "C": [3.0, 4], "D": [np.nan, np.nan]})
    assert figures_scanners.furthest(scores, ["A", "B", "C", "D"]) == ("A", "C")
    assert figures_scanners.furthest(scores, ["A", "B"]) == ("A", "B")
    assert figures_scanners.furthest(scores, ["A", "D", "absent"]) is None
    assert figures_scanners.furthest(scores, []) is None


def test_bias_and_limits_of_agreement_are_those_of_bland_and_altman():
    pair = Pair(encoder="uni", cell="erm", first="A", second="B",
                scores=np.array([[1.0, 2.0], [2.0, 2.0], [3.0, 5.0]]))  # fmt: skip
    apart = [1.0, 0.0, 2.0]
    half = 1.96 * np.std(apart, ddof=1)
    made = figures_scanners.bland_altman(pair)
    assert "bias 1.000" in made.caption
    assert f"−{half - 1:.3f} to {1 + half:.3f}" in made.caption
    made.svg()


@pytest.mark.parametrize("count", [0, 1, 1000])
def test_scatter_plots_take_no_one_and_many_slides(count):
    scores = np.arange(2.0 * count).reshape(-1, 2)
    pair = Pair(encoder="uni", cell="erm", first="A", second="B", scores=scores)
    made = figures_scanners.scatter(pair)
    assert ("300 of 1,000" in made.caption) == (count == 1000)
    assert made.svg() and figures_scanners.bland_altman(pair).svg()
