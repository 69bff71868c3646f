import pytest
from pydantic import ValidationError

from tests.training import small
from training.config import (
    CohortFolds,
    InfoNCE,
    Optim,
    Sampling,
    ScoreLoss,
    Stopping,
    TrialConfig,
)

TILE = InfoNCE(kind="infonce", level="tile")
BAG = InfoNCE(kind="infonce")
NO_VALIDATION = Stopping(validation_share=0, epoch="last", threshold="half")


def cohort_folds(num_folds: int) -> CohortFolds:
    return CohortFolds(kind="cohort", train=("a",), test=("b",), num_folds=num_folds)


@pytest.mark.parametrize(
    ("changed", "expected"),
    [
        ({"losses": (TILE,), "sampling": Sampling()}, "tile needs a number for sampling.tiles_p"),
        (
            {"losses": (BAG,), "sampling": Sampling(pairs_per_batch=1)},
            "sampling.pairs_per_batch of at least 2",
        ),
        (
            {"folds": cohort_folds(2), "stopping": NO_VALIDATION},
            "stopping.validation_share must not be 0",
        ),
        ({"losses": (BAG,), "views": "routine"}, "need views: all"),
        ({"fold": 3}, "fold 3 does not exist: there are 3"),
    ],
)
def test_what_cannot_be_trained_is_refused(changed: dict[str, object], expected: str):
    with pytest.raises(ValidationError, match=expected):
        small.trial(**changed)


@pytest.mark.parametrize(
    "changed",
    [
        {"losses": (TILE,), "sampling": Sampling(pairs_per_batch=1, tiles_per_bag=8)},
        {"losses": (BAG,), "sampling": Sampling(pairs_per_batch=2)},
        {"losses": (ScoreLoss(kind="score"),), "sampling": Sampling(pairs_per_batch=1)},
        {"folds": cohort_folds(1), "stopping": NO_VALIDATION},
        {"folds": cohort_folds(2)},
    ],
)
def test_neighbours_of_what_is_refused_are_fine(changed: dict[str, object]):
    assert isinstance(small.trial(**changed), TrialConfig)


def test_a_warm_up_ends_before_training_does():
    assert Optim(epochs=2, warmup_epochs=1).warmup_epochs == 1
    with pytest.raises(ValidationError, match="warmup_epochs must be less than epochs, 2"):
        Optim(epochs=2, warmup_epochs=2)
