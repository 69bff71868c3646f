"""Lanes whose losses are of several kinds: the bits that they have among their own kind."""

import itertools
from pathlib import Path

import pytest
from pydantic import ValidationError

from tests.training import small
from tests.training.losses import kinds
from tests.training.models.test_contract import HEADS
from tests.training.models.test_contract import named as head_name
from tests.training.plain import assert_as_in_a_plain_loop
from training import memory
from training.artefacts import Keep
from training.config import Head, Loss, Optim, Stopping, TrialConfig, lane_key
from training.config_lanes import loss_key
from training.data.index import Dataset
from training.trainer import LaneResult, Stopped, train

Losses = tuple[Loss, ...]
EVERY: list[Losses] = [(), small.losses(), *((loss,) for loss in kinds.LOSSES)]
BY_KIND = {loss.kind: loss for loss in reversed(kinds.LOSSES)}
FEW: list[Losses] = [
    (),
    small.losses(),  # projections
    (BY_KIND["cdann"],),  # a discriminator of another learning part
    (BY_KIND["irm"],),  # a counter
    (BY_KIND["group_dro"],),  # a memory
    (BY_KIND["mixup"],),  # the model's own classifier
]
HEAD: Head = next(head for head in HEADS if head.kind == "gated_attention")
KEPT = Keep(embeddings=True, attention=True, gradients=True)


@pytest.fixture(scope="module")
def cohort(tmp_path_factory: pytest.TempPathFactory) -> Dataset:
    root: Path = tmp_path_factory.mktemp("cohort")
    return kinds.cohort(root)


def trial(seed: int, losses: Losses, head: Head = HEAD, **changed: object) -> TrialConfig:
    """A lane that differs from others in all that it may."""
    given = [loss.model_copy(update={"weight": 0.1 + 0.1 * (seed % 5)}) for loss in losses]
    optim = Optim(
        lr=0.003 * (1 + seed % 3), weight_decay=0.1 * (seed % 2), epochs=2,
        clip=None if seed % 4 == 0 else 0.5,
    )  # fmt: skip
    fields = {"head": head, "optim": optim, "losses": tuple(given)} | changed
    return small.trial(seed, **fields)


def possible(head: Head) -> list[Losses]:
    """List the losses that can stand beside a head."""
    found = []
    for losses in EVERY:
        try:
            trial(0, losses, head)
        except ValidationError:
            continue
        found.append(losses)
    return found


def among_their_own(
    configs: list[TrialConfig], cohort: Dataset, **options: object
) -> list[LaneResult]:
    """Train each trial beside another seed of itself."""
    pairs = ([one, one.model_copy(update={"seed": one.seed + 100})] for one in configs)
    return [train(pair, cohort, **options)[0] for pair in pairs]


def assert_same(found: list[LaneResult], expected: list[LaneResult]) -> None:
    assert {result.state for result in found} == {"done"}
    for one, other in zip(found, expected, strict=True):
        small.assert_same(one, other)


@pytest.mark.parametrize("together", [2, 3, 100])
def test_a_lane_has_the_same_bits_beside_other_losses(cohort: Dataset, monkeypatch, together: int):
    monkeypatch.setattr(memory, "lanes_together", lambda *_, **__: together)
    configs = [trial(seed, losses) for seed, losses in enumerate(FEW)]
    more = [one.model_copy(update={"seed": one.seed + 50}) for one in configs]
    assert len({lane_key(config) for config in configs}) == 1
    assert len({loss_key(config) for config in configs}) == len(FEW)
    expected = among_their_own(configs, cohort)
    assert_same(train(configs, cohort), expected)  # each alone in its kind
    by_kind = [each for pair in zip(configs, more, strict=True) for each in pair]
    assert_same(train(by_kind, cohort)[::2], expected)
    assert_same(train([*more, *configs], cohort)[len(more) :], expected)


