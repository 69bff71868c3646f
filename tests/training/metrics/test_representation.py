import gzip
import json
import os
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from croma import apd
from croma.metrics.ri import RobustnessIndex
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.neighbors import NearestNeighbors

from training.metrics import representation
from training.metrics.representation import (
    average_performance_drop,
    effective_rank,
    retrieval,
    robustness_index,
)

ROOT = Path(__file__).parents[3]
DATA = ROOT / os.environ.get("SWEEP_TEST_DATA", "../shared/data") / "robustness-reference"
needs_data = pytest.mark.skipif(
    not DATA.is_dir(), reason="SWEEP_TEST_DATA names no folder with robustness-reference"
)


def slow_index(embeddings, biology, scanner, own, k: int) -> float:
    search = NearestNeighbors(n_neighbors=len(embeddings), metric="cosine", algorithm="brute")
    order = search.fit(embeddings).kneighbors(return_distance=False, X=embeddings)
    same_other = other_same = 0
    for case, near in enumerate(order):
        kept = [other for other in near if own[other] != own[case]][:k]
        for other in kept:
            alike, within = biology[other] == biology[case], scanner[other] == scanner[case]
            same_other += alike and not within
            other_same += within and not alike
    return same_other / (same_other + other_same)


@settings(deadline=None, max_examples=50)
@given(st.integers(0, 2**32), st.integers(1, 12))
def test_the_robustness_index_agrees_with_a_loop_over_scikit_learns_neighbours(seed: int, k: int):
    generator = np.random.default_rng(seed)
    embeddings = generator.normal(size=(40, 5))
    biology, scanner = generator.integers(0, 2, 40), generator.integers(0, 3, 40)
    for own in (np.arange(40), np.arange(40) // 3):
        found = robustness_index(embeddings, biology, scanner, num_neighbours=k, own=own)
        assert found == pytest.approx(slow_index(embeddings, biology, scanner, own, k))


@settings(deadline=None, max_examples=10)
@given(st.integers(0, 2**32), st.integers(1, 12))
def test_the_robustness_index_and_the_drop_agree_with_croma(seed: int, k: int):
    generator = np.random.default_rng(seed)
    embeddings, own = generator.normal(size=(60, 5)), np.arange(60) // 3
    biology, scanner = generator.integers(0, 2, 60), generator.integers(0, 3, 60)
    columns = {"sample_id": np.arange(60), "label": biology, "group_id": own, "scanner": scanner}
    manifest = pd.DataFrame(columns).astype(str).assign(image_path="-")
    curve = RobustnessIndex.compute_curve(
        embeddings, manifest, confounder_column="scanner", k_values=[k]
    )
    found = robustness_index(embeddings, biology, scanner, num_neighbours=k, own=own)
    assert found == pytest.approx(curve[k])
    accuracy = generator.uniform(0.4, 1, size=(4, 6))
    assert average_performance_drop(accuracy) == pytest.approx(apd(accuracy))


def worlds(weight: float, seed: int = 0, num: int = 60):
    """Slides of two classes on two scanners; `weight` says how far scanners lie apart."""
    generator = np.random.default_rng(seed)
    slide, scanner = np.repeat(np.arange(num), 2), np.tile([0, 1], num)
    biology = slide % 2
    embeddings = 0.4 * generator.normal(size=(num, 8))[slide]
    embeddings = embeddings + 0.1 * generator.normal(size=(2 * num, 8))
    embeddings[:, 0] += 4.0 * biology - 2.0
    embeddings[:, 1] += weight * (2 * scanner - 1)
    return embeddings, biology, scanner, slide


def test_the_index_is_one_where_biology_rules_and_zero_where_the_scanner_does():
    embeddings, biology, scanner, slide = worlds(0.0)
    assert robustness_index(embeddings, biology, scanner, num_neighbours=5, own=slide) > 0.98
    embeddings, biology, scanner, slide = worlds(50.0)
    assert robustness_index(embeddings, biology, scanner, num_neighbours=40, own=slide) < 0.05
    one_class = np.zeros_like(biology)
    assert robustness_index(embeddings, one_class, scanner, num_neighbours=100) == 1.0
    assert np.isnan(robustness_index(embeddings, one_class, one_class, num_neighbours=5))


def test_a_slides_other_scan_is_no_neighbour_where_patients_are_given():
    embeddings, _, scanner, slide = worlds(0.0)
    by_chance = np.random.default_rng(1).integers(0, 2, 60)[slide]
    trivial = robustness_index(embeddings, by_chance, scanner, num_neighbours=1)
    honest = robustness_index(embeddings, by_chance, scanner, num_neighbours=1, own=slide)
    assert trivial > 0.9 and 0.3 < honest < 0.7


@needs_data
@pytest.mark.parametrize("model", ["phikonv2", "uni2h"])
@pytest.mark.parametrize("dataset", ["camelyon", "tcga", "tolkach_esca"])
def test_the_average_performance_drop_is_the_published_one(model: str, dataset: str):
    raw, summary = (
        json.loads((DATA / f"apd_{model}_clsmean_{dataset}_{name}.json").read_text())
        for name in ("raw", "summary")
    )
    for domain in ("ID", "OOD"):
        found = average_performance_drop(np.array(raw[f"{domain}_test_accuracies"]))
        assert found == pytest.approx(summary[f"apd_{domain.lower()}"], abs=1e-15)


@needs_data
def test_the_published_designs_give_a_defined_index():
    with gzip.open(DATA / "pathorob_camelyon_reduced.csv.gz", "rt") as file:
        rows = [line.strip().split(",") for line in file][1::3]
    _, slide, _, biology, scanner = (
        np.unique(each, return_inverse=True)[1] for each in zip(*rows, strict=True)
    )
    generator = np.random.default_rng(0)
    noise = generator.normal(size=(len(rows), 4))
    chance = robustness_index(noise, biology, scanner, num_neighbours=11, own=slide)
    assert 0.4 < chance < 0.6
    told = noise + 9 * np.eye(4)[biology]
    assert robustness_index(told, biology, scanner, num_neighbours=11, own=slide) == 1.0


def test_a_drop_needs_a_biased_split_and_an_accuracy():
    assert average_performance_drop(np.array([[0.8, 0.5], [0.4, 0.5]])) == -0.25
    assert np.isnan(average_performance_drop(np.array([[0.8, 0.5]])))
    assert np.isnan(average_performance_drop(np.array([[0.0], [0.5]])))


def test_the_effective_rank_of_equal_directions_is_their_number():
    corners = np.concatenate([np.eye(4), -np.eye(4)])
    assert effective_rank(corners) == pytest.approx(4)
    assert effective_rank(corners * 7 + 3) == pytest.approx(4)
    assert effective_rank(np.outer(np.arange(5.0), [1, 2, 3])) == pytest.approx(1)
    assert np.isnan(effective_rank(np.ones((5, 3)))) and np.isnan(effective_rank(np.ones((1, 3))))


def test_the_effective_rank_agrees_with_the_eigenvalues_of_the_covariance():
    embeddings = np.random.default_rng(0).normal(size=(50, 6)) * np.arange(1, 7)
    roots = np.sqrt(np.linalg.eigvalsh(np.cov(embeddings.T)))
    share = roots / roots.sum()
    assert effective_rank(embeddings) == pytest.approx(np.exp(-(share * np.log(share)).sum()))


def test_retrieval_finds_the_other_scan_of_a_slide():
    embeddings, _, scanner, slide = worlds(0.0)
    assert retrieval(embeddings, slide, scanner) > 0.95
    apart = worlds(50.0)[0]
    assert retrieval(apart, slide, scanner) < 0.1
    assert retrieval(apart, slide, scanner, num_neighbours=119) == 1.0
    assert np.isnan(retrieval(embeddings, np.arange(120), scanner))
    assert np.isnan(retrieval(embeddings, slide, np.zeros_like(scanner)))


def test_retrieval_by_hand_over_pairs_of_scanners():
    angle = np.radians([0, 5, 90, 95, 40, 50])
    embeddings = np.stack([np.cos(angle), np.sin(angle)], axis=1)
    slide, scanner = np.array([0, 0, 1, 1, 2, 2]), np.array([0, 1, 0, 1, 0, 2])
    # Scanners 0 and 1 share slides 0 and 1, scanners 0 and 2 slide 2, scanners 1 and 2 none.
    assert retrieval(embeddings, slide, scanner) == 1.0
    embeddings[1] = [np.cos(np.radians(89)), np.sin(np.radians(89))]
    # Scanner 0 to 1: the scan at 0 finds 89, its own slide, and that at 90 finds 89, another one;
    # scanner 1 to 0: the scan at 89 finds 90, another slide, and that at 95 finds 90, its own.
    assert retrieval(embeddings, slide, scanner) == pytest.approx(np.mean([0.5, 0.5, 1, 1]))


def test_chunks_change_nothing(monkeypatch):
    embeddings, biology, scanner, slide = worlds(1.0)
    whole = robustness_index(embeddings, biology, scanner, num_neighbours=5, own=slide)
    monkeypatch.setattr(representation, "_NUMBERS", 500)
    parts = robustness_index(embeddings, biology, scanner, num_neighbours=5, own=slide)
    assert parts == whole
