"""Two solvers for `site_folds`: a local search in whole numbers, and HiGHS.

Both minimise the sum of the squared class counts of the folds; no fold is empty. `sizes` are
patients, [block, class]; a solution is the fold of each block.
"""

import itertools

import numpy as np
import numpy.typing as npt

Whole = npt.NDArray[np.int64]

KICKS = 200
"""Restarts of the local search from a disturbed solution, at most."""
WORK = 2 * 10**8
"""Exchanges that the local search looks at, at most."""
NEAR = 32
"""Whole numbers around a class count, and around its share, where the first model is exact."""
NODES = 100
"""Nodes of each tree that HiGHS searches, at most."""
TREES = 2
"""Trees, at most: after each, cuts are added where the model was too low."""
VARIABLES = 100
"""Blocks × folds above which HiGHS is not asked."""


def per_fold(sizes: Whole, fold: Whole, num_folds: int) -> Whole:
    """Count the patients of each class in each fold, [fold, class]."""
    counts = np.zeros((num_folds, sizes.shape[1]), np.int64)
    np.add.at(counts, fold, sizes)
    return counts


def cost(sizes: Whole, fold: Whole, num_folds: int) -> int:
    """Sum the squared class counts of the folds."""
    return int((per_fold(sizes, fold, num_folds) ** 2).sum())


def bound(sizes: Whole, num_folds: int) -> int:
    """Give the cost of equal shares, which no solution can be below."""
    share, more = np.divmod(sizes.sum(0), num_folds)
    return int((more * (share + 1) ** 2 + (num_folds - more) * share**2).sum())


