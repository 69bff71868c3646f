import itertools

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from training.data import site_folds, site_solver
from training.errors import DataError


def exhaustive(sizes: np.ndarray, num_folds: int) -> int:
    """Try every assignment of blocks to folds without an empty one; the lowest cost."""
    lowest = None
    for fold in itertools.product(range(num_folds), repeat=len(sizes)):
        if len(set(fold)) == num_folds:
            share = sizes.sum(0) / num_folds
            counts = np.array([sizes[np.array(fold) == each].sum(0) for each in range(num_folds)])
            deviation = float(((counts - share) ** 2).sum())
            lowest = deviation if lowest is None else min(lowest, deviation)
    assert lowest is not None
    # Howard's deviations from the shares, as the sum of squared counts that the solvers minimise.
    return round(lowest + float((sizes.sum(0) ** 2).sum()) / num_folds)


def cost(sizes: np.ndarray, fold: tuple[int, ...], num_folds: int) -> int:
    return site_solver.cost(sizes, np.array(fold), num_folds)


@st.composite
def cases(draw: st.DrawFn) -> tuple[np.ndarray, int]:
    num_folds = draw(st.integers(2, 3))
    num_blocks = draw(st.integers(num_folds, 6))
    num_classes, most = draw(st.integers(1, 3)), draw(st.sampled_from([3, 40, 500]))
    count = st.integers(0, most)
    rows = [[draw(count) for _ in range(num_classes)] for _ in range(num_blocks)]
    for row in rows:
        row[0] += not any(row)
    return np.array(rows, np.int64), num_folds


@settings(max_examples=25, deadline=None)
@given(case=cases())
def test_class_shares_are_as_equal_as_exhaustive_search_can_make_them(
    case: tuple[np.ndarray, int],
) -> None:
    sizes, num_folds = case
    found = site_folds.assign(tuple(map(tuple, sizes.tolist())), num_folds)
    assert set(found) == set(range(num_folds))
    assert cost(sizes, found, num_folds) == exhaustive(sizes, num_folds)


def test_the_solver_alone_finds_the_best_in_most_cases_and_never_worsens() -> None:
    best = []
    for seed in range(40):
        draw = np.random.default_rng(seed)
        num_folds = int(draw.integers(2, 4))
        shape = int(draw.integers(num_folds, 6)), int(draw.integers(1, 4))
        sizes = draw.integers(0, [4, 40][seed % 2], shape) + 1
        poor = draw.permutation(np.arange(len(sizes)) % num_folds)
        found = site_solver.improve(sizes, poor, num_folds)
        reached = site_solver.cost(sizes, found, num_folds)
        assert reached <= site_solver.cost(sizes, poor, num_folds)
        assert len(np.unique(found)) == num_folds
        best.append(reached == exhaustive(sizes, num_folds))
    assert np.mean(best) > 0.9


def test_many_sites_reach_the_bound_of_equal_shares() -> None:
    draw = np.random.default_rng(0)
    sizes = np.array([draw.multinomial(n, [0.6, 0.3, 0.1]) for n in draw.geometric(0.03, 200)])
    sizes = sizes[sizes.any(1)]
    found = site_folds.assign(tuple(map(tuple, sizes.tolist())), 5)
    counts = site_solver.per_fold(sizes, np.array(found), 5)
    assert (counts.max(0) - counts.min(0) <= 1).all()
    assert cost(sizes, found, 5) == site_solver.bound(sizes, 5)


def test_one_site_that_outweighs_the_others_lies_alone() -> None:
    sizes = ((1000, 900), (5, 4), (6, 6), (4, 5), (5, 5), (4, 6))
    found = site_folds.assign(sizes, 3)
    assert found[0] == 0 and found.count(0) == 1


def test_folds_are_numbered_by_their_first_site() -> None:
    found = site_folds.assign(((1, 2), (3, 1), (2, 2), (9, 1), (1, 9)), 3)
    assert list(dict.fromkeys(found)) == [0, 1, 2]
    # Another solution than this one retrains the work of every user of such folds.
    frozen = site_folds.assign(tuple((n % 7 + 1, n * n % 11) for n in range(30)), 4)
    assert "".join(map(str, frozen)) == "011023313200131322221321301000"


def scans(*pairs: tuple[str, str]) -> pd.DataFrame:
    return pd.DataFrame(list(pairs), columns=["patient", "site"])


def test_patients_of_two_sites_connect_them() -> None:
    table = scans(("p", "A"), ("p", "B"), ("q", "B"), ("r", "C"), ("s", "C"), ("t", "A"))
    numbers = dict(zip("pqrst", (0, 1, 0, 1, 1), strict=True))
    parts = site_folds.make(table, numbers, column="site", num_folds=2)
    assert parts == [["p", "q", "t"], ["r", "s"]]


def test_patients_who_are_not_divided_connect_nothing() -> None:
    table = scans(("p", "A"), ("q", "B"), ("x", "A"), ("x", "B"), ("y", ""))
    parts = site_folds.make(table, {"p": 0, "q": 1}, column="site", num_folds=2)
    assert parts == [["p"], ["q"]]


@pytest.mark.parametrize(
    ("table", "expected"),
    [
        (
            scans(("p", "A"), ("q", ""), ("r", ""), ("r", "B")),
            "2 patients have scans without a site: 'q', 'r'; expected a site for every scan",
        ),
        (
            scans(("p", "A"), ("q", "A"), ("r", "B")),
            "3 folds need as many sites that share no patient, found 2",
        ),
        (
            scans(("p", "A"), ("p", "C"), ("q", "A"), ("r", "B")),
            "found 2: 1 patients connect several of the 3 sites, as 'p' does 'A', 'C'",
        ),
    ],
)
def test_sites_that_cannot_be_divided_are_refused(table: pd.DataFrame, expected: str) -> None:
    with pytest.raises(DataError) as error:
        site_folds.make(table, {"p": 0, "q": 1, "r": 0}, column="site", num_folds=3)
    assert expected in error.value.message
    assert error.value.hint
