"""Controls as arms: shuffled, same-scan and augmented pairs, mean over scans at test time."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch

from tests.training import small
from tests.training.losses import kinds
from training import objective
from training.config import InfoNCE, ScoreLoss, Stopping, Task, TrialConfig, lane_key
from training.config_losses import Coral, EmbeddingLoss
from training.data import folds, pairing, sampling, scans
from training.data.bags import Bag, BagReader
from training.data.index import Dataset
from training.data.loading import Batch, Loader
from training.data.shards import View
from training.errors import DataError
from training.losses.infonce import bag_infonce
from training.losses.score import score_loss
from training.losses.task import task_loss
from training.metrics.accuracy import best_threshold
from training.trainer import Stopped, train

BAG = InfoNCE(kind="infonce")
BAG_LOSSES = (BAG, ScoreLoss(kind="score", weight=0.5), EmbeddingLoss(kind="embedding"))
MODES = ("shuffled", "same_scan", "augmented")


def augmented(view: View, number: int) -> View:
    return replace(
        view,
        view=f"{view.view}~{number}",
        source_scan=view.scan,
        routine=False,
        scanner="not a scanner",
    )


def load(view: View) -> Bag:
    """The scan's bag; a view's is moved by its number."""
    scanner = view.scan.partition("/")[2]
    bag = small.bag(replace(view, scanner=scanner))
    _, _, number = view.view.partition("~")
    return replace(bag, embeddings=bag.embeddings + np.float32(number or 0)) if number else bag


def views() -> list[View]:
    """Every scan but those on B has a view, those on A have two."""
    given = small.views()
    made = [augmented(view, 1) for view in given if view.scanner != "B"]
    return [*given, *made, *(augmented(view, 2) for view in given if view.scanner == "A")]


@pytest.fixture(scope="module")
def cohort(tmp_path_factory: pytest.TempPathFactory) -> Dataset:
    return small.cohort(tmp_path_factory.mktemp("cohort"), views(), load=load)


def trial(seed: int, pairs: str, **changed: object) -> TrialConfig:
    return small.trial(seed, **({"pairs": pairs, "losses": BAG_LOSSES} | changed))


def first_batch(cohort: Dataset, config: TrialConfig) -> Batch:
    found = scans.read(cohort, config)
    loader = Loader(
        BagReader(cohort.root),
        found,
        dtype=torch.float64,
        device=torch.device("cpu"),
        resident_bytes=2**20,
    )
    pool = sampling.pool(found, paired=True, augmented=config.pairs == "augmented")
    draw = next(sampling.epoch(pool, config.sampling, key=(0, 0, 1)))
    draw = pairing.compare(draw, config.pairs, patient=found.patient)
    return loader.batch(draw, config.sampling.tiles_per_bag)


@pytest.mark.parametrize("pairs", MODES)
def test_lanes_are_bit_identical_with_every_control(cohort: Dataset, pairs: str):
    def config(seed: int) -> TrialConfig:
        losses = tuple(loss.model_copy(update={"weight": 0.1 + seed}) for loss in BAG_LOSSES)
        return trial(seed, pairs, losses=losses, regularisation={"noise": 0.3})

    everyone = train([config(seed) for seed in range(8)], cohort)
    for result in everyone:
        assert result.state == "done"
        assert all(np.isfinite(values).all() for values in result.curves.values())
        assert (result.curves["infonce"] > 0).all() and (result.curves["score"] > 0).all()
    for chosen in ([7, 2], [1, 2, 4]):
        for seed, result in zip(chosen, train([config(s) for s in chosen], cohort), strict=True):
            small.assert_same(result, everyone[seed])


@pytest.mark.parametrize("pairs", MODES)
def test_another_control_trains_another_model_in_a_pack_of_its_own(cohort: Dataset, pairs: str):
    plain, control = trial(0, "scans"), trial(0, pairs)
    assert lane_key(plain) != lane_key(control)
    one, other = (train([config], cohort)[0] for config in (plain, control))
    assert not np.array_equal(one.curves["infonce"], other.curves["infonce"])
    assert list(one.predictions["view"]) == list(other.predictions["view"])


def test_shuffling_changes_no_bit_of_what_the_task_loss_sees(cohort: Dataset):
    free = tuple(loss.model_copy(update={"weight": 0.0}) for loss in BAG_LOSSES)
    coral = Coral(kind="coral", weight=0.2)
    one, other = (
        train([trial(seed, pairs, losses=(*free, coral)) for seed in range(2)], cohort)
        for pairs in ("scans", "shuffled")
    )
    for a, b in zip(one, other, strict=True):
        pd.testing.assert_frame_equal(a.predictions, b.predictions, check_exact=True)
        assert np.array_equal(a.curves["task_loss"], b.curves["task_loss"])
        assert np.array_equal(a.curves["coral"], b.curves["coral"])
        for name in ("infonce", "score", "embedding"):
            assert not np.array_equal(a.curves[name], b.curves[name])


def test_pair_losses_see_the_second_scans_of_other_slides(cohort: Dataset):
    config = trial(0, "shuffled", losses=(BAG, ScoreLoss(kind="score")), precision="float64")
    batch = first_batch(cohort, config)
    model = objective.initialise(config, 0, in_dim=small.DIM, num_outputs=1).eval()
    weights, temperatures = torch.ones(2).double(), torch.tensor([0.1, 1.0]).double()
    _, parts = model(batch.bags, batch.mask, (), weights, temperatures, batch)
    output = model.model(batch.bags, batch.mask)
    torch.testing.assert_close(parts[0], task_loss(output.scores, batch.label, batch.weight))
    order = batch.partner.tolist()
    assert sorted(order) == [0, 1, 2] and all(i != j for i, j in enumerate(order))
    first = range(batch.num_routine, batch.num_routine + 3)
    second = [batch.num_routine + 3 + j for j in order]
    wanted = score_loss(output.scores[list(first)], output.scores[second], form="logit_mse")
    torch.testing.assert_close(parts[2], wanted)
    wanted = bag_infonce(
        output.bag[list(first)],
        output.bag[second],
        temperature=0.1,
        first_scanner=batch.first_scanner,
        second_scanner=batch.second_scanner[order],
        patient=batch.patient,
        second_patient=batch.patient[order],
        negatives="other_scanner",
    )
    torch.testing.assert_close(parts[1], wanted)
    assert wanted > 0


@pytest.mark.parametrize("loss", kinds.LOSSES, ids=kinds.named)
def test_pair_losses_of_one_pair_without_a_partner_are_zero(loss):
    batch = replace(kinds.batch(6, 1), partner=torch.zeros(0, dtype=torch.int64))
    at = kinds.output(batch)
    found = kinds.value(loss, at, batch)
    assert found.isfinite()
    assert not kinds.between_scans(loss) or found.item() == 0


@pytest.mark.parametrize(
    "loss", [x for x in kinds.LOSSES if kinds.between_scans(x)], ids=kinds.named
)
def test_a_partner_is_the_same_as_another_order_of_the_second_scans(loss):
    batch = replace(kinds.batch(6, 4), partner=torch.tensor([1, 2, 3, 0]))
    at, model = kinds.output(batch), kinds.made(loss)
    found = kinds.value(loss, at, batch, model)
    assert found.isfinite() and found > 0
    bags = torch.tensor([*range(10), 11, 12, 13, 10])
    both = batch.matched & batch.matched[batch.partner]
    moved = replace(batch, matched=both, partner=None)
    if loss.kind in ("infonce", "scangen"):  # these leave out patients of both slides of a pair
        assert not torch.equal(
            found, kinds.value(loss, type(at)(*(each[bags] for each in at[:4])), moved, model)
        )
        return
    torch.testing.assert_close(
        found, kinds.value(loss, type(at)(*(each[bags] for each in at[:4])), moved, model)
    )


def test_views_are_paired_with_their_own_scan(cohort: Dataset):
    found = scans.read(cohort, trial(0, "augmented"))
    table = found.table
    pool = sampling.pool(found, paired=True, augmented=True)
    plain = sampling.pool(scans.read(cohort, trial(0, "scans")), paired=True)
    names = scans.read(cohort, trial(0, "scans")).table["view"].to_numpy()
    assert list(table["view"].to_numpy()[pool.routine]) == list(names[plain.routine])
    pairs = np.concatenate(pool.pairs)
    scan, view = (table.iloc[side] for side in pairs.T)
    assert list(scan["scan"]) == list(view["source_scan"])
    assert set(scan["part"]) == {"train"} and set(view["part"]) == {"augmented"}
    for values in (found.label, found.patient, found.scanner):
        assert np.array_equal(*(values[side] for side in pairs.T))
    for part in pool.pairs:
        here = table.iloc[part[:, 0]]
        assert here["slide"].is_unique and here["scanner"].nunique() == 1
    train_scans = table[(table["part"] == "train") & (table["scanner"] != "B")]
    numbers = train_scans["scanner"].map({"A": 2, "C": 1}).sum()
    assert len(pairs) == len({*map(tuple, pairs.tolist())}) == numbers


def test_tiles_of_a_scan_and_its_view_are_the_same_places(cohort: Dataset):
    batch = first_batch(cohort, trial(0, "augmented"))
    first, second = batch.sides(batch.bags)
    assert batch.matched.sum() == batch.mask[batch.first].sum() > 0
    moved = (second - first)[batch.matched]
    number = moved[0, 0].round().item()
    assert number in (1.0, 2.0)
    torch.testing.assert_close(moved, torch.full_like(moved, number), rtol=0, atol=1e-5)


def test_views_are_of_training_scans_on_seen_scanners_and_never_scored(cohort: Dataset):
    config = trial(0, "augmented", unseen_scanners=("C",))
    found = scans.read(cohort, config)
    made = found.table[found.table["part"] == "augmented"]
    assert set(made["scanner"]) == {"A"}
    parts = folds.split(cohort, config)
    assert set(made["patient"]) <= set(parts.train)
    (result,) = train([config], cohort)
    assert not result.predictions["view"].str.contains("~").any()
    assert set(result.predictions["part"]) == {"test", "validation"}


def test_views_need_no_slide_with_two_scans(tmp_path: Path):
    alone = [view for view in views() if view.routine or view.source_scan]
    routine = {view.scan for view in alone if view.routine}
    given = [view for view in alone if view.routine or view.source_scan in routine]
    data = small.cohort(tmp_path, given, load=load)
    with pytest.raises(DataError, match="no training slide has scans on two seen scanners"):
        scans.read(data, trial(0, "scans"))
    (result,) = train([trial(0, "augmented")], data)
    assert result.state == "done" and (result.curves["embedding"] > 0).all()


def test_augmented_pairs_without_a_view_are_refused(tmp_path: Path):
    data = small.cohort(tmp_path)
    expected = "no training scan on a seen scanner has an augmented view"
    with pytest.raises(DataError, match=expected):
        folds.fingerprint(data, trial(0, "augmented"))
    with pytest.raises(DataError, match=expected):
        train([trial(0, "augmented")], data)
    found = scans.read(data, trial(0, "scans"))
    with pytest.raises(DataError, match=expected):
        sampling.pool(found, paired=True, augmented=True)


def test_the_fingerprint_counts_views_only_where_they_train(cohort: Dataset, tmp_path: Path):
    bare = small.cohort(tmp_path)
    configs = {pairs: trial(0, pairs) for pairs in ("scans", "shuffled", "augmented")}
    first = {pairs: folds.fingerprint(cohort, config) for pairs, config in configs.items()}
    assert first["scans"] == first["shuffled"] == folds.fingerprint(bare, configs["scans"])
    assert first["augmented"] != first["scans"]
    train_part, test_part = (
        set(patients)
        for patients in (
            folds.split(cohort, configs["scans"]).train,
            folds.split(cohort, configs["scans"]).test,
        )
    )
    made = cohort.index["source_scan"] != ""
    for patients, counts in ((train_part, True), (test_part, False)):
        row = cohort.index.index[made & cohort.index["patient"].isin(patients)][0]
        index = cohort.index.copy()
        index.loc[row, "checksum"] = "other bytes"
        changed = replace(cohort, index=index)
        found = {pairs: folds.fingerprint(changed, config) for pairs, config in configs.items()}
        assert found["scans"] == first["scans"]
        assert (found["augmented"] != first["augmented"]) is counts


def test_a_view_that_is_a_test_patients_scan_is_refused(cohort: Dataset):
    config = trial(0, "augmented")
    parts = folds.split(cohort, config)
    index = cohort.index.copy()
    made = (index["source_scan"] != "") & index["patient"].isin(parts.train)
    row = index.index[made & (index["scanner"] == "not a scanner")][0]
    index.loc[row, "checksum"] = index.loc[index["patient"] == parts.test[0], "checksum"].iloc[0]
    with pytest.raises(DataError, match="share an identical bag"):
        folds.split(replace(cohort, index=index), config)
    assert folds.split(replace(cohort, index=index), trial(0, "scans")) == parts


@pytest.mark.parametrize("num_classes", [2, 3])
def test_the_mean_over_scans_is_the_same_on_every_scanner(tmp_path: Path, num_classes: int):
    data = small.cohort(tmp_path, num_classes=num_classes)
    task = Task(kind="binary" if num_classes == 2 else "multiclass")
    given = {"task": task, "unseen_scanners": ("C",), "losses": (BAG,)}
    both = [
        small.trial(seed, **given, test_time=mode)
        for seed in range(2)
        for mode in ("each_scan", "mean_over_scans")
    ]
    assert len({lane_key(config) for config in both}) == 1
    results = train(both, data)
    for each, mean in zip(results[::2], results[1::2], strict=True):
        assert each.weights.keys() == mean.weights.keys()
        assert all(np.array_equal(each.weights[name], mean.weights[name]) for name in each.weights)
        assert each.epoch == mean.epoch and each.validation == mean.validation
        scores = np.stack([np.atleast_1d(score) for score in each.predictions["score"]])
        found = np.stack([np.atleast_1d(score) for score in mean.predictions["score"]])
        assert found.dtype == scores.dtype
        slides = mean.predictions["slide"]
        for slide in set(slides):
            here = (slides == slide).to_numpy()
            expected = scores[here].astype(np.float64).mean(0).astype(scores.dtype)
            assert (found[here] == found[here][0]).all()
            np.testing.assert_allclose(found[here][0], expected, rtol=1e-6)
        several = slides.map(slides.value_counts()) > 1
        assert (scores != found)[several.to_numpy()].any()
        if num_classes == 2:
            judged = mean.predictions[mean.predictions["part"] == "validation"]
            assert "C" not in set(judged["scanner"])
            cases = judged.groupby(["patient", "scanner"], sort=False)[["score", "label"]].mean()
            wanted = best_threshold(cases["label"].to_numpy(int), cases["score"].to_numpy())
            assert mean.threshold == pytest.approx(wanted, rel=1e-6)


def test_the_mean_over_scans_needs_no_validation(cohort: Dataset):
    stopping = Stopping(validation_share=0, epoch="last", threshold="half")
    (result,) = train([small.routine(stopping=stopping, test_time="mean_over_scans")], cohort)
    found = result.predictions.groupby("slide")["score"].nunique()
    assert (found == 1).all() and result.threshold == 0


@pytest.mark.parametrize("pairs", MODES)
def test_a_resumed_control_is_the_same_bits(cohort: Dataset, pairs: str, tmp_path: Path):
    given = {"regularisation": {"noise": 0.3, "label_smoothing": 0.1}, "optim": {"epochs": 3}}
    configs = [trial(seed, pairs, **given) for seed in range(2)]
    expected = train(configs, cohort)
    steps = iter(range(10**6))
    with pytest.raises(Stopped):
        train(configs, cohort, checkpoint=tmp_path, stop=lambda: next(steps) > 4)
    found = train(configs, cohort, checkpoint=tmp_path)
    for one, other in zip(found, expected, strict=True):
        small.assert_same(one, other)


@pytest.mark.parametrize("negatives", ["other_scanner", "anchor_scanner", "mixed"])
def test_same_scan_pairs_have_negatives_on_their_own_scanner(cohort: Dataset, negatives: str):
    loss = InfoNCE(kind="infonce", negatives=negatives)
    config = trial(0, "same_scan", losses=(loss,), sampling={"pairs_per_batch": 12})
    batch = first_batch(cohort, config)
    numbers = batch.first_scanner
    assert torch.equal(numbers, batch.second_scanner) and len(set(numbers.tolist())) == 2
    dim, draw = 6, torch.Generator().manual_seed(0)
    bags = torch.randn(2, len(numbers), dim, generator=draw).double()
    given = {
        "temperature": 0.5,
        "first_scanner": numbers,
        "second_scanner": numbers,
        "patient": batch.patient,
        "negatives": negatives,
    }
    found = bag_infonce(*bags, **given)
    if negatives == "mixed":
        assert found > 0
        return
    # Each scanner's pairs have negatives among themselves only: two losses, side by side.
    total = 0.0
    for number in set(numbers.tolist()):
        here = numbers == number
        mine = {name: x[here] if torch.is_tensor(x) else x for name, x in given.items()}
        total += bag_infonce(*bags[:, here], **mine) * here.sum() / len(numbers)
    torch.testing.assert_close(found, total)