def search(sizes: Whole, num_folds: int) -> Whole:
    """Search from the greedy solution: the best move or exchange, until none helps; then kicks."""
    lowest, steps = bound(sizes, num_folds), max(WORK // len(sizes) ** 2, 100)
    generator = np.random.default_rng(0)
    best, steps = _descend(sizes, _greedy(sizes, num_folds), num_folds, steps)
    value = cost(sizes, best, num_folds)
    for _ in range(KICKS):
        if value == lowest or steps <= 0:
            break
        start = best.copy()
        chosen = generator.permutation(len(sizes))[: generator.integers(2, 6)]
        start[chosen] = generator.integers(0, num_folds, len(chosen))
        if len(np.unique(start)) == num_folds:
            found, steps = _descend(sizes, start, num_folds, steps)
            reached = cost(sizes, found, num_folds)
            if reached < value:
                best, value = found, reached
    return best


def improve(sizes: Whole, fold: Whole, num_folds: int) -> Whole:
    """Ask HiGHS for a better solution; give the old one where there is none, or it finds none.

    A tree bounds the square of a fold's class count from below by the lines through neighbouring
    whole numbers, which are exact there; lines that a solution needs are added after it.
    """
    if len(sizes) * num_folds > VARIABLES:
        return fold
    best, value = fold, cost(sizes, fold, num_folds)
    share = sizes.sum(0) // num_folds
    away = per_fold(sizes, best, num_folds) - share
    near = range(-NEAR, NEAR)
    lines = {each for d in near for each in (*_lines(away, d), *_lines(0 * away, d))}
    for _ in range(TREES):
        # Of the squares of what a fold has above the share: the same minimum, smaller numbers.
        most = value - int(num_folds * (share**2).sum()) - 2 * int((share * away.sum(0)).sum())
        found = _tree(sizes, num_folds, share, lines, most=most - 1)
        if found is None:
            break
        away = per_fold(sizes, found, num_folds) - share
        new = {each for d in (-1, 0) for each in _lines(away, d)} - lines
        reached = cost(sizes, found, num_folds)
        if reached < value:
            best, value = found, reached
        elif not new:
            break
        lines |= new
    return best


def _lines(away: Whole, step: int) -> set[tuple[int, int, int]]:
    """Name the lines through (m, m²) and (m + 1, (m + 1)²), m being `step` from each count."""
    places = itertools.product(range(away.shape[0]), range(away.shape[1]))
    return {(fold, label, int(away[fold, label]) + step) for fold, label in places}


def _tree(
    sizes: Whole, num_folds: int, share: Whole, lines: set[tuple[int, int, int]], *, most: int
) -> Whole | None:
    """Search a tree for a solution whose model is at most `most`; the best that was found."""
    from scipy.optimize import Bounds, LinearConstraint, milp

    num_blocks, num_classes = sizes.shape
    binary, each = num_blocks * num_folds, num_folds * num_classes
    size = binary + each  # whether a block is in a fold; at least the squares above the share
    once = np.hstack(
        [np.kron(np.eye(num_blocks), np.ones(num_folds)), np.zeros((num_blocks, each))]
    )
    filled = np.hstack([np.tile(np.eye(num_folds), num_blocks), np.zeros((num_folds, each))])
    rows, least = [*once, *filled], [1.0] * (num_blocks + num_folds)
    most_of = [1.0] * num_blocks + [float(num_blocks)] * num_folds
    for fold, label, m in sorted(lines):
        row = np.zeros(size)
        row[fold:binary:num_folds] = -(2.0 * m + 1) * sizes[:, label]
        row[binary + fold * num_classes + label] = 1
        rows.append(row)
        least.append(-m * (m + 1.0) - (2 * m + 1.0) * share[label])
        most_of.append(np.inf)
    squares = np.repeat([0.0, 1.0], [binary, each])
    # Folds are alike: block b may only be in the first b + 1.
    first = [fold <= block for block in range(num_blocks) for fold in range(num_folds)]
    result = milp(
        squares,
        integrality=1 - squares,
        bounds=Bounds(0, np.concatenate([first, np.full(each, np.inf)])),
        constraints=LinearConstraint(
            np.array([*rows, squares]), [*least, -np.inf], [*most_of, most + 0.5]
        ),
        options={"node_limit": NODES, "mip_rel_gap": 0.0},
    )
    if result.x is None:
        return None
    chosen = np.round(result.x[:binary]).reshape(num_blocks, num_folds)
    return np.asarray(chosen.argmax(1), np.int64)


def _greedy(sizes: Whole, num_folds: int) -> Whole:
    """Put the largest blocks first, each where it costs least; the last ones into empty folds."""
    fold = np.full(len(sizes), -1, np.int64)
    counts = np.zeros((num_folds, sizes.shape[1]), np.int64)
    order = np.argsort(-sizes.sum(1), kind="stable").tolist()
    for left, block in zip(range(len(sizes), 0, -1), order, strict=True):
        costs = counts @ sizes[block]
        empty = np.setdiff1d(np.arange(num_folds), fold)
        if len(empty) >= left:
            costs[np.setdiff1d(np.arange(num_folds), empty)] = np.iinfo(np.int64).max
        fold[block] = int(costs.argmin())
        counts[fold[block]] += sizes[block]
    return fold


def _descend(sizes: Whole, fold: Whole, num_folds: int, steps: int) -> tuple[Whole, int]:
    """Make the move or the exchange that lowers the cost most, until none does; steps left."""
    fold = fold.copy()
    square = (sizes**2).sum(1)
    apart = square[:, None] + square[None, :] - 2 * sizes @ sizes.T
    everyone = np.arange(len(sizes))
    while steps > 0:
        steps -= 1
        load = sizes @ per_fold(sizes, fold, num_folds).T  # [block, fold]
        own = load[everyone, fold]
        move = load - own[:, None] + square[:, None]
        alone = np.bincount(fold, minlength=num_folds)[fold] == 1
        move[alone] = 0
        move[everyone, fold] = 0
        there = load[:, fold]
        swap = there + there.T - own[:, None] - own[None, :] + apart
        swap[fold[:, None] == fold[None, :]] = 0
        gain = min(int(move.min()), int(swap.min()))
        if gain >= 0:
            break
        if move.min() == gain:
            block, place = np.unravel_index(int(move.argmin()), move.shape)
            fold[block] = place
        else:
            one, other = np.unravel_index(int(swap.argmin()), swap.shape)
            fold[one], fold[other] = fold[other], fold[one]
    return fold, steps
