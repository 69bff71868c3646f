"""Lanes that a caller ends before their time."""

from pathlib import Path

import numpy as np
import pytest

from tests.training import small
from training import trainer
from training.config import Optim
from training.data.index import Dataset
from training.trainer import Stopped, train

EPOCHS = 5


@pytest.fixture(scope="module")
def cohort(tmp_path_factory: pytest.TempPathFactory) -> Dataset:
    return small.cohort(tmp_path_factory.mktemp("cohort"))


def trials(count: int):
    return [small.routine(seed, optim=Optim(lr=0.01, epochs=EPOCHS)) for seed in range(count)]


def test_a_retired_lane_keeps_what_it_had_come_to_and_changes_no_bit_of_the_others(cohort):
    configs = trials(4)
    asked = []

    def retire(epoch, values):
        asked.append((epoch, sorted(values)))
        return {2: [1], 3: [0, 3]}.get(epoch, [])

    found = train(configs, cohort, retire=retire)
    assert asked == [(1, [0, 1, 2, 3]), (2, [0, 1, 2, 3]), (3, [0, 2, 3]), (4, [2])]
    assert [one.state for one in found] == ["retired", "retired", "done", "retired"]
    assert [one.epochs_trained for one in found] == [3, 2, EPOCHS, 3]
    whole = train(configs, cohort)
    small.assert_same(whole[2], found[2])
    for lane in (0, 1, 3):
        for name, curve in found[lane].curves.items():
            np.testing.assert_array_equal(curve, whole[lane].curves[name][: len(curve)])
        assert 1 <= found[lane].epoch <= found[lane].epochs_trained
        assert len(found[lane].predictions) == len(whole[lane].predictions)


def test_the_values_are_the_validation_values_that_the_trials_would_have(cohort):
    told = {}

    def retire(epoch, values):
        told[epoch] = values
        return list(values) if epoch == 3 else []

    found = train(trials(3), cohort, retire=retire)
    assert max(told) == 3
    assert [told[3][lane] for lane in range(3)] == [one.validation for one in found]


def test_a_lone_trial_is_asked_for_once_and_its_companion_ends_with_it(cohort):
    asked = []

    def retire(epoch, values):
        asked.append(list(values))
        return [0] if epoch == 2 else []

    (found,) = train(trials(1), cohort, retire=retire)
    assert asked == [[0], [0]]
    assert (found.state, found.epochs_trained) == ("retired", 2)


def test_a_retirement_is_in_the_checkpoint_of_its_epoch(cohort, tmp_path: Path):
    configs = trials(3)

    def retire(epoch, values):
        assert epoch != 2 or not stopped
        return [1] if epoch == 2 else []

    stopped: list[int] = []
    epochs: list[int] = []
    with pytest.raises(Stopped):
        train(
            configs, cohort, retire=retire, checkpoint=tmp_path / "c", checkpoint_every_s=0.0,
            on_epoch=lambda epoch, _: epochs.append(epoch), stop=lambda: len(epochs) == 2,
        )  # fmt: skip
    stopped.append(1)
    found = train(configs, cohort, retire=retire, checkpoint=tmp_path / "c")
    straight = train(configs, cohort, retire=lambda epoch, _: [1] if epoch == 2 else [])
    assert [one.state for one in found] == ["done", "retired", "done"]
    for one, other in zip(found, straight, strict=True):
        small.assert_same(one, other)


def test_nobody_is_asked_after_the_last_epoch(cohort):
    epochs = []
    trainer.train(trials(2), cohort, retire=lambda epoch, _: epochs.append(epoch) or [])
    assert epochs == list(range(1, EPOCHS))
