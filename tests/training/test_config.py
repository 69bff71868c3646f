from typing import get_args

import pytest
from pydantic import ValidationError

from tests.training import small
from tests.training.losses.kinds import LOSSES, named
from training.config import (
    CohortFolds,
    InfoNCE,
    Loss,
    MeanHead,
    Optim,
    Sampling,
    ScoreLoss,
    Stopping,
    Task,
    TrialConfig,
    lane_key,
)
from training.config_heads import DSMILHead, LinearProbeHead
from training.config_inputs import Regularisation
from training.config_lanes import loss_key
from training.config_losses import BarlowTwins, GroupDRO, Mixup, ScanGen, SupCon, VRex

PROBE = LinearProbeHead(kind="linear_probe")
SUPCON, SCANGEN = SupCon(kind="supcon"), ScanGen(kind="scangen")
DRO = GroupDRO(kind="group_dro", weight=0.1)
TWINS, MIXUP = BarlowTwins(kind="barlow_twins"), Mixup(kind="mixup")
ATTENTION = ScoreLoss(kind="score", form="attention")
TILE = InfoNCE(kind="infonce", level="tile")
BAG = InfoNCE(kind="infonce")
SCORE = ScoreLoss(kind="score")
PAIRS_OF_4_TILES = Sampling(pairs_per_batch=2, tiles_per_bag=4)
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
        ({"losses": (SUPCON, SCANGEN), "views": "routine"}, "need views: all"),
        ({"losses": (TWINS,), "sampling": Sampling(pairs_per_batch=1)}, "pairs_per_batch of at le"),
        ({"losses": (SCANGEN,), "sampling": Sampling(pairs_per_batch=1)}, "pairs_per_batch of at"),
        (
            {"losses": (SUPCON,), "views": "routine", "sampling": Sampling(slides_per_batch=1)},
            "supcon needs sampling.slides_per_batch of at least 2",
        ),
        ({"losses": (BAG,), "head": PROBE}, "infonce changes nothing in a head of kind linear_pro"),
        ({"losses": (SUPCON,), "head": PROBE}, "supcon changes nothing in a head of kind linear_p"),
        ({"losses": (ATTENTION,), "head": MeanHead(kind="mean")}, "score changes nothing"),
        (
            {"losses": (), "head": PROBE, "precision": "float16"},
            "precision: float16 changes nothing in a head of kind linear_probe",
        ),
        ({"losses": (MIXUP,), "head": DSMILHead(kind="dsmil")}, "mixup needs a head that scores"),
        ({"losses": (MIXUP, DRO)}, "shares of the task loss, 1.1 of it together; expected"),
        ({"fold": 3}, "fold 3 does not exist: there are 3"),
        ({"losses": (), "pairs": "shuffled"}, "changes nothing without a loss between scans"),
        ({"pairs": "same_scan", "views": "routine", "losses": ()}, "same_scan needs views: all"),
        ({"losses": (TILE,), "pairs": "same_scan"}, "infonce of level tile compares tiles of the"),
        ({"losses": (ATTENTION,), "pairs": "same_scan"}, "score of form attention compares tiles"),
        ({"losses": (BAG,), "pairs": "shuffled", "sampling": Sampling(pairs_per_batch=2)}, "3"),
        ({"losses": (TWINS,), "pairs": "shuffled", "sampling": Sampling(pairs_per_batch=1)}, "2"),
        (
            {"losses": (SCORE,), "pairs": "shuffled", "sampling": Sampling(pairs_per_batch=1)},
            "score with pairs: shuffled needs sampling.pairs_per_batch of at least 2",
        ),
        (
            {
                "task": Task(kind="survival"),
                "losses": (SCORE,),
                "regularisation": Regularisation(label_smoothing=0.1),
            },
            "label_smoothing needs classes, not a survival task",
        ),
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
        {"losses": (SUPCON, MIXUP), "views": "routine", "sampling": Sampling(slides_per_batch=2)},
        {"losses": (TWINS.model_copy(update={"level": "tile"}),), "sampling": Sampling()},
        {"losses": (ScoreLoss(kind="score"), MIXUP, VRex(kind="vrex")), "head": PROBE},
        {"losses": (ATTENTION,), "precision": "float16"},
        {"losses": (MIXUP.model_copy(update={"weight": 0.9}), DRO)},
        {"folds": cohort_folds(1), "stopping": NO_VALIDATION},
        {"folds": cohort_folds(2)},
        {"losses": (), "pairs": "same_scan"},
        {"losses": (), "pairs": "augmented"},
        {"losses": (TILE, ATTENTION), "pairs": "augmented"},
        {"losses": (TILE, SCORE), "pairs": "shuffled", "sampling": PAIRS_OF_4_TILES},
        {"losses": (BAG, SCANGEN, TWINS), "pairs": "shuffled"},
        {"losses": (BAG,), "pairs": "same_scan"},
    ],
)
def test_neighbours_of_what_is_refused_are_fine(changed: dict[str, object]):
    assert isinstance(small.trial(**changed), TrialConfig)


