import dataclasses
import json
import math

from hypothesis import given
from hypothesis import strategies as st

from training.config import Stopping
from training.progress import Progress

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
