import math

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from orchestrator import measure
from orchestrator.errors import StoreError
from training.metrics import accuracy, robustness

NAN = float("nan")
COLUMNS = ["trial", "patient", "slide", "view", "scanner", "held_out", "label", "score"]


def frame(rows):
    """Make predictions of trial t from (patient, scanner, label, score): a slide per patient."""
    full = [("t", p, f"{p}-1", f"{p}-1-{s}", s, True, y, score) for p, s, y, score in rows]
    return pd.DataFrame(full, columns=COLUMNS)


def one(predictions, *, threshold=0.0, unseen=()):
    return measure.trials(pd.Series({"t": threshold}), predictions, unseen=[unseen]).loc["t"]


def loop(rows, threshold, unseen):
    """Measure one trial with dictionaries; rows are tuples in the order of COLUMNS."""
    patients, slides, label = {}, {}, {}
    for _, patient, slide, _, scanner, held_out, y, score in rows:
        if held_out:
            score = np.atleast_1d(score).astype(float)
            patients.setdefault(patient, {}).setdefault(scanner, []).append(score)
            slides.setdefault(slide, {}).setdefault(scanner, []).append(score)
            label[patient] = y
    patients = {p: {c: np.mean(v, 0) for c, v in d.items()} for p, d in patients.items()}
    slides = {s: {c: np.mean(v, 0) for c, v in d.items()} for s, d in slides.items()}
    width = len(next(iter(next(iter(patients.values())).values())))

    def decide(score):
        return int(score[0] >= threshold) if width == 1 else int(np.argmax(score))

    scanners = sorted({c for d in patients.values() for c in d})
    area, plain, balanced = {}, {}, {}
    for scanner in scanners:
        own = [(label[p], d[scanner]) for p, d in patients.items() if scanner in d]
        labels, scores = np.array([y for y, _ in own]), np.array([s for _, s in own])
        predicted = np.array([decide(s) for s in scores])
        plain[scanner] = accuracy.accuracy(labels, predicted)
        if width == 1:
            area[scanner] = accuracy.auroc(labels, scores[:, 0])
        else:
            area[scanner] = accuracy.multiclass_auroc(labels, scores)
        balanced[scanner] = accuracy.balanced_accuracy(labels, predicted, num_classes=max(2, width))
    seen = [c for c in scanners if c not in unseen]

    def mean(values, names):
        defined = [values[c] for c in names if not math.isnan(values[c])]
        return sum(defined) / len(defined) if defined else NAN

    seen_areas = [area[c] for c in seen if not math.isnan(area[c])]
    spread = []
    for k in range(width):
        matrix = [[d[c][k] - (d[c].mean() if width > 1 else 0) if c in d else NAN for c in scanners]
                  for d in slides.values()]  # fmt: skip
        spread.append(robustness.inconsistency(np.array(matrix)))
    classes = [[decide(d[c]) if c in d else NAN for c in scanners] for d in patients.values()]
    return {
        "accuracy": mean(plain, seen),
        "auroc": mean(area, seen),
        "balanced_accuracy": mean(balanced, seen),
        "inconsistency": sum(spread) / width,
        "flip_rate": robustness.flip_rate(np.array(classes, dtype=float)),
        "worst_scanner_auroc": min(seen_areas) if len(seen_areas) > 1 else NAN,
        "unseen_scanner_auroc": mean(area, [c for c in scanners if c in unseen]),
    }


def random_rows(draw, trial, num_columns):
    """Draw a trial's predictions: patients with 1 to 3 slides, each on some of three scanners."""
    rows, num_classes = [], max(2, num_columns)
    for p in range(draw.integers(1, 9)):
        label = draw.integers(0, num_classes)
        held_out = bool(p == 0 or draw.random() < 0.8)
        for s in range(draw.integers(1, 4)):
            present = draw.random(3) < 0.6
            present[draw.integers(3)] = True
            for c in np.flatnonzero(present):
                score = np.round(draw.normal(size=num_columns) * 8) / 8  # sums are exact
                value = score[0] if num_columns == 1 else list(score)
                rows.append(
                    (trial, f"p{p}", f"p{p}-{s}", f"p{p}-{s}-{c}", "ABC"[c], held_out, label, value)
                )
    return rows


