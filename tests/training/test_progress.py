import dataclasses
import json
import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from training.config import Stopping
from training.progress import Progress, contenders

LOSS = Stopping(metric="loss")
AUROC = Stopping(metric="auroc")


def run(values: list[tuple[float, float]], stopping: Stopping) -> tuple[Progress, list[bool]]:
    progress, kept = Progress(), []
    for value, loss in values:
        progress.record({})
        kept.append(progress.judge(value, loss, stopping))
        if progress.state != "training":
            break
    return progress, kept


def test_the_lowest_loss_is_kept():
    progress, kept = run([(0.5, 0.5), (0.3, 0.3), (0.4, 0.4)], LOSS)
    assert kept == [True, True, False]
    assert (progress.epoch, progress.validation) == (2, 0.3)


def test_the_highest_auroc_is_kept_and_the_loss_breaks_ties():
    progress, _ = run([(0.9, 0.5), (1.0, 0.4), (1.0, 0.3), (1.0, 0.3), (0.8, 0.1)], AUROC)
    assert (progress.epoch, progress.validation) == (3, 1.0)


def test_an_undefined_auroc_leaves_the_choice_to_the_loss():
    progress, _ = run([(math.nan, 0.5), (math.nan, 0.2), (math.nan, 0.3)], AUROC)
    assert progress.epoch == 2 and math.isnan(progress.validation)


def test_patience_counts_epochs_without_improvement():
    stopping = Stopping(metric="loss", patience=2)
    progress, _ = run([(v, v) for v in (0.5, 0.6, 0.4, 0.5, 0.45, 0.1)], stopping)
    assert progress.state == "stopped"
    assert (progress.epoch, progress.epochs_trained) == (3, 5)


def test_last_keeps_every_epoch_and_still_stops():
    stopping = Stopping(metric="loss", epoch="last", patience=1)
    progress, kept = run([(0.5, 0.5), (0.6, 0.6), (0.1, 0.1)], stopping)
    assert kept == [True, True]
    assert (progress.epoch, progress.validation, progress.state) == (2, 0.6, "stopped")


def test_without_validation_the_last_epoch_counts():
    stopping = Stopping(validation_share=0, epoch="last", threshold="half")
    progress, kept = run([(math.nan, math.nan)] * 3, stopping)
    assert kept == [True] * 3 and progress.epoch == 3


@given(st.lists(st.tuples(st.floats(0, 1), st.floats(0, 5)), min_size=1, max_size=12))
def test_the_kept_epoch_is_the_first_of_the_best(values: list[tuple[float, float]]):
    progress, _ = run(values, AUROC)
    best = max(values, key=lambda pair: (pair[0], -pair[1]))
    assert progress.epoch == 1 + values.index(best)


def test_a_record_survives_json():
    progress, _ = run([(0.5, 0.4)], AUROC)
    progress.record({"loss": 0.1})
    assert Progress(**json.loads(json.dumps(dataclasses.asdict(progress)))) == progress


LEAST = Stopping(metric="inconsistency")


def test_the_lowest_inconsistency_is_kept_the_loss_breaks_ties_and_undefined_is_worst():
    values = [(math.nan, 0.1), (math.nan, 0.05), (0.4, 0.9), (0.4, 0.8), (0.4, 0.8), (0.5, 0.1)]
    progress, kept = run(values, LEAST)
    assert kept == [True, True, True, True, False, False]
    assert (progress.epoch, progress.validation) == (4, 0.4)


def test_patience_with_a_margin_counts_epochs_since_the_best_value():
    stopping = Stopping(epoch="within_margin", margin=0.1, patience=2)
    progress = Progress()
    for value, spread in ((0.9, 0.5), (0.85, 0.4), (0.85, 0.3), (0.95, 0.1)):
        if progress.state == "training":
            progress.record({"validation_auroc": value, "validation_inconsistency": spread})
            progress.judge(value, 1.0, stopping)
    assert (progress.state, progress.epochs_trained) == ("stopped", 3)
    assert (progress.epoch, progress.validation) == (3, 0.85)


