from dataclasses import replace
from pathlib import Path

import pytest
import torch

from tests.training import small
from tests.training.losses import kinds
from training.config_losses import Coral, GroupDRO
from training.data import folds, sampling, scans
from training.data.bags import BagReader
from training.data.index import Dataset
from training.data.loading import Loader
from training.errors import DataError

BY_SITE = Coral(kind="coral", group="site")
BY_SCANNER = GroupDRO(kind="group_dro")


@pytest.fixture(scope="module")
def cohort(tmp_path_factory: pytest.TempPathFactory) -> Dataset:
    return kinds.cohort(tmp_path_factory.mktemp("cohort"))


def test_only_columns_that_losses_compare_are_numbered(cohort: Dataset):
    found = scans.read(cohort, small.trial())
    assert found.groups == found.num_groups == {}
    found = scans.read(cohort, small.trial(losses=(BY_SITE, BY_SCANNER)))
    assert found.num_groups == {"scanner": 3, "site": 3}
    names = found.table["site"].tolist()
    assert [f"site {number}" for number in found.groups["site"]] == names


def test_groups_come_from_training_scans_on_seen_scanners(cohort: Dataset):
    config = small.trial(losses=(BY_SITE, BY_SCANNER), unseen_scanners=("A",))
    part = scans.read(cohort, config).table["part"]
    held = scans.read(cohort, config).table.loc[part == "test", "patient"].iloc[0]
    index = cohort.index.copy()
    index.loc[index["patient"] == held, "site"] = "a new one"
    index.loc[index["patient"] == "patient 000", "site"] = ""
    found = scans.read(replace(cohort, index=index), config)
    assert found.num_groups == {"scanner": 2, "site": 3}
    numbers = dict(zip(found.table["scanner"], found.groups["scanner"].tolist(), strict=True))
    assert numbers == {"A": -1, "B": 0, "C": 1}
    sites = dict(zip(found.table["site"], found.groups["site"].tolist(), strict=True))
    assert sites["a new one"] == sites.get("", -1) == -1


def test_a_batch_has_the_group_of_every_bag(cohort: Dataset):
    config = small.trial(losses=(BY_SITE,))
    found = scans.read(cohort, config)
    draw = next(sampling.epoch(sampling.pool(found, paired=True), config.sampling, key=(0, 0, 1)))
    loader = Loader(
        BagReader(cohort.root),
        found,
        dtype=torch.float32,
        device=torch.device("cpu"),
        resident_bytes=0,
    )
    batch = loader.batch(draw, 4)
    rows = [*draw.routine, *draw.pairs[:, 0], *draw.pairs[:, 1]]
    assert batch.groups["site"].tolist() == [found.groups["site"][row] for row in rows]
    assert batch.key == draw.key


def test_a_single_group_is_refused_before_training(tmp_path: Path):
    data = small.cohort(tmp_path)  # without sites
    with pytest.raises(DataError, match="coral: expected training scans of two groups by site, fo"):
        folds.split(data, small.trial(losses=(BY_SITE,)))
    with pytest.raises(DataError, match=r"training routine scans of two .* by scanner, .* only 'A"):
        folds.split(
            data,
            small.trial(losses=(BY_SCANNER,), views="routine", unseen_scanners=("B", "C")),
        )
    folds.split(data, small.trial(losses=(BY_SCANNER,), views="routine"))
