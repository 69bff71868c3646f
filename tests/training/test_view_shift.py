from pathlib import Path

import numpy as np
import pytest
import torch

from tests.training import small
from tests.training.test_artefacts import bag_of
from tests.training.test_controls import load, views
from training.artefacts import Keep
from training.config import TrialConfig
from training.config_inputs import Centre
from training.data.index import Dataset
from training.objective import initialise
from training.trainer import LaneResult, train

SHIFT = Keep(views=True)


def written(root: Path, *, num_classes: int) -> Dataset:
    return small.cohort(root, views(), load=load, num_classes=num_classes)


@pytest.fixture(scope="module")
def cohort(tmp_path_factory: pytest.TempPathFactory) -> Dataset:
    return written(tmp_path_factory.mktemp("cohort"), num_classes=2)


def three(seed: int = 0, **changed: object) -> TrialConfig:
    return small.trial(seed, task={"kind": "multiclass"}, **changed)


def by_hand(result: LaneResult, config: TrialConfig, cohort: Dataset) -> float:
    """Score held-out scans and their views by a model outside the lanes, one bag at a time."""
    outputs = 3 if config.task.kind == "multiclass" else 1
    made = initialise(config, 0, in_dim=small.DIM, num_outputs=outputs).model.eval()
    made.load_state_dict(
        {name: torch.from_numpy(result.weights[name]) for name in made.state_dict()}
    )

    def score(view: str) -> np.ndarray:
        bags = torch.from_numpy(bag_of(cohort, view)[0])[None]
        with torch.no_grad():
            found = made(bags, torch.ones(bags.shape[:2], dtype=torch.bool)).scores[0].numpy()
        return found - found.mean() if len(found) > 1 else found

    index = cohort.index
    held_out = result.predictions.loc[result.predictions["held_out"], "view"]
    reference, moved = [], []
    for name in held_out:
        scan = index.loc[index["view"] == name, "scan"].item()
        mine = index.loc[index["source_scan"] == scan, "view"]
        if len(mine):
            reference.append(score(name))
            moved.append(np.mean([(score(view) - reference[-1]) ** 2 for view in mine], axis=0))
    spread = np.var(np.array(reference), axis=0, ddof=1)
    assert 2 < len(reference) < len(held_out)
    return float(np.sqrt(np.mean(moved, axis=0) / spread).mean())


@pytest.mark.parametrize(("make", "num_classes"), [(small.trial, 2), (three, 3)])
def test_scores_move_as_far_as_a_model_outside_the_lanes_says(tmp_path, make, num_classes):
    cohort = written(tmp_path, num_classes=num_classes)
    configs = [make(seed) for seed in range(2)]
    found, without = train(configs, cohort, keep=SHIFT), train(configs, cohort)
    values = []
    for config, one, other in zip(configs, found, without, strict=True):
        small.assert_same(one, other)
        assert one.kept is not None and set(one.kept.measured) == {"view_shift"}
        values.append(one.kept.measured["view_shift"])
        assert values[-1] == pytest.approx(by_hand(one, config, cohort), rel=1e-4)
    assert values[0] != values[1]


def test_a_view_is_moved_before_the_model_as_its_scan_is(cohort: Dataset):
    changed = {"input": Centre(kind="centre", group="scanner")}
    plain, centred = (train([small.trial(**each)], cohort, keep=SHIFT)[0] for each in ({}, changed))
    assert plain.kept is not None and centred.kept is not None
    assert centred.kept.measured["view_shift"] not in (0.0, plain.kept.measured["view_shift"])


def test_a_mean_over_scans_has_no_shift_of_a_scan(cohort: Dataset):
    (result,) = train([small.trial(test_time="mean_over_scans")], cohort, keep=SHIFT)
    assert result.kept is not None and np.isnan(result.kept.measured["view_shift"])


def test_without_views_there_is_nothing_to_tell(tmp_path: Path, caplog: pytest.LogCaptureFixture):
    (result,) = train([small.trial()], small.cohort(tmp_path), keep=SHIFT)
    assert result.kept is not None and result.kept.measured == {}
    assert "no held-out scan has an augmented view" in caplog.text
