r"""Whole sites to folds, with class shares as equal as they can be.

Howard et al., "The impact of site-specific digital histology signatures on deep learning model
accuracy and bias", Nature Communications 12:4423, 2021: with $n_{kc}$ patients of class c in fold
k, minimise $\sum_{kc} (n_{kc} - N_c / K)^2$, each site in one fold. As $\sum_k n_{kc} = N_c$ is
fixed, that is to minimise the whole number $\sum_{kc} n_{kc}^2$.

Departures. Patients in several sites connect these to one block, which stays whole (the paper has
one site a patient). No fold is empty. The paper's solver is CPLEX; here a local search in whole
numbers comes first, and what it finds is kept if it reaches the bound of equal shares or if HiGHS
(`scipy.optimize.milp`), asked where blocks × folds are at most `site_solver.VARIABLES`, finds
nothing better: so the answer almost never depends on floating-point arithmetic, and is then the
same on every machine. Effort is bounded in steps and nodes, never in time; beyond the bounds a
solution may be short of the optimum, but it is the same each time. (Measured: in 400 random cases
with up to seven blocks the local search alone was optimal. HiGHS never found better in larger
ones, where it proves little in minutes.) Ties are broken by the order of the blocks, which is that
of their first sites' names; folds are numbered in the order of their first blocks.
"""

from collections.abc import Mapping
from functools import lru_cache

import numpy as np
import pandas as pd

from training.data import site_solver, tables
from training.errors import DataError


def make(
    scans: pd.DataFrame, numbers: Mapping[str, int], *, column: str, num_folds: int
) -> list[list[str]]:
    """Divide patients into folds that share no site.

    Args:
        scans: rows of the index; several encoders may describe a scan.
        numbers: class number of each patient to divide, in order of patients.
        column: of the index, that holds the sites.
        num_folds: how many.

    Raises:
        DataError: A scan has no site, or there are fewer blocks of sites than folds.
    """
    pairs = scans[["patient", column]].drop_duplicates()
    pairs = pairs[pairs["patient"].isin(numbers.keys())].sort_values(["patient", column])
    unknown = sorted(set(pairs.loc[pairs[column] == "", "patient"]))
    if unknown:
        shown = tables.joined(unknown[:5]) + (", …" if len(unknown) > 5 else "")
        raise DataError(
            f"folds: {len(unknown)} patients have scans without a {column}: {shown}; "
            f"expected a {column} for every scan",
            hint=f"fill the column {column!r} of the slide table and import it again",
        )
    block = _blocks(pairs, column)
    num_blocks = len(set(block.values()))
    if num_blocks < num_folds:
        raise DataError(
            f"folds: {num_folds} folds need as many {column}s that share no patient, found "
            f"{num_blocks}{_connected(pairs, column)}",
            hint="use fewer folds",
        )
    counts = np.zeros((num_blocks, max(numbers.values()) + 1), np.int64)
    np.add.at(counts, ([block[patient] for patient in numbers], list(numbers.values())), 1)
    fold = assign(tuple(map(tuple, counts.tolist())), num_folds)
    parts: list[list[str]] = [[] for _ in range(num_folds)]
    for patient in numbers:
        parts[fold[block[patient]]].append(patient)
    return parts


@lru_cache(maxsize=64)
def assign(counts: tuple[tuple[int, ...], ...], num_folds: int) -> tuple[int, ...]:
    """Give the fold of each block.

    Args:
        counts: patients of each class, for each block; more blocks than folds, or as many.
        num_folds: how many folds.
    """
    sizes = np.array(counts, np.int64)
    sizes = sizes[:, sizes.any(0)]
    found = site_solver.search(sizes, num_folds)
    if site_solver.cost(sizes, found, num_folds) > site_solver.bound(sizes, num_folds):
        found = site_solver.improve(sizes, found, num_folds)
    order = {int(fold): number for number, fold in enumerate(dict.fromkeys(found.tolist()))}
    return tuple(order[int(fold)] for fold in found)


def _blocks(pairs: pd.DataFrame, column: str) -> dict[str, int]:
    """Number the blocks of sites that patients connect; give each patient's."""
    from scipy.sparse import coo_array
    from scipy.sparse.csgraph import connected_components

    patients, owner = np.unique(pairs["patient"].to_numpy(object).astype(str), return_inverse=True)
    sites, site = np.unique(pairs[column].to_numpy(object).astype(str), return_inverse=True)
    size = len(sites) + len(patients)
    links = coo_array((np.ones(len(pairs)), (site, owner + len(sites))), shape=(size, size))
    _, component = connected_components(links, directed=False)
    # Sites come first and in order, so blocks are numbered by their first site.
    number = {int(one): place for place, one in enumerate(dict.fromkeys(component[: len(sites)]))}
    return {
        str(patient): number[int(one)]
        for patient, one in zip(patients, component[len(sites) :], strict=True)
    }


def _connected(pairs: pd.DataFrame, column: str) -> str:
    """Say that patients connect sites, where they do."""
    several = tables.ambiguous(pairs, "patient", column)
    if not several:
        return ""
    patient, sites = next(iter(several.items()))
    return (
        f": {len(several)} patients connect several of the {pairs[column].nunique()} {column}s, "
        f"as {patient!r} does {tables.joined(sites)}"
    )
