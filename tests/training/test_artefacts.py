from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from scipy.stats import spearmanr

from tests.training import small
from training import evaluation
from training.artefacts import NOTHING, TOP_TILES, Keep
from training.config import MaxHead, MeanHead, Optim
from training.config_heads import DSMILHead
from training.data.bags import BagReader
from training.data.index import Dataset
from training.lanes import Lanes
from training.models import MILModel
from training.objective import initialise
from training.trainer import LaneResult, train

ALL = Keep(embeddings=True, attention=True, gradients=True)


@pytest.fixture(scope="module")
def cohort(tmp_path_factory: pytest.TempPathFactory) -> Dataset:
    return small.cohort(tmp_path_factory.mktemp("cohort"))


@pytest.fixture(scope="module")
def kept(cohort: Dataset) -> list[LaneResult]:
    return train([small.varied(number) for number in range(3)], cohort, keep=ALL)


def model_of(result: LaneResult) -> MILModel:
    """Put a result's weights into a model outside the lanes."""
    made = initialise(small.routine(), 0, in_dim=small.DIM, num_outputs=1).model
    own = {name: torch.from_numpy(w) for name, w in result.weights.items()}
    made.load_state_dict({name: own[name] for name in made.state_dict()})
    return made.eval()


def bag_of(cohort: Dataset, view: str) -> tuple[np.ndarray, np.ndarray]:
    table = cohort.index[cohort.index["view"] == view]
    row = next(table.itertuples(index=False))
    reader = BagReader(cohort.root)
    return np.array(reader.whole(row)), np.array(reader.tiles(row))


def test_keeping_changes_no_bit_of_a_result(cohort: Dataset, kept: list[LaneResult]):
    without = train([small.varied(number) for number in range(3)], cohort)
    for one, other in zip(without, kept, strict=True):
        small.assert_same(one, other)
        assert one.kept is None and other.kept is not None


def test_what_a_lane_leaves_does_not_depend_on_its_companions(
    cohort: Dataset, kept: list[LaneResult]
):
    (alone,) = train([small.varied(1)], cohort, keep=ALL)
    one, other = alone.kept, kept[1].kept
    assert one is not None and other is not None
    for name in ("embeddings", "tile", "weight"):
        assert np.array_equal(getattr(one, name), getattr(other, name)), name
    for name in ("scans", "agreement", "gradients"):
        frames = getattr(one, name), getattr(other, name)
        pd.testing.assert_frame_equal(*frames, check_exact=True)
    assert one.measured == other.measured


def test_rows_are_the_held_out_scans_and_arrays_what_the_model_says_of_them(
    cohort: Dataset, kept: list[LaneResult]
):
    result = kept[2]
    found, model = result.kept, model_of(result)
    assert found is not None and found.embeddings is not None
    assert found.tile is not None and found.weight is not None
    held_out = result.predictions.loc[result.predictions["held_out"], "view"]
    assert sorted(found.scans["view"]) == sorted(held_out)
    assert found.embeddings.dtype == np.float32
    assert found.tile.shape == (len(held_out), TOP_TILES)
    for place, view in enumerate(found.scans["view"]):
        embeddings, numbers = bag_of(cohort, view)
        bags = torch.from_numpy(embeddings)[None]
        with torch.no_grad():
            output = model(bags, torch.ones(bags.shape[:2], dtype=torch.bool))
        np.testing.assert_allclose(found.embeddings[place], output.bag[0], atol=1e-5)
        attention = output.attention[0].numpy()
        order = np.argsort(-attention, kind="stable")
        np.testing.assert_array_equal(found.tile[place, : len(order)], numbers[order])
        np.testing.assert_allclose(found.weight[place, : len(order)], attention[order], atol=1e-6)
        assert (found.tile[place, len(order) :] == -1).all()
        assert not found.weight[place, len(order) :].any()


