import json
import math
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from safetensors.numpy import load_file

from tests.training import small
from training import trainer
from training.config import (
    AttentionHead,
    InfoNCE,
    MaxHead,
    MeanHead,
    Optim,
    Sampling,
    ScoreLoss,
    Stopping,
    Task,
    TrialConfig,
)
from training.data.index import Dataset
from training.metrics.accuracy import best_threshold
from training.trainer import train


@pytest.fixture(scope="module")
def cohort(tmp_path_factory: pytest.TempPathFactory) -> Dataset:
    return small.cohort(tmp_path_factory.mktemp("cohort"))


def test_a_lane_is_bit_identical_whatever_its_companions_position_and_number(cohort: Dataset):
    everyone = train([small.varied(number) for number in range(16)], cohort)
    for chosen in ([3], [3, 7], [5, 2, 3], [9, 11, 3, 1, 0, 15, 8, 4]):
        for number, result in zip(
            chosen, train([small.varied(n) for n in chosen], cohort), strict=True
        ):
            small.assert_same(result, everyone[number])


@pytest.mark.parametrize(
    "form", ["logit_mse", "probability_mse", "variance", "jensen_shannon", "huber"]
)
@pytest.mark.parametrize("num_classes", [2, 3])
def test_lanes_are_bit_identical_with_every_score_loss(tmp_path: Path, form: str, num_classes: int):
    data = small.cohort(tmp_path, num_classes=num_classes)
    kind = "binary" if num_classes == 2 else "multiclass"

    def config(seed: int) -> TrialConfig:
        loss = ScoreLoss.model_validate({"kind": "score", "form": form, "weight": 1 + seed})
        return small.trial(seed, losses=(loss,), task=Task(kind=kind))

    everyone = train([config(seed) for seed in range(13)], data)
    chosen = [12, 0, 4]
    for seed, result in zip(chosen, train([config(s) for s in chosen], data), strict=True):
        small.assert_same(result, everyone[seed])


@pytest.mark.parametrize(
    "head",
    [
        MeanHead(kind="mean", embed_dims=(11,)),
        MaxHead(kind="max", embed_dims=(11,), dropout=0.0),
        AttentionHead(kind="attention", embed_dims=(11,), attention_dim=3, norm="none"),
    ],
)
@pytest.mark.parametrize("negatives", ["other_scanner", "anchor_scanner", "mixed"])
def test_lanes_are_bit_identical_with_every_head(cohort: Dataset, head, negatives):
    def config(seed: int) -> TrialConfig:
        loss = InfoNCE(kind="infonce", negatives=negatives, temperature=0.1 * (1 + seed))
        return small.trial(seed, head=head, losses=(loss,))

    everyone = train([config(seed) for seed in range(5)], cohort)
    chosen = [4, 0]
    for seed, result in zip(chosen, train([config(s) for s in chosen], cohort), strict=True):
        small.assert_same(result, everyone[seed])


def test_training_twice_gives_the_same_bits(cohort: Dataset):
    for one, other in zip(
        *(train([small.varied(0), small.varied(1)], cohort) for _ in range(2)), strict=True
    ):
        small.assert_same(one, other)


def test_keeping_bags_in_memory_changes_nothing(cohort: Dataset):
    (one,) = train([small.varied(0)], cohort)
    (other,) = train([small.varied(0)], cohort, resident_bytes=0)
    small.assert_same(one, other)


def test_a_dead_lane_is_reported_and_leaves_the_others_untouched(cohort: Dataset):
    explosive = small.trial(5, optim=Optim(lr=1e38, epochs=2))
    healthy = [small.varied(0), small.varied(1)]
    first, dead, second = train([healthy[0], explosive, healthy[1]], cohort)
    for one, other in zip(train(healthy, cohort), [first, second], strict=True):
        small.assert_same(one, other)
    assert dead.state == "failed"
    assert dead.failure.startswith("numeric: ") and "at epoch 1" in dead.failure
    assert dead.predictions.empty and not dead.weights
    assert list(dead.predictions.columns) == list(first.predictions.columns)


def test_a_pack_of_dead_lanes_ends(cohort: Dataset):
    explosive = small.trial(5, optim=Optim(lr=1e38, epochs=2))
    assert [result.state for result in train([explosive], cohort)] == ["failed"]


def test_lanes_that_stop_early_change_no_bit_of_the_others(cohort: Dataset):
    configs = [small.stopping_early(seed) for seed in range(5)]
    together = train(configs, cohort)
    lengths = [result.epochs_trained for result in together]
    assert len(set(lengths)) > 1 and max(lengths) <= 12
    for number, result in enumerate(together):
        if number % 2 == 0:
            (alone,) = train([configs[number]], cohort)
            small.assert_same(alone, result)
        assert result.epochs_trained == 12 or result.epoch == result.epochs_trained - 1


def test_validation_keeps_the_best_epoch(cohort: Dataset):
    stopping = Stopping(validation_share=0.25, metric="loss")
    optim = Optim(lr=0.1, epochs=6, schedule="constant")
    (result,) = train([small.routine(optim=optim, stopping=stopping)], cohort)
    losses = result.curves["validation_loss"]
    assert result.epoch == 1 + int(np.argmin(losses))
    assert result.validation == losses.min()
    assert result.epochs_trained == len(losses) == 6


