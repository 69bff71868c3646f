from pathlib import Path

import numpy as np
import pytest
import torch

from tests.training import small
from training import attribution, simulate, trainer
from training.artefacts import Keep
from training.config import CohortFolds, MeanHead, Optim, Stopping, TrialConfig
from training.data import index
from training.data.index import Dataset
from training.session import Session
from training.simulation_config import Shift, SimulatedEncoder, Simulation


@pytest.fixture(scope="module")
def cohort(tmp_path_factory: pytest.TempPathFactory) -> Dataset:
    return small.cohort(tmp_path_factory.mktemp("cohort"))


def session(configs: list[TrialConfig], dataset: Dataset) -> Session:
    return Session(configs, dataset, device=torch.device("cpu"), resident_bytes=2**30)


@pytest.mark.parametrize("kind", ["binary", "multiclass"])
def test_the_gradient_is_that_of_finite_differences(cohort: Dataset, kind: str):
    config = {"precision": "float64", "task": {"kind": kind}}
    made = session([small.trial(0, **config), small.trial(1, **config)], cohort)
    rows = made.scans.of("test", seen_only=False)[:5]
    found = attribution.gradients(made.lanes, 1, made.scans, made.loader, rows).numpy()
    assert found.shape == (5, 1 if kind == "binary" else 2, small.DIM)
    group = made.lanes.groups[0]

    def scores(row: int, shift: np.ndarray) -> np.ndarray:
        bags, mask = made.loader.whole(np.array([row]))
        bags = bags + torch.from_numpy(shift)
        none = group.share(bags.new_empty(0))
        inputs = group.share(bags), group.share(mask), (), none, none
        (given,) = made.lanes.call(group, *inputs, shared=(None,), train=False)
        row_scores: np.ndarray = given[1, 0].detach().numpy()
        return row_scores - row_scores.mean() if kind == "multiclass" else row_scores

    for place, row in enumerate(rows.tolist()):
        for feature in range(small.DIM):
            step = 1e-6 * np.eye(small.DIM)[feature]
            slope = (scores(row, step) - scores(row, -step)) / 2e-6
            np.testing.assert_allclose(found[place, :, feature], slope, atol=1e-7, rtol=1e-5)


def test_the_gradient_of_a_lane_knows_nothing_of_its_companions(cohort: Dataset):
    alone = session([small.varied(3), small.varied(3)], cohort)
    many = session([small.varied(number) for number in range(5)], cohort)
    rows = alone.scans.of("test", seen_only=False)
    a = attribution.gradients(alone.lanes, 0, alone.scans, alone.loader, rows)
    b = attribution.gradients(many.lanes, 3, many.scans, many.loader, rows)
    assert torch.equal(a, b)


def test_pooled_embeddings_are_means_of_the_tiles(cohort: Dataset):
    made = session([small.trial(0), small.trial(1)], cohort)
    rows = made.scans.of("train", seen_only=True)
    pooled = attribution.mean_pooled(made.scans, made.loader, rows)
    for place, row in enumerate(rows.tolist()):
        entry = next(made.scans.table.iloc[[row]].itertuples(index=False))
        expected = made.loader._reader.whole(entry).astype(np.float64).mean(0)
        np.testing.assert_allclose(pooled[place], expected, rtol=1e-6)


def test_pairs_are_of_one_slide_and_of_different_known_scanners():
    slide = np.array(["s", "t", "s", "s", "t", "s", "u"])
    scanner = np.array(["B", "A", "A", "C", "", "A", "A"])
    rows = np.array([0, 1, 2, 4, 5, 6])
    pairs = attribution.scan_pairs(rows, slide, scanner)
    assert sorted(map(tuple, pairs.T.tolist())) == [(2, 0), (5, 0)]
    assert attribution.scan_pairs(rows[:2], slide, scanner).shape == (2, 0)


def test_the_subspace_is_of_training_slides_on_seen_scanners_alone(cohort: Dataset):
    made = session([small.routine(seed, unseen_scanners=("C",)) for seed in (0, 1)], cohort)
    table = made.scans.table
    train = table[(table["part"] == "train") & (table["scanner"] != "C")]
    pooled = attribution.mean_pooled(made.scans, made.loader, train.index.to_numpy())
    both = {}
    for (slide, scanner), row in zip(
        train[["slide", "scanner"]].itertuples(index=False), pooled, strict=True
    ):
        both.setdefault(slide, {})[scanner] = row
    differences = np.stack([d["A"] - d["B"] for d in both.values() if len(d) == 2])
    expected = np.linalg.svd(differences, full_matrices=False)[2][: attribution.RANK]
    found = attribution.subspace(made.scans, made.loader)
    np.testing.assert_allclose(found.axes @ found.axes.T, expected.T @ expected, atol=1e-8)


def test_a_plain_model_of_confounded_scanners_looks_along_their_offset(tmp_path: Path):
    """Class chooses the scanner, which moves all tiles: the score follows the move, by the truth.

    The same training without a scanner effect looks there no more than by chance.
    """
    shift = Shift(offset=1.0, mixing=0, nonlinear=0, noise=0, missing_tiles=0)
    world = Simulation(
        seed=11,
        dev_patients=60,
        test_patients=20,
        scanners=("A", "B"),
        unseen_scanners=(),
        confounding=1.0,
        paired_share=0.3,
        shift=shift,
        min_tiles=6,
        max_tiles=10,
        signal=1.0,
        encoders={
            "moved": SimulatedEncoder(dim=32),
            "still": SimulatedEncoder(dim=32, scanner_effect=0.02),
        },
    )
    simulate.write(world, tmp_path)
    shares = {}
    for encoder in ("moved", "still"):
        configs = [
            TrialConfig(
                encoder=encoder,
                task=small.Task(),
                head=MeanHead(kind="mean", embed_dims=(8,), dropout=0.0),
                optim=Optim(epochs=6, lr=0.01),
                stopping=Stopping(validation_share=0, epoch="last", threshold="half"),
                folds=CohortFolds(kind="cohort", train=("dev",), test=("test",)),
                fold=0,
                seed=seed,
            )
            for seed in (0, 1)
        ]
        results = trainer.train(configs, index.read(tmp_path), keep=Keep(gradients=True))
        measured = [result.kept.measured for result in results if result.kept]
        assert measured[0]["gradient_chance"] <= attribution.RANK / 32
        assert 0 < measured[0]["gradient_subspace"] <= 1
        shares[encoder] = np.mean([each["gradient_energy"] for each in measured])
    assert shares["moved"] > 0.5
    assert shares["moved"] > 2 * shares["still"]
