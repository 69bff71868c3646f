"""Survival tasks through training: lanes, checkpoints, validation, predictions."""

from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from tests.training import small
from tests.training.losses import kinds
from tests.training.losses.test_contract import resumed
from tests.training.plain import assert_as_in_a_plain_loop, session
from training.config import AttentionHead, Optim, Sampling, Stopping, TrialConfig
from training.data import scans
from training.data.index import Dataset
from training.metrics.accuracy import auroc
from training.metrics.concordance import harrell, uno
from training.trainer import train

KINDS: dict[str, dict[str, object]] = {
    "efron": {},
    "breslow": {"ties": "breslow", "strata": ("stratum",)},
    "cohort": {"risk_set": "cohort", "strata": ("stratum",)},
    "discrete": {"loss": "discrete", "num_intervals": 3},
}
GROUPED = [
    {"kind": "irm", "weight": 0.5},
    {"kind": "vrex", "weight": 0.5},
    {"kind": "group_dro", "eta": 0.1},
]
SCORES: list[tuple[str, dict[str, object]]] = [
    *(("efron", {"kind": "score", "form": form}) for form in ("logit_mse", "variance")),
    *(
        ("discrete", {"kind": "score", "form": form})
        for form in ("logit_mse", "probability_mse", "jensen_shannon")
    ),
]
every_kind = pytest.mark.parametrize("kind", KINDS)


@pytest.fixture(scope="module")
def cohort(tmp_path_factory: pytest.TempPathFactory) -> Dataset:
    return small.cohort(tmp_path_factory.mktemp("cohort"), small.views(33))


def varied(seed: int, kind: str, **changed: object) -> TrialConfig:
    optim = Optim(lr=0.003 * (1 + seed % 3), clip=None if seed % 2 else 0.5, epochs=2)
    return small.survival(seed, **({"optim": optim} | KINDS[kind] | changed))


def assert_lanes_are_alike(cohort: Dataset, made) -> None:
    everyone = train([made(seed) for seed in range(8)], cohort)
    assert {result.state for result in everyone} == {"done"}
    for chosen in ([7, 2], [3, 0, 5]):
        for seed, result in zip(chosen, train([made(s) for s in chosen], cohort), strict=True):
            small.assert_same(result, everyone[seed])


@every_kind
def test_a_lane_is_bit_identical_whatever_its_companions(cohort: Dataset, kind: str):
    assert_lanes_are_alike(cohort, lambda seed: varied(seed, kind))


@pytest.mark.parametrize("kind", ["efron", "discrete"])
@pytest.mark.parametrize("loss", GROUPED, ids=lambda loss: str(loss["kind"]))
def test_lanes_are_bit_identical_with_losses_on_the_groups_risks(cohort: Dataset, kind, loss):
    losses = (kinds.LOSS.validate_python(loss),)
    assert_lanes_are_alike(cohort, lambda seed: varied(seed, kind, losses=losses))


@pytest.mark.parametrize(("kind", "loss"), SCORES, ids=str)
def test_lanes_are_bit_identical_with_losses_between_scores(cohort: Dataset, kind: str, loss):
    losses = (kinds.LOSS.validate_python(loss),)
    assert_lanes_are_alike(cohort, lambda seed: varied(seed, kind, losses=losses))


@every_kind
def test_lanes_agree_with_a_plain_loop_in_float64(cohort: Dataset, kind: str):
    configs = [varied(seed, kind, precision="float64") for seed in range(3)]
    assert_as_in_a_plain_loop(configs, cohort)


@pytest.mark.parametrize("kind", ["cohort", "discrete"])
def test_a_resumed_trial_is_the_same_bits(cohort: Dataset, kind: str, tmp_path: Path):
    configs = [varied(seed, kind, optim=Optim(lr=0.01, epochs=3)) for seed in range(2)]
    for one, other in zip(resumed(configs, cohort, tmp_path), train(configs, cohort), strict=True):
        small.assert_same(one, other)


