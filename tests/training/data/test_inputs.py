from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from tests.training import small
from tests.training.data import examples
from training.config import InputMethod, Stopping, TrialConfig
from training.config_inputs import Centre, ComBat, Leace, PairedErasure, Standardise
from training.data import folds, inputs, sampling, scans
from training.data.bags import Bag, BagReader
from training.data.index import Dataset
from training.data.input_map import GroupMap, InputMap
from training.data.loading import Loader
from training.data.scans import Scans
from training.data.shards import View
from training.errors import DataError

METHODS: list[InputMethod] = [
    Centre(kind="centre"),
    Standardise(kind="standardise"),
    ComBat(kind="combat"),
    Leace(kind="leace"),
    PairedErasure(kind="paired_erasure", rank=2),
]
BY_GROUP = METHODS[:3]
CPU = torch.device("cpu")


def named(method: InputMethod) -> str:
    return method.kind


def fitted(data: Dataset, config: TrialConfig) -> tuple[InputMap, Scans, np.ndarray]:
    """The map, the scans and the rows that training may draw."""
    found = scans.read(data, config)
    pool = sampling.pool(found, paired=config.views == "all")
    made = inputs.fit(config, BagReader(data.root), found, pool)
    assert made is not None
    return made, found, np.unique(np.concatenate([pool.routine, *(p.ravel() for p in pool.pairs)]))


def moved(data: Dataset, made: InputMap | None, found: Scans, rows: np.ndarray) -> list[np.ndarray]:
    """Whole bags as the model sees them."""
    loader = Loader(
        BagReader(data.root),
        found,
        dtype=torch.float64,
        device=CPU,
        resident_bytes=0,
        input_map=made,
    )
    bags, mask = loader.whole(rows)
    return [bag[real].numpy() for bag, real in zip(bags, mask, strict=True)]


@pytest.fixture(scope="module")
def cohort(tmp_path_factory: pytest.TempPathFactory) -> Dataset:
    return small.cohort(tmp_path_factory.mktemp("cohort"))


def by_scanner(bags: list[np.ndarray], found: Scans, rows: np.ndarray) -> dict[str, list]:
    names = found.table["scanner"].to_numpy()[rows]
    return {
        name: [bag for bag, mine in zip(bags, names, strict=True) if mine == name]
        for name in sorted(set(names))
    }


VALUES = {"A": [1.0, 3.0], "B": [10.0, 10.0, 16.0]}
"""Tile values of a feature in every scan of a scanner; B's second feature is constant."""


def hand_made(root: Path) -> Dataset:
    """Eight patients with a scan on A and one on B; a patient of class b has 6 more on B."""

    def load(view: View) -> Bag:
        one, patient = np.array(VALUES[view.scanner]), int(view.patient.split()[1])
        one = one + 6.0 * (view.scanner == "B" and patient % 2)
        other = np.full_like(one, 5.0) if view.scanner == "B" else one
        return Bag(
            embeddings=np.stack([one, other], axis=1).astype(np.float32),
            tile=np.arange(len(one), dtype=np.int32) + 9 * patient,
            coords=np.zeros((len(one), 2), np.int32),
        )

    given = [
        replace(view, num_tiles=len(VALUES[view.scanner]), dim=2, dtype="float32")
        for view in examples.scans(8, scanners=("A", "B"))
    ]
    return examples.write(root, given, load=load)


def two_scanners(method: InputMethod) -> TrialConfig:
    return examples.config(validation_share=0).model_copy(update={"input": method, "views": "all"})


def test_centring_by_hand(tmp_path: Path):
    """Tile means: 2 on A, 12 or 18 on B, two training patients of each class: 2 and 15 of 8.5."""
    made, *_ = fitted(hand_made(tmp_path), two_scanners(Centre(kind="centre")))
    assert isinstance(made, GroupMap)
    assert made.names == ("A", "B") and (made.scale == 1).all()
    assert made.shift.tolist() == [[6.5, 1.5], [-6.5, -1.5], [0, 0]]
    made, *_ = fitted(hand_made(tmp_path / "2"), two_scanners(Centre(kind="centre", shrinkage=0.2)))
    assert isinstance(made, GroupMap)
    np.testing.assert_allclose(made.shift[:2], [[5.2, 1.2], [-5.2, -1.2]])