def test_a_warm_up_ends_before_training_does():
    assert Optim(epochs=2, warmup_epochs=1).warmup_epochs == 1
    with pytest.raises(ValidationError, match="warmup_epochs must be less than epochs, 2"):
        Optim(epochs=2, warmup_epochs=2)


@pytest.mark.parametrize("loss", LOSSES, ids=named)
def test_losses_of_one_call_share_all_but_weight_and_temperature(loss: Loss):
    head = {"head": {"kind": "clam_sb"}} if loss.kind == "clam_clustering" else {}
    key = loss_key(small.trial(losses=(loss,), **head))
    for name, info in type(loss).model_fields.items():
        old = getattr(loss, name)
        values = {bool: [not old], str: get_args(info.annotation), tuple: [(3,)]}
        for value in values.get(type(old), [old + 1] if type(old) in (int, float) else []):
            if value != old:
                changed = loss.model_copy(update={name: value})
                config = small.trial(**head).model_copy(update={"losses": (changed,)})
                assert (loss_key(config) == key) == (name in ("weight", "temperature")), name
                assert lane_key(config) == lane_key(small.trial(**head)), name


SURVIVAL = {"kind": "survival"}
CONCORDANCE = {"metric": "concordance"}


@pytest.mark.parametrize(
    ("changed", "expected"),
    [
        ({"task": SURVIVAL}, "a survival task has no auroc; set stopping.metric to concordance"),
        ({"stopping": CONCORDANCE}, "concordance is of survival tasks; set stopping.metric to"),
        *(
            (
                {"task": SURVIVAL, "stopping": CONCORDANCE, "losses": [{"kind": kind}]},
                f"{kind} needs classes, which a survival task has not",
            )
            for kind in ("supcon", "lmmd", "cdann", "mixup")
        ),
        *(
            (
                {
                    "task": SURVIVAL,
                    "stopping": CONCORDANCE,
                    "views": "all",
                    "losses": [{"kind": "score", "form": form}],
                },
                f"score of form {form} needs probabilities, which a log-risk has not",
            )
            for form in ("probability_mse", "jensen_shannon")
        ),
        *(
            (
                {
                    "task": {"kind": "survival", "survival": {"risk_set": "cohort"}},
                    "stopping": CONCORDANCE,
                    "losses": [{"kind": kind}],
                },
                f"{kind} needs risk sets inside the batch, task.survival.risk_set: batch",
            )
            for kind in ("irm", "vrex", "group_dro")
        ),
        (
            {
                "task": SURVIVAL,
                "stopping": CONCORDANCE,
                "regularisation": {"label_smoothing": 0.1},
            },
            "label_smoothing needs classes",
        ),
        ({"task": {**SURVIVAL, "survival": {"time": "event"}}}, "column 'event' is named twice"),
        (
            {"task": SURVIVAL, "stopping": CONCORDANCE, "sampling": {"slides_per_batch": 1}},
            "a risk set of one patient teaches nothing",
        ),
        (
            {"task": {**SURVIVAL, "survival": {"loss": "discrete", "strata": ["arm"]}}},
            "strata are of the cox loss",
        ),
        (
            {"task": {**SURVIVAL, "survival": {"loss": "discrete", "risk_set": "cohort"}}},
            "risk_set: cohort is of the cox loss",
        ),
    ],
)
def test_what_does_not_go_with_a_survival_task_is_refused(changed, expected):
    with pytest.raises(ValidationError) as error:
        small.routine(**changed)
    assert expected in str(error.value)


@pytest.mark.parametrize(
    "losses",
    [
        [{"kind": "score", "form": "huber"}, {"kind": "infonce"}, {"kind": "dann"}],
        [{"kind": "irm"}, {"kind": "coral"}],
    ],
)
@pytest.mark.parametrize("metric", ["concordance", "loss", "inconsistency"])
def test_a_survival_task_takes_losses_that_need_no_classes(losses, metric):
    changed = {"task": SURVIVAL, "stopping": {"metric": metric}, "views": "all", "losses": losses}
    assert small.routine(**changed).losses