def test_the_memory_of_a_cohort_fills_with_training_patients_alone(cohort: Dataset):
    trained = session([varied(seed, "cohort") for seed in range(2)], cohort)
    trained.run_epoch()
    for row in trained.lanes.state:
        memory = trained.lanes.named(trained.lanes.flat[0], row)["task.memory"]
        part = trained.scans.table.groupby(trained.scans.patient)["part"].first()
        assert (memory > -100).tolist() == (part == "train").tolist()


@every_kind
def test_the_kept_epoch_is_the_one_of_the_best_concordance(cohort: Dataset, kind: str):
    optim = Optim(lr=0.05, epochs=6, schedule="constant")
    (result,) = train([varied(0, kind, optim=optim)], cohort)
    curve = result.curves["validation_concordance"]
    assert "validation_auroc" not in result.curves
    assert result.validation == curve.max() and curve[result.epoch - 1] == curve.max()
    judged = result.predictions[result.predictions["part"] == "validation"]
    cases = judged.groupby(["scanner", "patient"])[["time", "event", "score"]].mean()
    each = [
        harrell(on["time"].to_numpy(), on["event"].to_numpy() > 0, on["score"].to_numpy(float))
        for _, on in cases.groupby("scanner")
    ]
    assert result.validation == pytest.approx(np.nanmean(each))


def test_predictions_tell_time_event_and_the_weight_of_uno(cohort: Dataset):
    (result,) = train([small.survival()], cohort)
    found = result.predictions
    told = cohort.cases.set_index("patient")[["time", "event"]].astype(float)
    assert result.threshold == 0
    assert found["time"].tolist() == told.loc[found["patient"], "time"].tolist()
    assert found["event"].tolist() == told.loc[found["patient"], "event"].tolist()
    assert (found["label"] == found["event"]).all() and found["score"].dtype == np.float32
    known = scans.read(cohort, small.survival()).table
    train_part = told.loc[sorted(set(known.loc[known["part"] == "train", "patient"]))]
    censoring = train_part["time"].to_numpy(), train_part["event"].to_numpy() > 0
    cases = found[found["held_out"] & (found["scanner"] == "A")].drop_duplicates("patient")
    time, event = cases["time"].to_numpy(), cases["event"].to_numpy() > 0
    score = cases["score"].to_numpy(np.float64)
    horizon = censoring[0][censoring[1]].max()
    expected = uno(time, event, score, horizon=horizon, censoring=censoring)
    weight, right, total = cases["uno_weight"].to_numpy(), 0.0, 0.0
    for i in range(len(time)):
        later = (time > time[i]) | ((time == time[i]) & ~event)
        right += weight[i] * (later & (score < score[i])).sum()
        total += weight[i] * later.sum()
    assert right / total == pytest.approx(expected)


def test_the_score_of_hazards_is_a_risk_between_minus_their_number_and_zero(cohort: Dataset):
    (result,) = train([varied(0, "discrete")], cohort)
    score = result.predictions["score"]
    assert score.dtype == np.float32 and score.between(-3, 0).all() and score.nunique() > 20
    assert result.weights["classifier.weight"].shape[0] == 3


@every_kind
def test_the_model_learns(cohort: Dataset, kind: str):
    head = AttentionHead(kind="attention", embed_dims=(16,), attention_dim=8, dropout=0.1)
    given: dict[str, object] = {
        "optim": Optim(lr=0.02, epochs=25),
        "sampling": Sampling(slides_per_batch=12),
        "head": head,
        "views": "routine",
        "losses": (),
        "stopping": Stopping(validation_share=0.25, metric="concordance", epoch="last"),
    }
    for result in train(
        [small.survival(seed, **given, **KINDS[kind]) for seed in range(2)], cohort
    ):
        losses = result.curves["task_loss"]
        assert losses[-3:].mean() < losses[:3].mean() - 0.2
        held = result.predictions[result.predictions["held_out"]]
        early = held["patient"].str[-1].astype(int) % 2
        assert auroc(early.to_numpy(), held["score"].to_numpy(np.float64)) > 0.7