def test_standardising_by_hand(tmp_path: Path):
    """Mean squares about the group: A 1; B 8 in a scan and 9 between scans, 17; pooled 9."""
    made, *_ = fitted(hand_made(tmp_path), two_scanners(Standardise(kind="standardise")))
    assert isinstance(made, GroupMap)
    on_a, on_b = 3 / np.sqrt(1), 3 / np.sqrt(17)
    np.testing.assert_allclose(made.scale[:, 0], [on_a, on_b, 1])
    np.testing.assert_allclose(made.shift[:, 0], [8.5 - 2 * on_a, 8.5 - 15 * on_b, 0])
    # The second feature: A varies with mean square 1, B is 5 everywhere; pooled 0.5.
    np.testing.assert_allclose(made.scale[:, 1], [np.sqrt(0.5), 1, 1])
    np.testing.assert_allclose(made.shift[:, 1], [3.5 - 2 * np.sqrt(0.5), -1.5, 0])
    half, *_ = fitted(
        hand_made(tmp_path / "2"), two_scanners(Standardise(kind="standardise", shrinkage=0.5))
    )
    assert isinstance(half, GroupMap)
    np.testing.assert_allclose(half.scale[:2, 0], [np.sqrt(on_a), np.sqrt(on_b)])


@pytest.mark.parametrize("views", ["all", "routine"])
def test_training_scans_of_all_groups_have_one_mean_and_spread(cohort: Dataset, views: str):
    losses = small.losses() if views == "all" else ()
    for method in (Centre(kind="centre"), Standardise(kind="standardise")):
        config = small.trial(input=method, views=views, losses=losses)
        made, found, rows = fitted(cohort, config)
        before = by_scanner(moved(cohort, None, found, rows), found, rows)
        after = by_scanner(moved(cohort, made, found, rows), found, rows)
        means = {
            name: np.mean([bag.mean(0) for bag in bags], axis=0) for name, bags in after.items()
        }
        raw = np.mean([bag.mean(0) for bags in before.values() for bag in bags], axis=0)
        for mean in means.values():
            np.testing.assert_allclose(mean, raw, atol=1e-12)
        spread = [
            np.sqrt(np.mean([np.square(bag - raw).mean(0) for bag in bags], axis=0))
            for bags in after.values()
        ]
        if method.kind == "standardise":
            np.testing.assert_allclose(spread, spread[:1] * len(spread))
        else:
            assert np.ptp(spread, axis=0).min() > 1e-3


def test_nothing_is_left_of_a_group_when_shrinkage_is_none_and_all_when_it_is_one(cohort: Dataset):
    for kind in (Centre, Standardise):
        name = kind.__name__.lower()
        made, *_ = fitted(cohort, small.trial(input=kind(kind=name, shrinkage=1)))
        assert isinstance(made, GroupMap)
        assert (made.scale == 1).all()
        np.testing.assert_allclose(made.shift, 0, atol=1e-14)


