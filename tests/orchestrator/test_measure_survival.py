import math
import time as clock

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from orchestrator import measure, measure_agreement, measure_cases, measure_survival
from orchestrator.errors import StoreError
from training.metrics.concordance import harrell
from training.metrics.hazard import hazard_ratio
from training.metrics.robustness import inconsistency

COLUMNS = [
    "trial", "patient", "slide", "view", "scanner", "held_out", "label", "time", "event",
    "uno_weight", "score",
]  # fmt: skip


def frame(rows) -> pd.DataFrame:
    """Make predictions of trial t from (patient, scanner, time, event, weight, score)."""
    full = [
        ("t", p, f"{p}-1", f"{p}-1-{s}", s, True, event, time, event, weight, score)
        for p, s, time, event, weight, score in rows
    ]
    return pd.DataFrame(full, columns=COLUMNS)


def one(predictions, *, unseen=()):
    found = measure_survival.trials(pd.Series({"t": 0.0}), predictions, unseen=[unseen])
    assert list(found.columns) == list(measure_survival.METRICS)
    return found.loc["t"]


PATIENTS = {"p": (1.0, 1, 1.0), "q": (2.0, 0, 0.0), "r": (3.0, 1, 4.0), "s": (5.0, 0, 0.0)}
ON = {"A": (4.0, 3.0, 2.0, 1.0), "B": (4.0, 3.0, 1.0, 2.0), "C": (1.0, 2.0, 3.0, 4.0)}


def by_hand() -> pd.DataFrame:
    return frame(
        [
            (name, scanner, *told, score)
            for scanner, scores in ON.items()
            for (name, told), score in zip(PATIENTS.items(), scores, strict=True)
        ]
    )


def test_metrics_equal_the_values_by_hand():
    found = one(by_hand(), unseen=["C"])
    # Pairs: p before q, r, s and r before s. B has the last one wrong, C all.
    assert found["concordance"] == pytest.approx((1 + 3 / 4) / 2)
    assert found["uno_concordance"] == pytest.approx((1 + 3 / (3 + 4)) / 2)
    assert found["worst_scanner_concordance"] == 3 / 4
    assert found["unseen_scanner_concordance"] == 0
    assert math.isnan(found["flip_rate"])
    scores = np.array([list(each) for each in zip(*ON.values(), strict=True)])
    assert found["inconsistency"] == pytest.approx(inconsistency(scores))
    # A orders the events without fault, so that B alone has a ratio.
    time, event = (np.array([told[k] for told in PATIENTS.values()], float) for k in (0, 1))
    expected = hazard_ratio(time, event > 0, np.array(ON["B"]))
    assert found["hazard_ratio"] == pytest.approx(expected) and math.isfinite(expected)


def test_scanners_are_compared_as_by_hand():
    threshold = pd.Series({"t": 0.0})
    found = measure_cases.cases(threshold, by_hand(), unseen=[("C",)], survival=True)
    each = measure_survival.by_scanner(found)
    assert list(each) == list(measure_survival.COLUMNS)
    assert each["patients"].tolist() == [[4, 4, 4]] and each["events"].tolist() == [[2, 2, 2]]
    gaps = measure_survival.gaps(found, each)
    assert list(gaps.columns) == list(measure_survival.GAPS)
    assert gaps.loc["t"].to_dict() == pytest.approx(
        {
            "worst_scanner_concordance": 3 / 4,
            "unseen_scanner_concordance": 0,
            "concordance_gap": 1 / 4,
            "concordance_cv": math.sqrt(2 * (1 / 8) ** 2) / (7 / 8),
            "worst_scanner_uno_concordance": 3 / 7,
            "unseen_scanner_uno_concordance": 0,
            "uno_concordance_gap": 4 / 7,
        }
    )


def test_scores_agree_between_scanners_as_those_of_classes_and_risks_have_no_kappa():
    threshold, predictions = pd.Series({"t": 0.0}), by_hand()
    told = measure_cases.cases(threshold, predictions, unseen=[()], survival=True)
    classes = measure_cases.cases(threshold, predictions, unseen=[()])
    found, other = measure_agreement.trials(told), measure_agreement.trials(classes)
    kappas = ["cohen_kappa", "fleiss_kappa"]
    assert found[kappas].isna().all(axis=None) and found.drop(columns=kappas).notna().all(axis=None)
    pd.testing.assert_frame_equal(found.drop(columns=kappas), other.drop(columns=kappas))


def test_ratios_of_scanners_are_averaged_by_their_logarithms():
    draw = np.random.default_rng(0)
    time, event = draw.exponential(size=40), draw.random(40) < 0.7
    scores = {
        scanner: draw.normal(size=40) - scale * time for scanner, scale in (("A", 1), ("B", 2))
    }
    rows = [
        (f"p{i}", scanner, time[i], int(event[i]), float(event[i]), score[i])
        for scanner, score in scores.items()
        for i in range(40)
    ]
    each = [hazard_ratio(time, event, score) for score in scores.values()]
    assert one(frame(rows))["hazard_ratio"] == pytest.approx(math.sqrt(each[0] * each[1]))


