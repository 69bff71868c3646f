"""Input methods in training: all lanes alike, the same after a stop, and of use."""

from pathlib import Path

import numpy as np
import pytest
import torch

from tests.training import small
from tests.training.data.test_inputs import METHODS, named
from training import objective, simulate
from training.config import (
    CohortFolds,
    InputMethod,
    MeanHead,
    NoInputMethod,
    Optim,
    Sampling,
    Stopping,
    TrialConfig,
)
from training.config_heads import LinearProbeHead
from training.config_inputs import Centre
from training.config_losses import Coral, MixStyle
from training.data import index, scans
from training.data.bags import BagReader
from training.data.index import Dataset
from training.errors import DataError
from training.metrics.robustness import inconsistency
from training.session import Session
from training.simulation_config import Shift, SimulatedEncoder, Simulation
from training.trainer import LaneResult, Stopped, train


@pytest.fixture(scope="module")
def cohort(tmp_path_factory: pytest.TempPathFactory) -> Dataset:
    return small.cohort(tmp_path_factory.mktemp("cohort"))


def rich(method: InputMethod, seed: int = 0, **changed: object) -> TrialConfig:
    """Beside pair losses, a group loss, MixStyle and drawn tiles."""
    losses = (*small.losses(1.0 + seed), Coral(kind="coral"))
    mixed = MixStyle(probability=0.5)
    return small.trial(seed, input=method, losses=losses, mixstyle=mixed, **changed)


BOTH_KINDS_OF_MAP = [METHODS[1], METHODS[3]]


@pytest.mark.parametrize(
    "method",
    [
        pytest.param(each, marks=() if each in BOTH_KINDS_OF_MAP else pytest.mark.slow)
        for each in METHODS
    ],
    ids=named,
)
def test_lanes_stops_and_memory_change_no_bit(cohort: Dataset, tmp_path: Path, method: InputMethod):
    everyone = train([rich(method, seed) for seed in range(5)], cohort, resident_bytes=0)
    (alone,) = train([rich(method, 3)], cohort)
    small.assert_same(alone, everyone[3])
    done: list[int] = []
    with pytest.raises(Stopped):
        train(
            [rich(method, seed) for seed in (3, 0)],
            cohort,
            checkpoint=tmp_path,
            on_epoch=lambda epoch, _: done.append(epoch),
            stop=lambda: bool(done),
        )
    resumed = train([rich(method, seed) for seed in (3, 0)], cohort, checkpoint=tmp_path)
    small.assert_same(resumed[0], everyone[3])
    small.assert_same(resumed[1], everyone[0])
    assert any(name.startswith("input.") for name in alone.weights)
    (plain,) = train([rich(NoInputMethod(kind="none"), 3)], cohort)
    assert not np.array_equal(plain.predictions["score"], alone.predictions["score"])
    assert not any(name.startswith("input.") for name in plain.weights)


@pytest.mark.parametrize("method", METHODS, ids=named)
def test_kept_weights_alone_give_the_predictions(cohort: Dataset, method: InputMethod):
    """Map and model as kept, applied by hand to bags from disk."""
    head = LinearProbeHead(kind="linear_probe")
    config = small.trial(input=method, head=head, precision="float64", losses=())
    (result,) = train([config], cohort)
    found = scans.read(cohort, config)
    kept = {name: torch.from_numpy(value) for name, value in result.weights.items()}
    model = objective.initialise(
        config, 0, in_dim=small.DIM, num_outputs=1, num_groups=found.num_groups
    ).model
    own = {name: value for name, value in kept.items() if not name.startswith("input.")}
    model.load_state_dict(own)
    model.eval()
    reader = BagReader(cohort.root)
    entries = found.table.set_index("view", drop=False)
    for row in result.predictions.itertuples():
        bag = torch.from_numpy(np.array(reader.embeddings(entries.loc[row.view]), np.float64))
        if "input.left" in kept:
            bag = bag - (bag - kept["input.mean"]) @ kept["input.right"].T @ kept["input.left"].T
        else:
            bag = bag * kept[f"input.scale.{row.scanner}"] + kept[f"input.shift.{row.scanner}"]
        score = model(bag[None], torch.ones(1, len(bag), dtype=torch.bool), ()).scores
        assert score.item() == pytest.approx(row.score, abs=1e-9)


def test_a_map_that_cannot_be_fitted_is_refused_before_the_first_step(cohort: Dataset):
    config = small.trial(input=Centre(kind="centre", group="stain"))
    with pytest.raises(DataError, match="two groups by stain"):
        Session([config, config], cohort, device=torch.device("cpu"), resident_bytes=0)


def spread_between_scanners(result: LaneResult) -> float:
    held = result.predictions[result.predictions["held_out"]]
    scores = held.pivot(index="slide", columns="scanner", values="score")
    return inconsistency(scores.to_numpy(np.float64))


@pytest.mark.slow
def test_where_scanners_differ_by_an_offset_input_methods_make_models_agree(tmp_path: Path):
    """Every slide is paired, so that the scanner does not go with the class."""
    world = Simulation(
        seed=11,
        dev_patients=60,
        test_patients=40,
        unseen_scanners=(),
        paired_share=1.0,
        confounding=0.8,
        shift=Shift(offset=1.0, mixing=0, nonlinear=0, noise=0),
        encoders={"one": SimulatedEncoder(dim=32)},
        min_tiles=30,
        max_tiles=50,
    )
    simulate.write(world, tmp_path)
    data = index.read(tmp_path)

    def trained(method: InputMethod, seed: int) -> float:
        config = TrialConfig(
            encoder="one",
            task={"label": "label"},
            head=MeanHead(kind="mean", embed_dims=(32,)),
            views="all",
            input=method,
            sampling=Sampling(tiles_per_bag=20),
            optim=Optim(lr=1e-3, epochs=8),
            stopping=Stopping(validation_share=0, epoch="last", threshold="half"),
            folds=CohortFolds(kind="cohort", train=("dev",), test=("test",)),
            fold=0,
            seed=seed,
        )
        return spread_between_scanners(train([config], data)[0])

    plain = np.mean([trained(NoInputMethod(kind="none"), seed) for seed in range(2)])
    for method in METHODS:
        moved = np.mean([trained(method, seed) for seed in range(2)])
        assert moved < 0.5 * plain, (method.kind, moved, plain)