@pytest.mark.parametrize("method", METHODS, ids=named)
def test_a_scan_counts_once_whatever_its_number_of_tiles(tmp_path: Path, method: InputMethod):
    """Tiles that repeat, with numbers of their own, move nothing."""
    repeats = 3

    def load(view: View) -> Bag:
        many = view.scanner == "B" and view.patient < "patient 012"
        one = small.bag(replace(view, num_tiles=view.num_tiles // repeats) if many else view)
        if not many:
            return one
        tile = np.concatenate([one.tile + 100 * number for number in range(repeats)])
        return Bag(
            embeddings=np.tile(one.embeddings, (repeats, 1)),
            tile=tile.astype(np.int32),
            coords=np.zeros((len(tile), 2), np.int32),
        )

    few = small.views()
    many = [
        replace(view, num_tiles=repeats * view.num_tiles)
        if view.scanner == "B" and view.patient < "patient 012"
        else view
        for view in few
    ]
    one, *_ = fitted(small.cohort(tmp_path / "few", few), small.trial(input=method))
    data = small.cohort(tmp_path / "many", many, load=load)
    other, found, rows = fitted(data, small.trial(input=method))
    assert (found.table["num_tiles"] > 9).any()
    for a, b in zip(moved(data, one, found, rows), moved(data, other, found, rows), strict=True):
        np.testing.assert_allclose(a, b, atol=1e-9)


@pytest.mark.parametrize("method", BY_GROUP, ids=named)
def test_a_scan_of_a_group_that_training_has_not_stays(cohort: Dataset, method: InputMethod):
    config = small.trial(input=method, unseen_scanners=("C",))
    held = scans.read(cohort, config).table
    nameless = held.loc[held["part"] == "test", "view"].iloc[0]
    index = cohort.index.copy()
    index.loc[index["view"] == nameless, "scanner"] = ""
    data = replace(cohort, index=index)
    made, found, _ = fitted(data, config)
    everyone = np.arange(len(found.table))
    stays = found.table["scanner"].isin(["", "C"]).to_numpy()
    assert stays.sum() > (found.table["scanner"] == "C").sum() > 0
    pairs = zip(moved(data, None, found, everyone), moved(data, made, found, everyone), strict=True)
    assert [(a == b).all() for a, b in pairs] == stays.tolist()


@pytest.mark.parametrize("method", METHODS[3:], ids=named)
def test_erasure_moves_scans_of_unseen_scanners_too(cohort: Dataset, method: InputMethod):
    made, found, _ = fitted(cohort, small.trial(input=method, unseen_scanners=("C",)))
    rows = np.flatnonzero(found.table["scanner"] == "C")
    pairs = zip(moved(cohort, None, found, rows), moved(cohort, made, found, rows), strict=True)
    assert all((a != b).all() for a, b in pairs)


def other_bags(changed: Callable[[View], bool]) -> Callable[[View], Bag]:
    def load(view: View) -> Bag:
        found = small.bag(view)
        if changed(view):
            noise = np.random.default_rng(list(view.view.encode())).normal(
                size=found.embeddings.shape
            )
            found = replace(found, embeddings=(7 + 100 * noise).astype(np.float32))
        return found

    return load


@pytest.mark.parametrize(
    ("method", "views"),
    [(method, "all") for method in METHODS] + [(method, "routine") for method in METHODS[:4]],
)
def test_no_bag_that_training_may_not_draw_changes_a_bit(
    cohort: Dataset, tmp_path: Path, method: InputMethod, views: str
):
    losses = small.losses() if views == "all" else ()
    config = small.trial(input=method, unseen_scanners=("C",), views=views, losses=losses)
    made, found, rows = fitted(cohort, config)
    drawn = set(found.table["view"].iloc[rows])
    assert drawn < set(found.table["view"])
    data = small.cohort(tmp_path / "1", load=other_bags(lambda view: view.view not in drawn))
    other, again, _ = fitted(data, config)
    assert (again.table["checksum"] != found.table["checksum"]).any()
    for name, value in made.weights().items():
        assert np.array_equal(value, other.weights()[name]), name
    first = min(drawn)
    data = small.cohort(tmp_path / "2", load=other_bags(lambda view: view.view == first))
    other, *_ = fitted(data, config)
    assert any(not np.array_equal(v, other.weights()[n]) for n, v in made.weights().items())


def test_labels_of_other_patients_and_order_of_shards_change_no_bit(
    cohort: Dataset, tmp_path: Path
):
    config = small.trial(input=ComBat(kind="combat"))
    made, found, _ = fitted(cohort, config)
    data = small.cohort(tmp_path, small.views()[::-1])
    other, *_ = fitted(data, config)
    for name, value in made.weights().items():
        assert np.array_equal(value, other.weights()[name]), name
    wrong = replace(found, label=np.where(found.table["part"] == "train", found.label, 1))
    pool = sampling.pool(wrong, paired=True)
    again = inputs.fit(config, BagReader(cohort.root), wrong, pool)
    assert again is not None
    for name, value in made.weights().items():
        assert np.array_equal(value, again.weights()[name]), name


@pytest.mark.parametrize("method", METHODS[:4], ids=named)
def test_a_view_that_is_not_a_scan_counts_in_no_mean(cohort: Dataset, method: InputMethod):
    config = small.trial(input=method)
    found = scans.read(cohort, config)
    pool = sampling.pool(found, paired=True)
    view = int(pool.pairs[0][0, 1])
    source = ["a scan" if row == view else "" for row in range(len(found.table))]
    other = replace(found, table=found.table.assign(source_scan=source))
    without = [pairs[(pairs != view).all(1)] for pairs in pool.pairs]
    fewer = replace(pool, routine=pool.routine[pool.routine != view], pairs=tuple(without))
    reader = BagReader(cohort.root)
    one, two = inputs.fit(config, reader, other, pool), inputs.fit(config, reader, found, fewer)
    assert one is not None and two is not None
    first = {row for pairs in without for row in pairs.ravel().tolist()} | set(fewer.routine)
    assert first == set(np.concatenate([pool.routine, *map(np.ravel, pool.pairs)])) - {view}
    assert all(np.array_equal(value, two.weights()[name]) for name, value in one.weights().items())


def test_groups_are_of_the_column_that_the_method_names(tmp_path: Path):
    views = [replace(view, site=f"site {view.patient[-1]}") for view in small.views()]
    made, *_ = fitted(
        small.cohort(tmp_path, views), small.trial(input=Centre(kind="centre", group="site"))
    )
    assert isinstance(made, GroupMap)
    assert all(name.startswith("site") for name in made.names) and len(made.names) > 5


def test_bags_larger_than_a_chunk_are_the_same_map(cohort: Dataset, monkeypatch):
    for method in METHODS:
        made, found, rows = fitted(cohort, small.trial(input=method))
        with monkeypatch.context() as patched:
            patched.setattr("training.data.moments._CHUNK_TILES", 2)
            other, *_ = fitted(cohort, small.trial(input=method))
        pairs = zip(
            moved(cohort, made, found, rows), moved(cohort, other, found, rows), strict=True
        )
        for a, b in pairs:
            np.testing.assert_allclose(a, b, atol=1e-10)


@pytest.mark.parametrize(
    ("method", "message"),
    [
        (Centre(kind="centre", group="site"), "two groups by site, found none"),
        (Leace(kind="leace", group="lab"), "two groups by lab, found none"),
        (PairedErasure(kind="paired_erasure", rank=7), "rank below the 7 features, found 7"),
    ],
)  # fmt: skip
def test_a_launch_refuses_what_cannot_be_fitted(cohort: Dataset, method, message: str):
    with pytest.raises(DataError, match=f"input .*{message}"):
        folds.split(cohort, small.trial(input=method))


def test_one_group_is_named(cohort: Dataset):
    config = small.routine(input=Standardise(kind="standardise"), unseen_scanners=("B", "C"))
    with pytest.raises(DataError, match=r"standardise: .* by scanner, found only 'A'"):
        folds.split(cohort, config)


def confounded(root: Path) -> Dataset:
    """Class and scanner go together."""
    given = [
        replace(view, scanner="AB"[int(view.patient.split()[1]) % 2], routine=True)
        for view in small.views(scanners=("A",))
    ]
    return small.cohort(root, given)


def test_combat_refuses_a_class_that_goes_with_its_group(tmp_path: Path):
    data = confounded(tmp_path)
    with pytest.raises(DataError, match="scanner and class cannot be told apart"):
        folds.split(data, small.routine(input=ComBat(kind="combat")))
    folds.split(data, small.routine(input=ComBat(kind="combat", covariate="none")))


def test_combat_is_judged_by_the_labels_that_it_gets_where_they_are_shuffled(tmp_path: Path):
    data, combat = confounded(tmp_path), ComBat(kind="combat")
    for fold in range(3):
        config = small.routine(input=combat, shuffle_labels=True, fold=fold)
        drawn = scans.read(data, config)
        train = drawn.of("train", seen_only=True)
        assert len({*zip(drawn.label[train], drawn.scanner[train], strict=True)}) == 4


def test_combat_refuses_fewer_scans_than_coefficients(tmp_path: Path):
    sites = [replace(view, site=view.patient) for view in small.views()]
    data = small.cohort(tmp_path, sites)
    config = small.routine(input=ComBat(kind="combat", group="site", covariate="none"))
    folds.split(data, config)  # some patients have two slides
    alone = data.index.assign(site=data.index["view"])
    with pytest.raises(DataError, match=r"more training scans than the .* coefficients .* found"):
        folds.split(replace(data, index=alone), config)


def test_the_fit_refuses_too(cohort: Dataset):
    """For who calls it with other scans than those of the launch."""
    config = small.routine(input=Centre(kind="centre"))
    found = scans.read(cohort, config)
    pool = sampling.pool(found, paired=False)
    on_a = found.table["scanner"].to_numpy()[pool.routine] == "A"
    with pytest.raises(DataError, match="two groups"):
        inputs.fit(config, BagReader(cohort.root), found, replace(pool, routine=pool.routine[on_a]))


def test_without_a_method_there_is_no_map(cohort: Dataset):
    config = small.trial(stopping=Stopping())
    found = scans.read(cohort, config)
    pool = sampling.pool(found, paired=True)
    assert inputs.fit(config, BagReader(cohort.root), found, pool) is None