def test_shuffled_labels_move_times_and_events_together(cohort: Dataset):
    config = small.survival(shuffle_labels=True, strata=("stratum",))
    found, plain = (
        scans.read(cohort, each) for each in (config, small.survival(strata=("stratum",)))
    )

    def rows(of, part):
        frame = of.table.assign(time=of.outcomes.time, event=of.outcomes.event)
        frame = frame[frame["part"].isin(part)].drop_duplicates("patient")
        return frame.sort_values("patient")[["time", "event"]].itertuples(index=False, name=None)

    moved, before = ([*rows(of, ["train", "validation"])] for of in (found, plain))
    assert moved != before and sorted(moved) == sorted(before)
    assert [*rows(found, ["test"])] == [*rows(plain, ["test"])]
    assert np.array_equal(found.outcomes.stratum, plain.outcomes.stratum)
    assert np.array_equal(found.label, found.outcomes.event)


def test_intervals_are_cut_on_training_patients_alone(cohort: Dataset):
    """Other times of held-out patients move no training patient to another interval."""
    config = varied(0, "discrete")
    before = scans.read(cohort, config)
    test = set(before.table.loc[before.table["part"] == "test", "patient"])
    cases = cohort.cases.assign(
        time=[
            float(time) + 100 * (patient in test)
            for patient, time in zip(cohort.cases["patient"], cohort.cases["time"], strict=True)
        ]
    )
    other = Dataset(root=cohort.root, index=cohort.index, cases=cases, folds=None)
    after = scans.read(other, config)
    held = (before.table["part"] == "test").to_numpy()
    assert np.array_equal(before.outcomes.survived[~held], after.outcomes.survived[~held])
    assert not np.array_equal(before.outcomes.survived[held], after.outcomes.survived[held])


def test_a_validation_loss_is_that_of_all_validation_patients(cohort: Dataset):
    stopping = Stopping(validation_share=0.25, metric="loss", epoch="last")
    (result,) = train([small.survival(views="routine", losses=(), stopping=stopping)], cohort)
    judged = result.predictions[result.predictions["part"] == "validation"]
    told = judged.groupby("patient").agg(time=("time", "first"), event=("event", "first"))
    total = 0.0
    for patient, own in told[told["event"] == 1].iterrows():
        at_risk = told.index[(told["time"] >= own["time"]) & (told.index != patient)]
        tied = told.index[(told["time"] == own["time"]) & (told["event"] == 1)].difference(
            [patient]
        )
        hazard = judged.assign(hazard=np.exp(judged["score"].astype(float)))
        weight = 1 / hazard.groupby("slide")["view"].transform("size")
        weight /= weight.groupby(hazard["patient"]).transform("sum")
        each = (weight * hazard["hazard"]).groupby(hazard["patient"]).sum()
        mine = hazard["patient"] == patient
        for value, share in zip(hazard["hazard"][mine], weight[mine], strict=True):
            steps = [
                np.log(
                    value
                    + each[at_risk].sum()
                    - step / (len(tied) + 1) * (value + each[tied].sum())
                )
                for step in range(len(tied) + 1)
            ]
            total += share * (np.mean(steps) - np.log(value))
    expected = total / told["event"].sum()
    assert result.curves["validation_loss"][-1] == pytest.approx(expected, rel=1e-5)


def test_columns_of_a_failed_lane_are_those_of_the_others(cohort: Dataset):
    explosive = small.survival(5, optim=Optim(lr=1e38, epochs=2))
    good, dead = train([small.survival(0), explosive], cohort)
    assert dead.state == "failed" and isinstance(dead.predictions, pd.DataFrame)
    assert list(dead.predictions.columns) == list(good.predictions.columns)
    assert dead.predictions.dtypes.drop("score").equals(good.predictions.dtypes.drop("score"))
