"""Fronts, differences and curves of the trade-off between accuracy and robustness."""

from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from orchestrator import tradeoff

VALUES = st.sampled_from([0.0, 0.25, 0.5, 1.0, float("nan")])


def joined(cells):
    return SimpleNamespace(cells=pd.DataFrame(cells))


@given(st.lists(st.tuples(st.sampled_from("ab"), VALUES, VALUES), min_size=1, max_size=12))
def test_a_cell_is_on_the_front_where_no_other_of_its_encoder_beats_it(rows):
    table = pd.DataFrame(rows, columns=["encoder", "auroc", "inconsistency"])
    if table["auroc"].isna().all():
        assert not tradeoff.front(table).any()
        return
    found = tradeoff.front(table)
    for place, (encoder, high, low) in enumerate(rows):
        beaten = any(
            e == encoder and h >= high and i <= low and (h > high or i < low) for e, h, i in rows
        )
        assert found[place] == (not beaten and high == high and low == low)


def test_cells_of_another_task_have_a_front_of_their_own():
    table = pd.DataFrame(
        {"encoder": "a", "task.label": ["os", "os", "pfs"], "auroc": [0.9, 0.6, 0.7],
         "inconsistency": [0.1, 0.2, 0.3]}
    )  # fmt: skip
    assert list(tradeoff.front(table)) == [True, False, True]
    assert [name for name, _ in tradeoff.competing(table)] == [
        "a, task.label=os", "a, task.label=pfs"
    ]  # fmt: skip


def test_cells_are_compared_with_the_reference_cell_of_the_same_axes():
    cells = [
        {"encoder": "a", "arm": "erm", "optim.lr": "1"},
        {"encoder": "a", "arm": "erm", "optim.lr": "2"},
        {"encoder": "a", "arm": "score", "optim.lr": "2"},
        {"encoder": "b", "arm": "score", "optim.lr": "2"},
    ]
    main = pd.DataFrame(cells).assign(auroc=[0.5, 0.6, 0.9, 0.8], inconsistency=[1, 2, 0.5, 1.0])
    made = tradeoff.table(joined(cells), main, None, reference="erm")
    np.testing.assert_allclose(
        made["auroc_difference"], [np.nan, np.nan, 0.3, np.nan], equal_nan=True, atol=1e-12
    )
    assert made["inconsistency_difference"][2] == -1.5
    assert made["front"].to_list() == [False, False, True, True]
    assert "accuracy" not in made


def test_without_a_reference_there_is_no_difference():
    cells = [{"encoder": "a", "arm": "score"}]
    made = tradeoff.table(joined(cells), pd.DataFrame(cells).assign(auroc=0.5), None, reference="")
    assert made["auroc_difference"].isna().all() and not made["front"].any()


def test_a_curve_has_the_cells_that_differ_in_one_weight_only_by_rising_weight():
    table = pd.DataFrame(
        {
            "encoder": "a",
            "arm": ["erm", "score", "score", "score", "both", "both"],
            "losses.score.weight": ["", "10", "0.1", "1", "1", "1"],
            "optim.lr": ["1", "1", "1", "2", "1", "2"],
        }
    )
    curves = list(tradeoff.curves(table, ["losses.score.weight", "optim.lr"]))
    assert [(c.arm, c.rest, c.weights.tolist()) for c in curves] == [
        ("score", "optim.lr=1", [0.1, 10.0])
    ]
    assert curves[0].rows.index.to_list() == [2, 1]


@pytest.mark.parametrize(
    ("columns", "wanted"),
    [({"auroc": [0.5]}, "auroc"), ({"auroc": [np.nan], "concordance": [0.7]}, "concordance"),
     ({"flip_rate": [0.1]}, "")],
)  # fmt: skip
def test_quality_is_the_first_metric_that_has_values(columns, wanted):
    assert tradeoff.quality(pd.DataFrame(columns)) == wanted
