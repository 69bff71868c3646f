"""Stopping and resuming a pack, across `training.trainer`, `session` and `checkpoint`."""

from pathlib import Path

import pytest

from tests.training import small
from training.data.index import Dataset
from training.trainer import Stopped, train


@pytest.fixture(scope="module")
def cohort(tmp_path_factory: pytest.TempPathFactory) -> Dataset:
    return small.cohort(tmp_path_factory.mktemp("cohort"))


@pytest.mark.parametrize("stop_after", [1, 3])
def test_a_resumed_pack_is_bit_identical_to_one_never_stopped(
    cohort: Dataset, tmp_path: Path, stop_after: int
):
    configs = [small.stopping_early(seed) for seed in range(4)]
    undisturbed = train(configs, cohort)
    epochs: list[int] = []
    with pytest.raises(Stopped):
        train(
            configs,
            cohort,
            checkpoint=tmp_path,
            on_epoch=lambda epoch, _: epochs.append(epoch),
            stop=lambda: len(epochs) == stop_after,
        )
    resumed = train(
        configs, cohort, checkpoint=tmp_path, on_epoch=lambda epoch, _: epochs.append(epoch)
    )
    assert epochs == list(range(1, len(epochs) + 1))
    for one, other in zip(resumed, undisturbed, strict=True):
        small.assert_same(one, other)


@pytest.mark.parametrize("precision", ["float32", "float16"])
def test_training_stops_inside_an_epoch_and_resumes_at_its_start(
    cohort: Dataset, tmp_path: Path, precision: str
):
    configs = [small.varied(seed).model_copy(update={"precision": precision}) for seed in range(2)]
    undisturbed = train(configs, cohort)
    asked: list[int] = []

    def stop() -> bool:
        asked.append(1)
        return len(asked) == 6  # of 4 steps an epoch

    with pytest.raises(Stopped, match="after epoch 1 of 2"):
        train(configs, cohort, checkpoint=tmp_path, stop=stop)
    epochs: list[int] = []
    resumed = train(
        configs, cohort, checkpoint=tmp_path, on_epoch=lambda epoch, _: epochs.append(epoch)
    )
    assert epochs == [2]
    for one, other in zip(resumed, undisturbed, strict=True):
        small.assert_same(one, other)


def test_a_checkpoint_of_other_trials_is_passed_over(cohort: Dataset, tmp_path: Path, caplog):
    with pytest.raises(Stopped):
        train([small.varied(0)], cohort, checkpoint=tmp_path, stop=lambda: True)
    epochs: list[int] = []
    (found,) = train(
        [small.varied(1)],
        cohort,
        checkpoint=tmp_path,
        on_epoch=lambda epoch, _: epochs.append(epoch),
    )
    assert epochs == [1, 2] and "it is of other trials" in caplog.text
    small.assert_same(found, train([small.varied(1)], cohort)[0])


def test_a_broken_checkpoint_is_passed_over(cohort: Dataset, tmp_path: Path, caplog):
    with pytest.raises(Stopped):
        train([small.varied(0)], cohort, checkpoint=tmp_path, stop=lambda: True)
    (file,) = tmp_path.iterdir()
    file.write_bytes(file.read_bytes()[:-5])
    (found,) = train([small.varied(0)], cohort, checkpoint=tmp_path)
    assert "not a checkpoint" in caplog.text
    small.assert_same(found, train([small.varied(0)], cohort)[0])