def test_the_model_learns(cohort: Dataset):
    head = AttentionHead(kind="attention", embed_dims=(16,), attention_dim=8, dropout=0.1)
    given = {"optim": Optim(lr=0.02, epochs=25), "sampling": Sampling(slides_per_batch=5)}
    for result in train([small.routine(seed, head=head, **given) for seed in range(2)], cohort):
        assert result.curves["task_loss"][-1] < 0.3 * result.curves["task_loss"][0]
        held_out = result.predictions[result.predictions["held_out"]]
        right = (held_out["score"] > result.threshold) == (held_out["label"] == 1)
        assert right.mean() > 0.7


def test_every_scan_of_held_out_patients_is_scored_and_unseen_scanners_are_kept_out(
    cohort: Dataset,
):
    (result,) = train([small.trial(unseen_scanners=("C",))], cohort)
    found = result.predictions
    index = cohort.index
    test = found[found["part"] == "test"]
    assert set(test["view"]) == set(index.loc[index["patient"].isin(test["patient"]), "view"])
    assert "C" in set(test["scanner"]) and test["held_out"].all()
    validation = found[found["part"] == "validation"]
    assert len(validation) and "C" not in set(validation["scanner"])
    assert not validation["held_out"].any()
    assert not set(test["patient"]) & set(validation["patient"])
    assert found["score"].dtype == np.float32 and found["label"].dtype == np.int32


def test_scores_and_threshold_are_of_the_trials_precision(cohort: Dataset):
    (result,) = train([small.routine(precision="float64")], cohort)
    found = result.predictions
    assert found["score"].dtype == np.float64
    judged = found[found["part"] == "validation"].groupby(["patient", "scanner"], sort=False)
    cases = judged[["score", "label"]].mean()
    threshold = best_threshold(cases["label"].to_numpy(int), cases["score"].to_numpy())
    assert result.threshold == threshold


def test_several_classes_give_a_score_each(tmp_path: Path):
    data = small.cohort(tmp_path, num_classes=3)
    (result,) = train([small.trial(task=Task(kind="multiclass"))], data)
    assert {len(score) for score in result.predictions["score"]} == {3}
    assert result.threshold == 0
    assert np.isfinite(result.curves["validation_auroc"]).all()


def test_without_validation_the_last_epoch_counts(cohort: Dataset):
    stopping = Stopping(validation_share=0, epoch="last", threshold="half")
    (result,) = train([small.routine(stopping=stopping)], cohort)
    assert result.epoch == result.epochs_trained == 2 and math.isnan(result.validation)
    assert result.threshold == 0 and "validation_loss" not in result.curves


def test_curves_name_each_loss(cohort: Dataset):
    (result,) = train([small.trial()], cohort)
    assert set(result.curves) == {
        "loss",
        "task_loss",
        "infonce",
        "infonce_2",
        "score",
        "validation_loss",
        "validation_auroc",
        "lr",
    }
    parts = [result.curves[name] for name in ("task_loss", "infonce", "infonce_2", "score")]
    total = parts[0] + parts[1] + 0.5 * parts[2] + 2 * parts[3]
    np.testing.assert_allclose(result.curves["loss"], total, rtol=1e-5)


def test_lanes_of_different_families_are_refused(cohort: Dataset):
    with pytest.raises(ValueError, match="lane key"):
        train([small.trial(), small.routine()], cohort)


def test_shuffled_labels_change_training_labels_only(cohort: Dataset):
    (result,) = train([small.routine(shuffle_labels=True)], cohort)
    found = result.predictions
    true = found["patient"].map(lambda patient: int(patient.split()[1]) % 2)
    assert (found["label"] == true)[found["held_out"]].all()
    (plain,) = train([small.routine()], cohort)
    assert not np.array_equal(plain.curves["loss"], result.curves["loss"])


def test_a_trial_trains_alone_from_the_command_line(cohort: Dataset, tmp_path: Path):
    trial = tmp_path / "trial.json"
    config = small.trial()
    trial.write_text(config.model_dump_json())
    out = tmp_path / "out"
    assert trainer.main([str(trial), "--data", str(cohort.root), "--out", str(out)]) == 0
    (expected,) = train([config], cohort)
    result = json.loads((out / "result.json").read_text())
    assert result["state"] == "done" and result["threshold"] == expected.threshold
    found = pd.read_parquet(out / "predictions.parquet")
    assert list(found["score"]) == list(expected.predictions["score"])
    curves = pd.read_parquet(out / "curves.parquet")
    assert list(curves["loss"]) == list(expected.curves["loss"])
    weights = load_file(out / "weights.safetensors")
    assert weights.keys() == expected.weights.keys()
    assert sorted(path.name for path in out.iterdir()) == sorted(
        ["result.json", "predictions.parquet", "curves.parquet", "weights.safetensors"]
    )


def test_the_command_line_says_what_is_wrong(tmp_path: Path, capsys):
    trial = tmp_path / "trial.json"
    trial.write_text(small.trial().model_dump_json())
    arguments = [str(trial), "--data", str(tmp_path / "none"), "--out", str(tmp_path / "out")]
    assert trainer.main(arguments) == 2
    assert "error: " in capsys.readouterr().err
    assert not (tmp_path / "out").exists()