@pytest.mark.slow
@pytest.mark.parametrize(
    "head", {head.kind: head for head in reversed(HEADS)}.values(), ids=head_name
)
def test_every_loss_has_its_bits_beside_every_other(cohort: Dataset, head: Head):
    configs = [trial(seed, losses, head) for seed, losses in enumerate(possible(head))]
    assert len(configs) > 10 and len({lane_key(config) for config in configs}) == 1
    expected = among_their_own(configs, cohort)
    assert_same(train(configs, cohort), expected)
    assert_same(train(configs[::-1], cohort)[::-1], expected)


def test_lanes_of_several_kinds_are_ordinary_models_in_float64(cohort: Dataset):
    optim = Optim(lr=0.003, epochs=1, clip=0.5)
    configs = [
        trial(seed, losses, precision="float64", optim=optim) for seed, losses in enumerate(FEW)
    ]
    assert_as_in_a_plain_loop(
        [*configs, trial(9, FEW[3], precision="float64", optim=optim)], cohort
    )


def test_curves_name_the_losses_of_their_own_lane(cohort: Dataset):
    found = train([trial(seed, losses) for seed, losses in enumerate(FEW[:4])], cohort)
    names = [[*result.curves][2:] for result in found]
    own = [[name for name in each if "validation" not in name and name != "lr"] for each in names]
    assert own == [[], ["infonce", "infonce_2", "score"], ["cdann"], ["irm"]]


def test_what_is_kept_of_a_lane_is_its_own(cohort: Dataset):
    configs = [trial(seed, losses) for seed, losses in enumerate(FEW)]
    expected = among_their_own(configs, cohort, keep=KEPT)
    for one, other in zip(train(configs, cohort, keep=KEPT), expected, strict=True):
        assert one.kept is not None and other.kept is not None
        assert one.kept.measured == other.kept.measured and one.kept.measured
        assert one.kept.embeddings is not None and other.kept.embeddings is not None
        assert (one.kept.embeddings == other.kept.embeddings).all()


def ending(seed: int, losses: Losses) -> TrialConfig:
    """A lane that may end before its 8 epochs do."""
    return trial(
        seed,
        losses,
        optim=Optim(lr=0.01 * 3 ** (seed % 4), epochs=8, schedule="constant"),
        stopping=Stopping(validation_share=0.25, metric="loss", patience=1),
    )


def test_lanes_that_end_leave_the_others_of_their_kind_and_of_others_alone(cohort: Dataset):
    configs = [ending(seed, losses) for seed, losses in enumerate(FEW)]
    found = train(configs, cohort)
    assert len({result.epochs_trained for result in found}) > 2
    assert_same(found, among_their_own(configs, cohort))


def test_a_lane_that_is_not_finite_leaves_other_kinds_alone(cohort: Dataset):
    configs = [trial(seed, losses) for seed, losses in enumerate(FEW)]
    wild = configs[2].model_copy(update={"optim": Optim(lr=1e30, epochs=2)})
    found = train([*configs[:2], wild, *configs[3:]], cohort)
    assert found[2].state == "failed" and found[2].failure.startswith("numeric")
    rest = [configs[place] for place in (0, 1, 3, 4, 5)]
    assert_same([found[place] for place in (0, 1, 3, 4, 5)], among_their_own(rest, cohort))


def test_parts_of_a_pack_go_on_from_its_checkpoint(cohort: Dataset, tmp_path: Path):
    configs = [ending(seed, losses) for seed, losses in enumerate(FEW)]
    undisturbed = train(configs, cohort)
    last = max(result.epochs_trained for result in undisturbed)
    epochs: list[int] = []
    with pytest.raises(Stopped):
        train(
            configs, cohort, checkpoint=tmp_path, stop=lambda: len(epochs) == last - 1,
            on_epoch=lambda epoch, _: epochs.append(epoch),
        )  # fmt: skip
    everyone = range(len(configs))
    for part in (
        everyone,
        *itertools.combinations(everyone, 2),
        (5, 0, 3),
        *([x] for x in everyone),
    ):
        found = train([configs[lane] for lane in part], cohort, checkpoint=tmp_path)
        for lane, result in zip(part, found, strict=True):
            small.assert_same(result, undisturbed[lane])
