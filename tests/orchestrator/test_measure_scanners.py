import math

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.metrics import average_precision_score

from orchestrator import measure, measure_cases, measure_scanners
from tests.orchestrator.predicted import frame, means, random_rows
from training.metrics import accuracy, agreement, calibration, precision

NAN = math.nan


def one_by_one(rows, threshold):
    """Measure one trial on each of its scanners with the plain functions: {scanner: metrics}."""
    patients, label = means(rows, "patient")
    found = {}
    for scanner in sorted({c for d in patients.values() for c in d}):
        own = [(label[p], d[scanner]) for p, d in patients.items() if scanner in d]
        labels, scores = np.array([y for y, _ in own]), np.stack([s for _, s in own])
        width = scores.shape[1]
        if width == 1:
            logit = scores[:, 0]
            predicted = (logit >= threshold).astype(int)
            intercept, slope = calibration.calibration(labels, logit)
            each = {
                "auroc": accuracy.auroc(labels, logit),
                "auprc": precision.auprc(labels, logit),
                "brier": calibration.brier(labels, logit),
                "calibration_intercept": intercept,
                "calibration_slope": slope,
                "calibration_error": calibration.expected_calibration_error(labels, logit),
            }
        else:
            predicted = scores.argmax(1)
            chance = np.exp(scores) / np.exp(scores).sum(1, keepdims=True)
            odds = accuracy.one_vs_rest(scores)
            areas = [
                average_precision_score(labels == c, odds[:, c])
                if 0 < (labels == c).sum() < len(labels)
                else NAN
                for c in range(width)
            ]
            each = {
                "auroc": accuracy.multiclass_auroc(labels, scores),
                "auprc": np.mean(areas),
                "brier": np.mean(np.square(chance - np.eye(width)[labels]).sum(1)) / 2,
                "calibration_intercept": NAN,
                "calibration_slope": NAN,
                "calibration_error": NAN,
            }
        classes = range(max(2, width))
        shares = [np.mean(predicted[labels == c] == c) if c in labels else NAN for c in classes]
        found[scanner] = each | {
            "patients": len(own),
            "accuracy": np.mean(labels == predicted),
            "balanced_accuracy": np.mean(shares),
            "worst_class_accuracy": min(shares) if not np.isnan(shares).any() else NAN,
        }
    return found


def seen_values(found, metric, away):
    """Values of a metric on the seen scanners that have one, and on the unseen ones."""
    values = {c: each[metric] for c, each in found.items() if not math.isnan(each[metric])}
    return [v for c, v in values.items() if c not in away], [
        v for c, v in values.items() if c in away
    ]


@settings(deadline=None, max_examples=40)
@given(st.integers(0, 2**32 - 1), st.sampled_from([1, 3]))
def test_many_trials_at_once_equal_one_at_a_time(seed, num_columns):
    draw = np.random.default_rng(seed)
    names = [f"t{k}" for k in draw.permutation(4)]
    rows = {name: random_rows(draw, name, num_columns) for name in names}
    unseen = [[[], ["B"], ["A", "C"], ["D"]][draw.integers(4)] for _ in names]
    threshold = pd.Series(np.round(draw.normal(size=4) * 4) / 4, index=names)
    predictions = frame([row for part in rows.values() for row in part])
    cases = measure_cases.cases(threshold, predictions, unseen=unseen)
    each = measure_scanners.by_scanner(cases, measure.by_scanner(cases))
    averaged = measure_scanners.averaged(cases, each)
    gaps = measure_scanners.gaps(cases, each)
    assert set(each) == set(measure_scanners.COLUMNS)
    for place, (name, away) in enumerate(zip(names, unseen, strict=True)):
        expected = one_by_one(rows[name], threshold[name])
        for metric, values in each.items():
            for scanner, value in zip(cases.scanners, values[place], strict=True):
                nothing = 0 if metric == "patients" else NAN
                wanted = expected.get(scanner, {}).get(metric, nothing)
                assert value == pytest.approx(wanted, rel=1e-6, abs=1e-6, nan_ok=True), metric
        for metric in measure_scanners.METRICS:
            values, _ = seen_values(expected, metric, away)
            mean = np.mean(values) if values else NAN
            value = averaged.loc[name, metric]
            assert value == pytest.approx(mean, rel=1e-6, abs=1e-6, nan_ok=True)
        for metric in ("auroc", "balanced_accuracy"):
            values, others = seen_values(expected, metric, away)
            two = len(values) > 1
            wanted = {
                f"worst_scanner_{metric}": min(values) if two else NAN,
                f"{metric}_gap": max(values) - min(values) if two else NAN,
                f"unseen_scanner_{metric}": np.mean(others) if others else NAN,
            }
            for gap, value in wanted.items():
                assert gaps.loc[name, gap] == pytest.approx(value, abs=1e-9, nan_ok=True), gap
        values, _ = seen_values(expected, "auroc", away)
        cv = float(agreement.coefficient_of_variation(np.array([*values, NAN])))
        assert gaps.loc[name, "auroc_cv"] == pytest.approx(cv, nan_ok=True)
        for gap, metric, far in (
            ("worst_scanner_brier", "brier", lambda v: v),
            ("worst_scanner_intercept", "calibration_intercept", abs),
            ("worst_scanner_slope", "calibration_slope", lambda v: abs(v - 1)),
        ):
            values, _ = seen_values(expected, metric, away)
            worst = max(map(far, values)) if len(values) > 1 else NAN
            assert gaps.loc[name, gap] == pytest.approx(worst, rel=1e-5, abs=1e-6, nan_ok=True)
        values, _ = seen_values(expected, "worst_class_accuracy", away)
        worst = min(values) if len(values) > 1 else NAN
        assert gaps.loc[name, "worst_group_accuracy"] == pytest.approx(worst, nan_ok=True)


def test_a_scanner_that_shifts_the_logit_shows_in_its_intercept_and_not_in_its_auroc():
    draw = np.random.default_rng(1)
    rows = []
    for p in range(400):
        logit = float(draw.normal(scale=2))
        label = int(draw.random() < 1 / (1 + math.exp(-logit)))
        for scanner, shift in (("A", 0.0), ("B", 2.0)):
            rows.append(("t", p, p, f"{p}{scanner}", scanner, True, label, logit + shift))
    cases = measure_cases.cases(pd.Series({"t": 0.0}), frame(rows), unseen=[()])
    each = measure_scanners.by_scanner(cases, measure.by_scanner(cases))
    gaps = measure_scanners.gaps(cases, each).loc["t"]
    assert each["auroc"][0, 0] == each["auroc"][0, 1]
    intercepts = each["calibration_intercept"][0]
    assert intercepts[1] == pytest.approx(intercepts[0] - 2)
    assert each["calibration_slope"][0, 1] == pytest.approx(each["calibration_slope"][0, 0])
    assert gaps["worst_scanner_intercept"] == pytest.approx(abs(intercepts[1]))
    assert gaps["auroc_gap"] == gaps["auroc_cv"] == 0
    assert each["brier"][0, 1] > each["brier"][0, 0]