def test_a_margin_on_the_loss_is_above_the_lowest():
    stopping = Stopping(epoch="within_margin", metric="loss", margin=0.1)
    progress = Progress()
    for loss, spread in ((0.60, 0.1), (0.55, 0.3), (0.50, 0.5)):
        progress.record({"validation_loss": loss, "validation_inconsistency": spread})
        progress.judge(loss, loss, stopping)
    assert (progress.epoch, progress.validation) == (1, 0.6)  # 0.6 - 0.5 is above 0.1 as a float
    progress.record({"validation_loss": 0.4, "validation_inconsistency": 0.9})
    progress.judge(0.4, 0.4, stopping)
    assert progress.epoch == 3


@pytest.mark.parametrize(
    ("values", "spread", "expected"),
    [
        ([0.8], [0.5], [1]),
        ([0.8, 0.8], [0.5, 0.5], [1]),  # the first of equal epochs
        ([0.8, 0.81], [0.5, 0.5], [2]),  # of equally inconsistent ones the better
        ([0.9, 0.85, 0.79], [0.5, 0.4, 0.1], [2, 1]),  # 0.79 is out of the margin
        ([0.8, 0.85, 0.9], [0.3, 0.2, 0.4], [2, 3]),  # the first is worse in both
        ([0.9, 0.9], [math.nan, 3.0], [2]),
        ([0.9, 0.8], [math.nan, math.nan], [1]),
    ],
)
def test_contenders_by_hand(values, spread, expected):
    assert contenders(np.array(values), np.array(spread), margin=0.1) == expected


EPOCHS = st.lists(
    st.tuples(
        st.one_of(st.integers(0, 10).map(lambda n: n / 10), st.floats(0, 1)),
        st.one_of(st.just(math.nan), st.integers(0, 4).map(float), st.floats(0, 3)),
    ),
    min_size=1,
    max_size=15,
)


@given(EPOCHS, st.sampled_from([0.0, 0.1, 0.25, 2.0]))
def test_the_first_contender_is_the_choice_of_a_search_and_none_returns(epochs, margin):
    values, spread = np.array(epochs).T
    before: set[int] = set()
    for count in range(1, len(epochs) + 1):
        found = contenders(values[:count], spread[:count], margin=margin)
        best = values[:count].max()
        able = [e for e in range(count) if best - values[e] <= margin + 1e-12]
        rank = [np.nan_to_num(spread[e], nan=np.inf) for e in able]
        least = [e for e, own in zip(able, rank, strict=True) if own == min(rank)]
        assert found[0] == 1 + max(least, key=lambda e: (values[e], -e))
        assert set(found) <= before | {count}
        before = set(found)


def test_only_an_epoch_that_contends_changes_the_list():
    progress, stopping = Progress(), Stopping(epoch="within_margin", margin=0.1)
    for value, spread in ((0.9, 0.5), (0.85, 0.6), (0.85, 0.1), (0.7, 0.0)):
        progress.record({"validation_auroc": value, "validation_inconsistency": spread})
        before = progress.epoch
        if not progress.judge(value, 1.0, stopping):
            assert progress.epoch == before
    assert progress.epoch == 3 and progress.contenders(stopping) == [3, 1]


def test_without_a_defined_value_the_loss_decides_within_a_margin_too():
    progress, stopping = Progress(), Stopping(epoch="within_margin", margin=0.1)
    kept = []
    for loss, inconsistency in ((0.9, 0.5), (0.4, 0.7), (0.6, 0.1)):
        values = {"validation_loss": loss, "validation_auroc": math.nan}
        progress.record(values | {"validation_inconsistency": inconsistency})
        kept.append(progress.judge(math.nan, loss, stopping))
    assert kept == [True, True, False]
    assert progress.epoch == 2 and progress.contenders(stopping) == [2]
