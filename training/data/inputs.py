r"""Fits what is done to embeddings before the model sees them, on the scans that training may draw.

Those are the routine scans of training patients on seen scanners and, where views is all, their
paired scans; a view that is not a scan counts in no mean. **A scan counts once**, whatever its
number of tiles: a mean is the mean over scans of their tile means, a variance the mean over scans
of the tiles' mean square about it. Labels play no part but in ComBat's fit (of a survival task:
whether the event was seen). With `centre`, `standardise` and `combat` each group has a map of its
own; a scan whose group was not in training (an unseen scanner, another site, an empty name) stays
as it is, since its location and scale are not known. `leace` and `paired_erasure` move all scans
alike.

**Confounding.** Where the class and the group go together, `centre`, `standardise` and `leace` take
away what the class explains too. `combat` with the class as covariate keeps it, `paired_erasure`
compares scans of one slide.
"""

import numpy as np
import numpy.typing as npt

from training.config import TrialConfig
from training.config_inputs import Centre, ComBat, Leace, NoInputMethod, PairedErasure, Standardise
from training.data import groups, moments
from training.data.bags import BagReader, Row
from training.data.input_combat import combat
from training.data.input_erasure import leace, paired_erasure
from training.data.input_map import InputMap, group_map
from training.data.moments import Features, Moments, PerGroup
from training.data.sampling import Pool
from training.data.scans import Scans
from training.errors import DataError

_CONSTANT = 1e-6
"""A group's SD below this share of the pooled one is none: it is not blown up."""

_ROUNDING = 1e-12
"""An SD below this share of the mean is rounding."""


def fit(config: TrialConfig, reader: BagReader, scans: Scans, pool: Pool) -> InputMap | None:
    """Fit the input method of a trial, in float64 on the CPU; None where there is none.

    Args:
        config: of the trial.
        reader: of the bags.
        scans: of the fold.
        pool: what training draws.

    Raises:
        DataError: There is too little to compare, or a bag cannot be read.
    """
    method = config.input
    if isinstance(method, NoInputMethod):
        return None
    rows = np.unique(np.concatenate([pool.routine, *(pairs.ravel() for pairs in pool.pairs)]))
    rows = rows[(scans.table["source_scan"] == "").to_numpy()[rows]]
    table = scans.table.iloc[rows]
    label = dict(zip(table["patient"], scans.label[rows].tolist(), strict=True))
    problems = list(groups.input_problems(table, config, label))
    if problems:
        raise DataError("\n".join(problems))
    entries: list[Row] = list(scans.table.itertuples(index=False))
    if isinstance(method, PairedErasure):
        mean = moments.of_scans(reader, [entries[row] for row in rows]).mean.mean(0)
        pairs = [(entries[one], entries[other]) for each in pool.pairs for one, other in each]
        return paired_erasure(moments.of_differences(reader, pairs), mean, method.rank)
    names = tuple(sorted(set(table[method.group]) - {""}))
    member = groups.numbers(scans.table[method.group], names)
    rows = rows[member[rows] >= 0]
    mine, which = [entries[row] for row in rows], member[rows]
    found = moments.of_scans(reader, mine)
    match method:
        case Leace():
            return leace(moments.within(reader, mine, found.mean), found.mean, which)
        case Centre() | Standardise():
            scale, shift = _aligned(found, which, method)
        case ComBat():
            covariate = scans.label[rows] if method.covariate == "label" else None
            scale, shift = combat(found.mean, which, covariate, mean_only=method.mean_only)
    return group_map(names, member, scale, shift)


def _aligned(
    found: Moments, which: npt.NDArray[np.int64], method: Centre | Standardise
) -> tuple[PerGroup, PerGroup]:
    r"""Give groups the mean of all and, to standardise, the pooled SD.

    With shrinkage $\lambda$, mean $\mu_g$ of group g and mean $\mu$ over all scans:
    $x' = s_g (x - \mu_g) + \mu + \lambda (\mu_g - \mu)$. To centre, $s_g = 1$; to standardise,
    $s_g = (\sigma / \sigma_g)^{1 - \lambda}$ with $\sigma_g^2$ the mean square about $\mu_g$ of the
    group's tiles and $\sigma^2$ its mean over all scans, so that differences between the groups'
    means do not count as spread. A feature that is constant in a group is moved, not scaled.

    Returns:
        Scale and shift, [group, feature].
    """
    mean = found.mean
    centre = _per_group(mean, which)
    overall = mean.mean(0)
    scale = np.ones_like(centre)
    if isinstance(method, Standardise):
        square = found.variance + np.square(mean - centre[which])
        spread, pooled = np.sqrt(_per_group(square, which)), np.sqrt(square.mean(0))
        varies = spread > _CONSTANT * pooled + _ROUNDING * np.abs(centre)
        ratio = np.divide(pooled, spread, out=scale.copy(), where=varies)
        scale = ratio ** (1 - method.shrinkage)
    return scale, overall + method.shrinkage * (centre - overall) - scale * centre


def _per_group(values: Features, which: npt.NDArray[np.int64]) -> PerGroup:
    """Average the scans of each group."""
    return np.stack([values[which == group].mean(0) for group in range(which.max() + 1)])