def test_agreement_is_that_of_shared_places_of_two_scans(cohort: Dataset, kept: list[LaneResult]):
    result = kept[0]
    found, model = result.kept, model_of(result)
    assert found is not None and found.agreement is not None
    slides = found.scans.groupby("slide")["scanner"].nunique()
    assert len(found.agreement) == sum(n * (n - 1) // 2 for n in slides)
    assert len(found.agreement) > 5
    for row in found.agreement.itertuples():
        sides = []
        for view in (row.first, row.second):
            embeddings, numbers = bag_of(cohort, view)
            bags = torch.from_numpy(embeddings)[None]
            with torch.no_grad():
                output = model(bags, torch.ones(bags.shape[:2], dtype=torch.bool))
            sides.append(dict(zip(numbers.tolist(), output.attention[0].tolist(), strict=True)))
        shared = sorted(sides[0].keys() & sides[1].keys())
        assert row.shared == len(shared)
        a, b = ([side[number] for number in shared] for side in sides)
        if len(shared) > 1:
            assert row.spearman == pytest.approx(spearmanr(a, b).statistic, abs=1e-9)
        if shared:
            assert row.overlap == (np.argmax(a) == np.argmax(b))
        else:
            assert np.isnan(row.overlap)
    slides = found.agreement.groupby("slide")[["spearman", "overlap"]].mean()
    assert found.measured["attention_spearman"] == pytest.approx(slides["spearman"].mean())
    assert found.measured["attention_overlap"] == pytest.approx(slides["overlap"].mean())


def test_energies_are_those_of_each_held_out_scan(kept: list[LaneResult]):
    found = kept[0].kept
    assert found is not None and found.gradients is not None
    assert found.gradients["view"].to_list() == found.scans["view"].to_list()
    assert found.gradients["energy"].between(0, 1).all()
    mean = found.gradients["energy"].mean()
    assert found.measured["gradient_energy"] == pytest.approx(mean)
    assert found.measured["gradient_chance"] == 4 / small.DIM


@pytest.mark.parametrize(
    "head", [MeanHead(kind="mean", embed_dims=(6,)), MaxHead(kind="max", embed_dims=(6,))]
)
def test_heads_that_learn_no_attention_leave_none(cohort: Dataset, head: MeanHead | MaxHead):
    (result,) = train([small.routine(head=head)], cohort, keep=ALL)
    assert result.kept is not None and result.kept.embeddings is not None
    assert result.kept.embeddings.shape[1] == 6
    assert result.kept.tile is None and result.kept.agreement is None
    assert set(result.kept.measured) == {"gradient_energy", "gradient_chance", "gradient_subspace"}


def test_a_head_with_an_embedding_per_class_keeps_all_of_it(tmp_path: Path):
    data = small.cohort(tmp_path, num_classes=3)
    head = DSMILHead(kind="dsmil", embed_dims=(6,), query_dim=4)
    config = small.routine(head=head, task=small.Task(kind="multiclass"))
    (result,) = train([config], data, keep=ALL)
    assert result.kept is not None and result.kept.embeddings is not None
    assert result.kept.embeddings.shape[1] == 18


def test_without_pairs_there_is_nothing_to_compare(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
):
    data = small.cohort(tmp_path, small.views(24, scanners=("A",)))
    (result,) = train([small.routine()], data, keep=ALL)
    assert result.kept is not None and result.kept.gradients is None
    assert result.kept.agreement is not None and result.kept.agreement.empty
    assert "gradient_energy" not in result.kept.measured
    assert np.isnan(result.kept.measured["attention_spearman"])
    assert "no gradient energy" in caplog.text


def test_a_lane_that_died_leaves_nothing(cohort: Dataset):
    configs = [small.trial(0), small.trial(1, optim=Optim(lr=1e30, epochs=2))]
    good, dead = train(configs, cohort, keep=ALL)
    assert dead.state == "failed" and dead.kept is None
    assert good.kept is not None


def test_nothing_is_asked_for_by_default():
    assert Keep() == NOTHING


def test_scores_are_observed_as_they_come_by(cohort: Dataset):
    """Every scan once; the order of chunks is that of sizes."""
    from training.session import Session

    session = Session(
        [small.trial(0), small.trial(1)],
        cohort,
        device=torch.device("cpu"),
        resident_bytes=2**30,
    )
    rows = session.scans.of("test", seen_only=False)
    seen: list[int] = []

    def observe(places: np.ndarray, bag: torch.Tensor, attention: torch.Tensor) -> None:
        seen.extend(places.tolist())
        assert bag.shape == (2, len(places), 9) and attention.shape[:2] == (2, len(places))

    lanes: Lanes = session.lanes
    given = session.loader, rows, session.num_tiles
    plain = evaluation.score(lanes, *given)
    assert np.array_equal(evaluation.score(lanes, *given, observe=observe), plain)
    assert sorted(seen) == list(range(len(rows)))