def test_metrics_equal_the_values_by_hand():
    predictions = frame(
        [
            ("p", "A", 0, -2.0), ("q", "A", 0, 1.0), ("r", "A", 1, 0.5), ("s", "A", 1, 3.0),
            ("p", "B", 0, -1.0), ("q", "B", 0, -1.0), ("r", "B", 1, -1.0), ("s", "B", 1, 3.0),
            ("p", "C", 0, 1.0), ("q", "C", 0, 2.0), ("r", "C", 1, 1.5), ("s", "C", 1, 0.0),
        ]
    )  # fmt: skip
    found = one(predictions, unseen=["C"])
    assert found["auroc"] == pytest.approx((3 / 4 + 3 / 4) / 2)  # B: two ties of four pairs
    assert found["worst_scanner_auroc"] == 3 / 4
    assert found["unseen_scanner_auroc"] == 1 / 4
    assert found["accuracy"] == 3 / 4
    assert found["balanced_accuracy"] == 3 / 4
    assert found["flip_rate"] == 3 / 4  # p and q on C, q and r between A and B; never s
    variances = [np.var([a, b, c], ddof=1) for a, b, c in
                 [(-2, -1, 1), (1, -1, 2), (0.5, -1, 1.5), (3, 3, 0)]]  # fmt: skip
    means = [-2 / 3, 2 / 3, 1 / 3, 2]
    expected = math.sqrt(np.mean(variances)) / np.std(means, ddof=1)
    assert found["inconsistency"] == pytest.approx(expected)


def test_slides_of_a_patient_are_averaged_before_anything_is_counted():
    rows = [
        ("t", "p", "p-1", "1", "A", True, 1, 5.0),
        ("t", "p", "p-2", "2", "A", True, 1, -1.0),
        ("t", "q", "q-1", "3", "A", True, 0, 1.0),
    ]
    found = one(pd.DataFrame(rows, columns=COLUMNS), threshold=1.5)
    assert found["auroc"] == 1  # 2 against 1; -1 alone would be below 1
    assert found["accuracy"] == 1


def test_worst_scanner_is_the_lowest_of_the_seen_ones():
    rows = []
    for scanner, scores in {"A": (0, 1), "B": (1, 0), "C": (0, 0)}.items():
        rows += [("p", scanner, 0, float(scores[0])), ("q", scanner, 1, float(scores[1]))]
    assert one(frame(rows))["worst_scanner_auroc"] == 0
    assert one(frame(rows))["auroc"] == 0.5
    without = one(frame(rows), unseen=["B"])
    assert without["worst_scanner_auroc"] == 0.5
    assert without["auroc"] == 0.75
    assert without["unseen_scanner_auroc"] == 0


def test_one_scanner_leaves_what_compares_scanners_empty():
    found = one(frame([("p", "", 0, 0.0), ("q", "", 1, 1.0)]), threshold=0.5)
    assert found["auroc"] == found["accuracy"] == found["balanced_accuracy"] == 1
    empty = ["inconsistency", "flip_rate", "worst_scanner_auroc", "unseen_scanner_auroc"]
    assert found[empty].isna().all()


def test_one_class_leaves_auroc_and_balanced_accuracy_empty():
    found = one(frame([("p", "A", 1, 1.0), ("q", "A", 1, -1.0)]))
    assert found["accuracy"] == 0.5
    assert found[["auroc", "balanced_accuracy"]].isna().all()


def test_a_scanner_without_both_classes_is_left_out_of_the_mean():
    found = one(frame([("p", "A", 0, 0.0), ("q", "A", 1, 1.0), ("q", "B", 1, -5.0)]))
    assert found["auroc"] == 1
    assert math.isnan(found["worst_scanner_auroc"])


