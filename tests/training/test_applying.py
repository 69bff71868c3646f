"""Weights that a trial left, applied to the scans that it held out, score them as training did."""

import numpy as np
import pandas as pd
import pytest

from tests.training import small
from training import applying
from training.applying import Model
from training.config import Stopping, Task, TrialConfig
from training.config_heads import ClamMBHead, DSMILHead, LinearProbeHead, TransMILHead
from training.data import index
from training.data.index import Dataset
from training.errors import DataError
from training.trainer import train

THREE = Task(kind="multiclass")
PROBE = LinearProbeHead(kind="linear_probe")
KINDS = {
    "plain": lambda: small.trial(),
    "dsmil": lambda: small.trial(
        task=THREE, head=DSMILHead(kind="dsmil", embed_dims=(6,), query_dim=4)
    ),
    "clam": lambda: small.trial(
        head=ClamMBHead(kind="clam_mb", embed_dims=(6,), attention_dim=4),
        input={"kind": "standardise"},
    ),
    "probe": lambda: small.routine(task=THREE, head=PROBE, input={"kind": "leace"}),
    "transmil": lambda: small.trial(
        head=TransMILHead(kind="transmil", embed_dims=(8,), num_heads=2), precision="bfloat16",
        input={"kind": "paired_erasure", "rank": 2},
    ),
    "cohort": lambda: small.survival(
        risk_set="cohort", precision="float64", input={"kind": "combat"}
    ),
    "intervals": lambda: small.survival(
        loss="discrete", num_intervals=3, losses=(), test_time="mean_over_scans"
    ),
}  # fmt: skip


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Dataset:
    return small.cohort(tmp_path_factory.mktemp("data"), num_classes=3)


@pytest.fixture(scope="module")
def binary(tmp_path_factory: pytest.TempPathFactory) -> Dataset:
    return small.cohort(tmp_path_factory.mktemp("binary"))


def scored(config: TrialConfig, data: Dataset) -> tuple[Model, pd.DataFrame]:
    (result,) = train([config], data)
    found = result.predictions
    return Model(name="w", config=config, weights=result.weights), found[found["held_out"]]


@pytest.mark.parametrize("kind", KINDS)
def test_held_out_scans_are_scored_as_in_training(
    kind: str, data: Dataset, binary: Dataset
) -> None:
    config = KINDS[kind]()
    own = data if config.task.kind == "multiclass" else binary
    model, held_out = scored(config, own)
    table = index.scans(own, "one")
    table = table[table["view"].isin(held_out["view"])].reset_index(drop=True)
    told: list[int] = []
    found = applying.scores([model], own, table, report=told.append)
    assert found.shape[:2] == (1, len(table)) and sum(told) == len(table)
    wanted = np.stack(held_out.set_index("view").loc[table["view"], "score"].map(np.atleast_1d))
    # Bags of other scans beside them are padded otherwise, which moves last digits.
    np.testing.assert_allclose(found[0], wanted, rtol=2e-5, atol=2e-6)


def test_models_of_several_maps_share_a_call_and_keep_their_order(binary: Dataset) -> None:
    made = [
        scored(small.routine(seed, fold=fold, input={"kind": "centre"}), binary)[0]
        for seed, fold in ((0, 0), (1, 1), (2, 0))
    ]
    table = index.scans(binary, "one")
    together = applying.scores(made, binary, table)
    for model, found in zip(made, together, strict=True):
        np.testing.assert_array_equal(found, applying.scores([model], binary, table)[0])
    assert len({applying.family(each.config) for each in made}) == 1
    # A scanner that no training scan has stays as it is: its own map is none.
    table = table.assign(scanner="another")
    moved = applying.scores(made[:1], binary, table)[0]
    plain = Model(
        name="w", weights=made[0].weights,
        config=small.routine(0, stopping=Stopping(validation_share=0.25)),
    )  # fmt: skip
    np.testing.assert_array_equal(moved, applying.scores([plain], binary, table)[0])


def test_a_map_that_is_not_whole_is_refused(binary: Dataset) -> None:
    model, _ = scored(small.routine(input={"kind": "leace"}), binary)
    weights = {name: each for name, each in model.weights.items() if name != "input.mean"}
    broken = Model(name="w", config=model.config, weights=weights)
    with pytest.raises(DataError, match="w: damaged weights: the input map is not whole"):
        applying.scores([broken], binary, index.scans(binary, "one"))
