import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from tests.training import small
from training.choosing import Choice
from training.config import Optim, Stopping, TrialConfig
from training.data.index import Dataset
from training.progress import Progress
from training.session import Session
from training.trainer import Stopped, train

MARGIN = Stopping(epoch="within_margin", margin=0.1)


@pytest.fixture(scope="module")
def cohort(tmp_path_factory: pytest.TempPathFactory) -> Dataset:
    return small.cohort(tmp_path_factory.mktemp("cohort"))


def choosing(seed: int, **changed: object) -> TrialConfig:
    """A trial whose choice wanders over 8 epochs of noisy training."""
    given: dict[str, object] = {
        "optim": Optim(lr=0.02 * (1 + seed), epochs=8, schedule="constant"),
        "stopping": Stopping(validation_share=0.25, epoch="within_margin", margin=0.05),
    }
    return small.trial(seed, **(given | changed))


def rows(epoch: int) -> tuple[torch.Tensor, torch.Tensor]:
    return torch.full((3,), float(epoch)), torch.full((2,), -float(epoch))


def judged(choice: Choice, progress: Progress, value: float, spread: float) -> None:
    progress.record({"validation_auroc": value, "validation_inconsistency": spread})
    if progress.judge(value, 1.0, MARGIN):
        choice.keep(0, progress, rows(progress.epochs_trained))


def test_an_older_epoch_comes_back_when_the_best_value_rises():
    choice, progress = Choice(torch.zeros(2, 3), torch.zeros(2, 2), MARGIN), Progress()
    seen = []
    for value, spread in ((0.85, 0.5), (0.80, 0.2), (0.92, 0.9)):
        judged(choice, progress, value, spread)
        seen.append((progress.epoch, choice.flat[0, 0].item(), choice.state[0, 1].item()))
    # Epoch 2 falls out of the margin of epoch 3, and epoch 1 is more consistent than that.
    assert seen == [(1, 1, -1), (2, 2, -2), (1, 1, -1)]
    assert progress.validation == 0.85
    assert choice.flat[1].tolist() == [0, 0, 0]


VALUES = st.lists(
    st.tuples(st.sampled_from([0.5, 0.7, 0.75, 0.8, 0.85, 0.9]), st.floats(0, 2)),
    min_size=1,
    max_size=12,
)


@given(VALUES, st.integers(0, 11))
def test_the_weights_are_those_of_the_choice_also_after_a_restart(values, restart):
    choice, progress = Choice(torch.zeros(1, 3), torch.zeros(1, 2), MARGIN), Progress()
    for number, (value, spread) in enumerate(values):
        judged(choice, progress, value, spread)
        if number == restart:
            tensors, counters = choice.snapshot()
            choice = Choice(torch.ones(1, 3), torch.ones(1, 2), MARGIN)
            choice.restore(tensors, counters, [progress])
        assert choice.flat[0].tolist() == [progress.epoch] * 3
        assert choice.state[0].tolist() == [-progress.epoch] * 2
        assert set(choice._kept[0]) == set(progress.contenders(MARGIN))


def damage_epochs(tensors, counters):
    counters["contenders"][0][0] += 1


@pytest.mark.parametrize(
    "damage",
    [
        damage_epochs,
        lambda tensors, _: tensors.update(contenders_flat=tensors["contenders_flat"][:1]),
        lambda tensors, _: tensors.update(contenders_state=tensors["contenders_state"][:, :1]),
        lambda tensors, _: tensors.update(chosen_flat=tensors["chosen_flat"][:, :1]),
        lambda tensors, _: tensors.pop("contenders_flat"),
        lambda _, counters: counters.pop("contenders"),
    ],
)
def test_a_snapshot_that_is_not_whole_is_refused(damage):
    choice, progress = Choice(torch.zeros(1, 3), torch.zeros(1, 2), MARGIN), Progress()
    judged(choice, progress, 0.85, 0.5)
    judged(choice, progress, 0.80, 0.2)
    tensors, counters = choice.snapshot()
    damage(tensors, counters)
    with pytest.raises((ValueError, KeyError)):
        choice.restore(tensors, counters, [progress])


def test_a_rule_without_a_margin_keeps_and_saves_one_epoch():
    choice = Choice(torch.zeros(1, 3), torch.zeros(1, 2), Stopping())
    progress = Progress()
    progress.record({"validation_auroc": 0.5})
    assert progress.judge(0.5, 1.0, Stopping())
    choice.keep(0, progress, rows(1))
    tensors, counters = choice.snapshot()
    assert sorted(tensors) == ["chosen_flat", "chosen_state"] and counters == {}
    assert choice.flat[0].tolist() == [1, 1, 1]


def test_trained_weights_are_those_of_the_epoch_that_the_curves_choose(cohort: Dataset):
    configs = [choosing(seed) for seed in range(6)]
    session = Session(configs, cohort, device=torch.device("cpu"), resident_bytes=2**20)
    weights = []
    while session.epoch < 8:
        session.run_epoch()
        weights.append((session.lanes.flat.clone(), session.lanes.state.clone()))
    chosen = []
    for lane, progress in enumerate(session.progress):
        value = np.array(progress.curves["validation_auroc"])
        spread = np.array(progress.curves["validation_inconsistency"])
        able = np.flatnonzero(value >= value.max() - 0.05 - 1e-12)
        epoch = int(able[np.argmin(spread[able])]) + 1
        chosen.append(epoch)
        assert progress.epoch == epoch and progress.validation == value[epoch - 1]
        assert torch.equal(session.choice.flat[lane], weights[epoch - 1][0][lane])
        assert torch.equal(session.choice.state[lane], weights[epoch - 1][1][lane])
    assert len(set(chosen)) > 1


@pytest.mark.parametrize(
    ("epoch", "metric"),
    [("within_margin", "auroc"), ("within_margin", "loss"), ("best", "inconsistency")],
)
def test_a_lane_is_bit_identical_alone_in_company_and_after_a_stop(
    cohort: Dataset, tmp_path, epoch: str, metric: str
):
    stopping = Stopping(validation_share=0.25, epoch=epoch, metric=metric, margin=0.05, patience=5)
    configs = [choosing(seed, stopping=stopping) for seed in range(4)]
    undisturbed = train(configs, cohort)
    assert len({result.epoch for result in undisturbed}) > 1
    for number, result in zip((2, 1), train([configs[2], configs[1]], cohort), strict=True):
        small.assert_same(result, undisturbed[number])
    epochs: list[int] = []
    with pytest.raises(Stopped):
        train(
            configs,
            cohort,
            checkpoint=tmp_path,
            on_epoch=lambda epoch, _: epochs.append(epoch),
            stop=lambda: len(epochs) == 4,
        )
    resumed = train(
        configs, cohort, checkpoint=tmp_path, on_epoch=lambda epoch, _: epochs.append(epoch)
    )
    assert epochs == list(range(1, len(epochs) + 1))
    for one, other in zip(resumed, undisturbed, strict=True):
        small.assert_same(one, other)


def test_an_epoch_rule_changes_no_curve_but_adds_one(cohort: Dataset):
    best = Stopping(validation_share=0.25)
    (plain,) = train([choosing(1, stopping=best)], cohort)
    (judged_too,) = train([choosing(1)], cohort)
    assert set(judged_too.curves) - set(plain.curves) == {"validation_inconsistency"}
    for name, values in plain.curves.items():
        assert np.array_equal(values, judged_too.curves[name])
