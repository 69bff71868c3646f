import math

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from orchestrator import measure_agreement, measure_cases
from tests.orchestrator.predicted import frame, matrix, means, random_rows
from training.metrics import agreement, controlled_shift


def one_by_one(rows, threshold):
    """Measure one trial with the functions of `training.metrics.agreement`, on its own matrices."""
    slides, _ = means(rows, "slide")
    patients, _ = means(rows, "patient")
    scanners = sorted({c for d in slides.values() for c in d})
    width = len(next(iter(next(iter(slides.values())).values())))

    def pairs(values):
        found = [values[i, j] for i in range(len(values)) for j in range(i)]
        found = [value for value in found if not math.isnan(value)]
        return sum(found) / len(found) if found else math.nan

    columns = []
    for k in range(width):
        centred = {
            m: {c: v[k] - (v.mean() if width > 1 else 0) for c, v in d.items()}
            for m, d in slides.items()
        }
        scores = matrix(centred, scanners)
        icc = agreement.icc(scores)
        averages = np.nanmean(scores, axis=1)
        columns.append(
            {
                "score_sd": averages.std(ddof=1) if len(averages) > 1 else math.nan,
                "rmsd": pairs(agreement.rmsd(scores)),
                "rank_rmsd": pairs(agreement.rank_rmsd(scores)),
                "icc_agreement": float(icc.agreement),
                "icc_consistency": float(icc.consistency),
                "scanner_ratio": float(controlled_shift.scanner_ratio(scores)),
            }
        )
    decided = {
        m: {c: int(v[0] >= threshold) if width == 1 else int(v.argmax()) for c, v in d.items()}
        for m, d in patients.items()
    }
    classes = matrix(decided, scanners)
    return {name: np.mean([each[name] for each in columns]) for name in columns[0]} | {
        "cohen_kappa": pairs(agreement.cohen_kappa(classes)),
        "fleiss_kappa": float(agreement.fleiss_kappa(classes)),
    }


@settings(deadline=None, max_examples=40)
@given(st.integers(0, 2**32 - 1), st.sampled_from([1, 3]), st.sampled_from([1, 40, 2**19]))
def test_many_trials_at_once_equal_one_at_a_time(seed, num_columns, numbers):
    draw = np.random.default_rng(seed)
    names = [f"t{k}" for k in draw.permutation(5)]
    some = ["ABC", "AB", "C", "ABCD", "BD"]
    rows = {
        name: random_rows(draw, name, num_columns, scanners=some[draw.integers(5)])
        for name in names
    }
    threshold = pd.Series(np.round(draw.normal(size=5) * 4) / 4, index=names)
    predictions = frame([row for part in rows.values() for row in part])
    cases = measure_cases.cases(threshold, predictions, unseen=[()] * 5)
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(measure_agreement, "_NUMBERS", numbers)
        found = measure_agreement.trials(cases)
    assert list(found.columns) == list(measure_agreement.METRICS)
    for name in names:
        expected = one_by_one(rows[name], threshold[name])
        for metric, value in found.loc[name].items():
            assert value == pytest.approx(expected[metric], rel=1e-9, abs=1e-9, nan_ok=True), metric
    shuffled = predictions.iloc[draw.permutation(len(predictions))]
    cases = measure_cases.cases(threshold, shuffled, unseen=[()] * 5)
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(measure_agreement, "_NUMBERS", numbers)
        pd.testing.assert_frame_equal(measure_agreement.trials(cases), found, check_exact=True)


def measured(scores, scanners="AB"):
    """Measure one trial from {patient: (score on A, score on B, …)}; None: not scanned."""
    rows = [
        ("t", p, p, f"{p}-{s}", s, True, 0, score)
        for p, values in scores.items()
        for s, score in zip(scanners, values, strict=True)
        if score is not None
    ]
    return measure_agreement.trials(
        measure_cases.cases(pd.Series({"t": 0.0}), frame(rows), unseen=[()])
    ).loc["t"]


def test_values_by_hand():
    found = measured({"p": (1.0, 2.0), "q": (-1.0, -1.0), "r": (3.0, 1.0)})
    assert found["rmsd"] == pytest.approx(math.sqrt((1 + 0 + 4) / 3))
    # Ranks on A: p 2, q 1, r 3; on B: p 3, q 1, r 2.
    assert found["rank_rmsd"] == pytest.approx(math.sqrt(2 / 3) / 3)
    assert found["score_sd"] == pytest.approx(np.std([1.5, -1.0, 2.0], ddof=1))
    assert found["cohen_kappa"] == found["fleiss_kappa"] == 1


def test_halved_scores_halve_rmsd_and_score_sd_and_leave_the_rest():
    scores = {"p": (1.0, 2.0), "q": (-1.0, -2.0), "r": (3.0, 1.0), "s": (-2.0, 0.5)}
    whole = measured(scores)
    half = measured({p: tuple(v / 2 for v in values) for p, values in scores.items()})
    for name in ("rmsd", "score_sd"):
        assert half[name] == pytest.approx(whole[name] / 2)
    rest = [name for name in measure_agreement.METRICS if name not in ("rmsd", "score_sd")]
    np.testing.assert_allclose(half[rest], whole[rest])


def test_one_scanner_leaves_all_but_the_spread_empty():
    found = measured({"p": (1.0,), "q": (2.0,)}, scanners="A")
    assert found["score_sd"] == pytest.approx(math.sqrt(0.5))
    assert found.drop("score_sd").isna().all()


def test_a_scanner_of_other_trials_takes_no_slide_out_of_the_icc():
    rows = [
        (t, f"{t}{p}", f"{t}{p}", f"{t}{p}{s}", s, True, 0, float(score))
        for t, scanners in (("t", "AB"), ("u", "ABC"))
        for p, base in enumerate([-1, 0, 2, 3])
        for score, s in enumerate(scanners, base)
    ]
    threshold = pd.Series({"t": 0.0, "u": 0.0})
    found = measure_agreement.trials(measure_cases.cases(threshold, frame(rows), unseen=[(), ()]))
    assert found["icc_consistency"].to_list() == pytest.approx([1, 1])