def random_rows(draw, trial: str) -> list[tuple]:
    rows = []
    for p in range(draw.integers(2, 9)):
        time, event = float(draw.integers(1, 5)), int(draw.random() < 0.6)
        held_out = bool(p < 2 or draw.random() < 0.8)
        for s in range(draw.integers(1, 4)):
            present = draw.random(3) < 0.6
            present[draw.integers(3)] = True
            for c in np.flatnonzero(present):
                score = float(np.round(draw.normal() * 8) / 8)  # sums are exact
                rows.append(
                    (trial, f"p{p}", f"p{p}-{s}", f"p{p}-{s}-{c}", "ABC"[c], held_out, event, time,
                     event, 2.0 * event, score)
                )  # fmt: skip
    return rows


@settings(deadline=None, max_examples=40)
@given(st.integers(0, 10**6))
def test_many_trials_are_measured_as_each_alone_by_a_loop(seed: int):
    draw = np.random.default_rng(seed)
    rows = {name: random_rows(draw, name) for name in ("a", "b", "c")}
    predictions = pd.DataFrame([row for each in rows.values() for row in each], columns=COLUMNS)
    predictions = predictions.sample(frac=1, random_state=seed)
    threshold, unseen = pd.Series({"a": 0.0, "b": 0.0, "c": 0.0}), [["C"], [], ["A", "C"]]
    found = measure_survival.trials(threshold, predictions, unseen=unseen)
    for (name, own), away in zip(rows.items(), unseen, strict=True):
        held = pd.DataFrame(own, columns=COLUMNS).query("held_out")
        cases = held.groupby(["scanner", "patient"])[["time", "event", "score"]].mean()
        each = {
            scanner: harrell(*(part[k].to_numpy(dtype) for k, dtype in
                               (("time", float), ("event", bool), ("score", float))))
            for scanner, part in cases.groupby("scanner")
        }  # fmt: skip
        seen = [c for scanner, c in each.items() if scanner not in away and not math.isnan(c)]
        gone = [c for scanner, c in each.items() if scanner in away and not math.isnan(c)]
        expected = {
            "concordance": np.mean(seen) if seen else np.nan,
            "uno_concordance": np.mean(seen) if seen else np.nan,  # all weights are equal
            "worst_scanner_concordance": min(seen) if len(seen) > 1 else np.nan,
            "unseen_scanner_concordance": np.mean(gone) if gone else np.nan,
        }
        for metric, value in expected.items():
            np.testing.assert_allclose(found.loc[name, metric], value, err_msg=metric)
    again = measure_survival.trials(
        threshold, predictions.sample(frac=1, random_state=1), unseen=unseen
    )
    pd.testing.assert_frame_equal(found, again, check_exact=True)


def test_no_trial_gives_no_row():
    found = measure_survival.trials(pd.Series(dtype=float), by_hand().head(0), unseen=[])
    assert found.empty and list(found.columns) == list(measure_survival.METRICS)


def test_predictions_without_outcomes_are_refused():
    with pytest.raises(StoreError, match="no column time, uno_weight of a survival task"):
        one(by_hand().drop(columns=["time", "uno_weight"]))
    with pytest.raises(StoreError, match="trial t has a prediction without an outcome"):
        one(by_hand().replace({"time": {2.0: np.nan}}))
    with pytest.raises(StoreError, match="has no held-out predictions"):
        one(by_hand().assign(held_out=False))


@pytest.mark.slow
def test_a_thousand_trials_take_seconds():
    draw = np.random.default_rng(0)
    one_trial = pd.DataFrame(
        [
            (f"p{i}", f"p{i}", f"p{i}-{s}", s, True)
            for i in range(80) for s in "ABCDE"
        ],
        columns=["patient", "slide", "view", "scanner", "held_out"],
    )  # fmt: skip
    time, event = draw.exponential(size=80).repeat(5), (draw.random(80) < 0.5).repeat(5)
    told = {"time": time, "event": event * 1, "label": event * 1, "uno_weight": event * 1.0}
    many = pd.concat(
        [
            one_trial.assign(trial=f"t{n}", **told, score=draw.normal(size=400) - time)
            for n in range(1000)
        ]
    )
    threshold = pd.Series(0.0, index=[f"t{n}" for n in range(1000)])
    start = clock.process_time()
    found = measure_survival.trials(threshold, many, unseen=[["E"]] * 1000)
    assert clock.process_time() - start < 20
    assert found.notna().all().drop("flip_rate").all()
    assert set(measure.METRICS) & set(found.columns) == {"inconsistency", "flip_rate"}


def test_a_scan_of_an_unknown_scanner_is_none_of_any_scanner_s():
    known = by_hand()
    strange = known[known["scanner"] == "C"].assign(
        scanner="", view=lambda rows: "x" + rows["view"], slide=lambda rows: "x" + rows["slide"]
    )
    both = pd.concat([known, strange], ignore_index=True)
    pd.testing.assert_series_equal(one(both, unseen=["C"]), one(known, unseen=["C"]))
    alone = strange.reset_index(drop=True)
    assert one(alone)["concordance"] == 0
