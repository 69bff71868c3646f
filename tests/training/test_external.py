"""External cohorts and values left out, through training itself."""

from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
import torch

from tests.training import small
from training.config import LeaveOneOutFolds
from training.data import index
from training.data.index import Dataset
from training.session import Session
from training.trainer import train

COLUMNS = ["patient", "slide", "view", "scanner", "part", "held_out", "label", "score"]


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Dataset:
    """A cohort of which the last six patients are another one, with a scanner of its own."""
    views = [
        replace(view, cohort="far" if view.patient >= "patient 018" else "near")
        for view in small.views()
    ]
    return small.cohort(tmp_path_factory.mktemp("data"), views)


def without_far(data: Dataset) -> Dataset:
    return index.Dataset(
        root=data.root,
        index=data.index[data.index["cohort"] == "near"].reset_index(drop=True),
        cases=data.cases,
        folds=None,
    )


def test_external_patients_are_scored_and_change_no_bit_of_the_rest(data: Dataset) -> None:
    config = small.trial(external_cohorts=("far",))
    locked, plain = train([config], data)[0], train([small.trial()], without_far(data))[0]
    found = locked.predictions
    far = found["part"] == "external"
    assert set(found.loc[far, "patient"]) == {f"patient {n:03}" for n in range(18, 24)}
    expected = data.index.loc[data.index["cohort"] == "far", "view"]
    assert sorted(found.loc[far, "view"]) == sorted(expected)
    assert not found.loc[far, "held_out"].any()
    assert np.isfinite(found.loc[far, "score"].astype(float)).all()
    pd.testing.assert_frame_equal(
        found.loc[~far, COLUMNS].reset_index(drop=True),
        plain.predictions[COLUMNS].reset_index(drop=True),
        check_exact=True,
    )
    small.assert_same(replace(locked, predictions=plain.predictions), plain)


def test_a_scanner_that_is_left_out_trains_nothing_and_is_scored(data: Dataset) -> None:
    kind = LeaveOneOutFolds(kind="leave_one_out", column="scanner", values=("A", "B"), num_folds=2)
    config = small.trial(folds=kind, fold=1, losses=[{"kind": "coral"}])
    session = Session([config, config], data, device=torch.device("cpu"), resident_bytes=2**20)
    table = session.scans.table
    drawn = np.concatenate([session.pool.routine, *map(np.ravel, session.pool.pairs)])
    assert set(table["scanner"].iloc[drawn]) == {"B", "C"}
    assert session.validation is not None
    assert "A" not in set(table["scanner"].iloc[session.validation.rows])
    assert session.scans.num_groups == {"scanner": 2}
    found = train([config], data)[0].predictions
    assert set(found.loc[found["held_out"], "scanner"]) == {"A", "B", "C"}
    assert set(found.loc[~found["held_out"], "scanner"]) <= {"B", "C"}
