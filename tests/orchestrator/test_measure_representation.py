import numpy as np
import pandas as pd
import pytest

from orchestrator import measure_representation as measure
from training import seeds
from training.metrics import representation
from training.metrics.designed_splits import performance_drop
from training.metrics.information import information
from training.metrics.probe import probe


@pytest.fixture(autouse=True)
def _few_draws(monkeypatch):
    monkeypatch.setattr(measure, "NUM_DRAWS", 25)


def table(num=20, scanners="AB"):
    rows = [(f"p{p:02}", f"s{p:02}", f"v{p:02}{s}", s, p % 2) for p in range(num) for s in scanners]
    return pd.DataFrame(rows, columns=["patient", "slide", "view", "scanner", "label"])


def embeddings(given, *, scanner=0.0, label=0.0, seed=0):
    draw = np.random.default_rng(seed)
    slides = {slide: draw.normal(size=6) for slide in sorted(set(given["slide"]))}
    return np.stack(
        [
            slides[row.slide]
            + scanner * (ord(row.scanner) - 65) * np.eye(6)[0]
            + 3 * label * row.label * np.eye(6)[1]
            + 0.1 * draw.normal(size=6)
            for row in given.itertuples()
        ]
    ).astype(np.float32)


def scans(given):
    return measure.scans(given, pd.Index(sorted(set(given["patient"]))))


def test_each_number_is_that_of_the_plain_function():
    given = table()
    values = embeddings(given, scanner=1.0, label=1.0)
    found = measure.measure(values, scans(given), fold=3)
    patient = np.repeat(np.arange(20), 2)
    scanner, label = np.tile([0, 1], 20), np.repeat(np.arange(20) % 2, 2)
    wide = values.astype(np.float64)
    read = probe(wide, scanner, patient, generator=seeds.generator(3, "scanner probe"))
    assert found.metrics == pytest.approx(
        {
            "robustness_index": representation.robustness_index(
                wide, label, scanner, num_neighbours=10, own=patient
            ),
            "average_performance_drop": performance_drop(
                wide, label, scanner, patient, generator=seeds.generator(3, "designed splits")
            ),
            "scanner_auroc": read.auroc,
            "scanner_balanced_accuracy": read.balanced_accuracy,
            "effective_rank": representation.effective_rank(wide),
            "retrieval": representation.retrieval(wide, patient, scanner),
            "variance": wide.var(0).mean(),
        }
    )
    expected = information(
        wide, scanner, patient,
        generator=seeds.generator(3, "scanner information"), block=patient, num_draws=25,
    )  # fmt: skip
    assert found.scanner.bound == expected.bound
    np.testing.assert_array_equal(found.scanner.null, expected.null)
    expected = information(
        wide, label, patient, generator=seeds.generator(3, "label information"), num_draws=25
    )
    assert found.label.bound == expected.bound and len(found.label.null) == 25


def test_scanner_and_label_are_found_where_they_are_and_only_there():
    given = table(40)
    both = measure.measure(embeddings(given, scanner=2.0, label=2.0), scans(given), fold=0)
    none = measure.measure(embeddings(given), scans(given), fold=0)
    assert both.scanner.above_null and both.label.above_null
    assert not none.scanner.above_null and not none.label.above_null
    assert both.metrics["scanner_auroc"] > 0.8 > none.metrics["scanner_auroc"]


def test_the_order_of_the_rows_changes_no_bit():
    given = table()
    values = embeddings(given, scanner=0.5, label=0.5)
    order = np.random.default_rng(1).permutation(len(given))
    found = measure.measure(values, scans(given), fold=0)
    other = given.iloc[order].reset_index(drop=True)
    again = measure.measure(values[order], scans(other), fold=0)
    assert again.metrics == found.metrics
    np.testing.assert_array_equal(again.scanner.null, found.scanner.null)
    np.testing.assert_array_equal(again.label.log_chance, found.label.log_chance)


def test_scans_of_an_unknown_scanner_are_left_out_where_others_name_theirs():
    given = table()
    given.loc[given["view"].isin(["v00A", "v07B"]), "scanner"] = ""
    assert len(scans(given).rows) == 38
    given["scanner"] = ""
    assert len(scans(given).rows) == 40 and not scans(given).scanner.any()


def test_without_classes_the_label_tells_nothing():
    given = table().assign(label=-1)
    found = measure.measure(embeddings(given), scans(given), fold=0)
    assert found.label is None and np.isnan(found.metrics["robustness_index"])
    assert np.isfinite(found.scanner.bound)


def test_one_scanner_leaves_what_compares_scanners_undefined():
    given = table(scanners="A")
    found = measure.measure(embeddings(given), scans(given), fold=0)
    assert np.isnan(found.metrics["scanner_auroc"]) and np.isnan(found.metrics["retrieval"])
    assert not found.scanner.above_null and found.scanner.reason
    assert np.isfinite(found.metrics["effective_rank"])
