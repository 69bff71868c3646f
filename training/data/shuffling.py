"""The control of shuffled labels: what is told of patients, permuted over those who train."""

from collections.abc import Mapping, Sequence
from typing import TypeVar

from training import seeds
from training.config import TrialConfig

T = TypeVar("T")


def shuffled(told: Mapping[str, T], patients: Sequence[str], config: TrialConfig) -> dict[str, T]:
    """Permute what is told of these patients, alike in all trials of a fold."""
    ordered = sorted(patients)
    generator = seeds.generator(config.draw_seed, config.fold, "shuffle labels")
    order = generator.permutation(len(ordered))
    return {ordered[i]: told[ordered[j]] for i, j in enumerate(order)}