def test_a_score_at_the_threshold_is_positive():
    assert one(frame([("p", "A", 1, 0.5)]), threshold=0.5)["accuracy"] == 1


def test_rows_that_are_not_held_out_do_not_count():
    rows = frame([("p", "A", 0, 0.0), ("q", "A", 1, 1.0)])
    more = frame([("r", "A", 0, 9.0), ("s", "B", 1, -9.0)]).assign(held_out=False)
    together = one(pd.concat([rows, more]), threshold=0.5)
    pd.testing.assert_series_equal(together, one(rows, threshold=0.5))


@settings(deadline=None, max_examples=60)
@given(st.integers(0, 2**32 - 1), st.sampled_from([1, 3]))
def test_many_trials_at_once_equal_a_loop_and_no_order_of_rows_matters(seed, num_columns):
    draw = np.random.default_rng(seed)
    names = [f"t{k}" for k in draw.permutation(4)]
    rows = {name: random_rows(draw, name, num_columns) for name in names}
    unseen = [[[], ["B"], ["A", "C"], ["D"]][draw.integers(4)] for _ in names]
    threshold = pd.Series(np.round(draw.normal(size=4) * 8) / 8, index=names)
    predictions = pd.DataFrame([r for part in rows.values() for r in part], columns=COLUMNS)
    found = measure.trials(threshold, predictions, unseen=unseen)
    for name, away in zip(names, unseen, strict=True):
        expected = loop(rows[name], threshold[name], away)
        for metric in measure.METRICS:
            value = found.loc[name, metric]
            assert value == pytest.approx(expected[metric], rel=1e-9, abs=1e-12, nan_ok=True), (
                metric
            )
    shuffled = predictions.iloc[draw.permutation(len(predictions))]
    dictionary = shuffled.astype({"trial": "category", "view": "category"})
    for other in (shuffled, dictionary):
        again = measure.trials(threshold, other, unseen=unseen)
        pd.testing.assert_frame_equal(again, found, check_exact=True)


def test_two_classes_as_a_multiclass_task_rank_like_the_binary_task():
    draw = np.random.default_rng(0)
    rows = [(f"p{i}", "AB"[i % 2], int(draw.integers(2)), float(draw.normal())) for i in range(30)]
    binary = one(frame(rows))
    logits = one(frame([(p, s, y, [3.0, 3.0 + score]) for p, s, y, score in rows]))
    assert logits["auroc"] == pytest.approx(binary["auroc"], abs=1e-12)
    assert logits["accuracy"] == binary["accuracy"]


def test_scores_of_single_precision_lists_are_read():
    rows = [(f"p{i}", "A", i % 3, np.eye(3, dtype=np.float32)[i % 3]) for i in range(6)]
    assert one(frame(rows), threshold=NAN)["accuracy"] == 1


def test_no_trials_give_an_empty_frame():
    nothing = pd.DataFrame({"trial": pd.Series(dtype="str")})
    found = measure.trials(pd.Series(dtype=float), nothing, unseen=[])
    assert found.empty
    assert list(found.columns) == list(measure.METRICS)


@pytest.mark.parametrize(
    ("change", "threshold", "message"),
    [
        (lambda rows: pd.concat([rows, rows.tail(1)]), 0.0, "'q-1-A' is predicted twice"),
        (lambda rows: rows.assign(score=[0.0, NAN]), 0.0, "not finite"),
        (lambda rows: rows.assign(held_out=False), 0.0, "no held-out predictions"),
        (lambda rows: rows.assign(trial="u"), 0.0, "no held-out predictions"),
        (lambda rows: rows.head(0)[["trial"]], 0.0, "no held-out predictions"),
        (lambda rows: rows, NAN, "no threshold"),
    ],
)
def test_damaged_results_are_refused(change, threshold, message):
    rows = frame([("p", "A", 0, 0.0), ("q", "A", 1, 1.0)])
    with pytest.raises(StoreError, match=message):
        one(change(rows), threshold=threshold)
