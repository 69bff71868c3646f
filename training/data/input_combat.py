"""ComBat: location and scale of groups, estimated with empirical Bayes over all features."""

import numpy as np
import numpy.typing as npt

from training.data.moments import Features, PerGroup

_ROUNDING = 1e-12
_TOLERANCE, _MOST_STEPS = 1e-10, 1000

Vector = npt.NDArray[np.float64]


def combat(
    mean: Features,
    which: npt.NDArray[np.int64],
    label: npt.NDArray[np.int64] | None,
    *,
    mean_only: bool,
) -> tuple[PerGroup, PerGroup]:
    r"""Fit ComBat on the tile means of scans; give the map of each group.

    The model for feature f of scan j in group i is
    $Y_{ijf} = \alpha_f + X_{ij} \beta_f + \gamma_{if} + \delta_{if} \varepsilon_{ijf}$. Least
    squares with $\sum_i n_i \hat\gamma_{if} = 0$ standardise it,
    $Z = (Y - \hat\alpha - X \hat\beta) / \hat\sigma$; over the features of a group
    $\gamma_{if} \sim N(\bar\gamma_i, \tau_i^2)$ and $\delta_{if}^2 \sim$ inverse gamma, their
    parameters found by moments; $\gamma^*, \delta^*$ are the posterior means.

    Johnson, Li and Rabinovic, Biostatistics 2007, section 3.1, equations for the parametric prior.
    The paper then gives $\hat\sigma (Z - \gamma^*) / \delta^* + \hat\alpha + X \hat\beta$, for
    which the class must be known. Departures:

    - The class is in the fit alone. The map is that of a scan of unknown class,
      $x' = \hat\alpha + (x - \hat\alpha - \hat\sigma \gamma^*) / \delta^*$, with the columns of X
      centred, so that $\hat\alpha$ is the mean over training scans. It differs from the paper by
      $X \hat\beta (1 / \delta^* - 1)$, which is zero with `mean_only`, and zero on average.
    - It is fitted on means of scans and moves every tile of a scan, so that it moves the mean
      alike.
    - With `mean_only`, $\gamma^*$ is that of $\delta = 1$ with the group's $n_i$; the authors' code
      sets $n_i = 1$ there.
    - A group of one scan has no variance: $\delta^* = 1$. A feature that is constant given class
      and group stays, and takes no part in the priors.

    Args:
        mean: tile mean of each scan, Y.
        which: group number of each scan.
        label: class number of each scan; None: no covariate.
        mean_only: leave the scale.

    Returns:
        Scale and shift, [group, feature].
    """
    inside = np.eye(which.max() + 1)[which]
    covariate = _covariate(label, len(mean))
    fitted = np.linalg.lstsq(np.hstack([inside, covariate]), mean, rcond=None)[0]
    num_groups = inside.shape[1]
    grand = inside.mean(0) @ fitted[:num_groups]
    explained = grand + covariate @ fitted[num_groups:]
    residual = mean - explained - inside @ (fitted[:num_groups] - grand)
    spread = np.sqrt(np.square(residual).mean(0))
    varies = spread > _ROUNDING * np.abs(mean).max(0)
    standard = (mean - explained)[:, varies] / spread[varies]
    scale, shift = np.ones((num_groups, len(grand))), np.zeros((num_groups, len(grand)))
    for group in range(num_groups):
        location, variance = _posterior(standard[which == group], mean_only=mean_only)
        inverse = 1 / np.sqrt(variance)
        scale[group, varies] = inverse
        shift[group, varies] = grand[varies] - inverse * (grand[varies] + spread[varies] * location)
    return scale, shift


def _covariate(label: npt.NDArray[np.int64] | None, num_scans: int) -> Features:
    """Code classes but the first as columns of mean zero."""
    if label is None:
        return np.zeros((num_scans, 0))
    columns = (label[:, None] == np.unique(label)[1:]).astype(np.float64)
    return np.asarray(columns - columns.mean(0))


def _posterior(standard: Features, *, mean_only: bool) -> tuple[Vector, Vector]:
    r"""Give $\gamma^*$ and $\delta^{*2}$ of a group from its standardised scans Z."""
    count, location = len(standard), standard.mean(0)
    one = np.ones_like(location)
    if len(location) < 2:  # nothing to borrow strength from
        alone = standard.var(0, ddof=1) if count > 1 and not mean_only else one
        return location, np.where(alone > _ROUNDING, alone, 1)
    centre, tau2 = location.mean(), location.var(ddof=1)
    variance = standard.var(0, ddof=1) if count > 1 else one
    if mean_only or count < 2 or variance.max() <= _ROUNDING:
        return (count * tau2 * location + centre) / (count * tau2 + 1), one
    middle, spread = variance.mean(), variance.var(ddof=1)
    if spread <= _ROUNDING * middle**2:  # all alike: the prior is a point
        delta2 = np.full_like(variance, middle)
        return (count * tau2 * location + delta2 * centre) / (count * tau2 + delta2), delta2
    shape, rate = 2 + middle**2 / spread, middle + middle**3 / spread
    gamma, delta2 = location, variance
    for _ in range(_MOST_STEPS):
        before = gamma, delta2
        gamma = (count * tau2 * location + delta2 * centre) / (count * tau2 + delta2)
        square = (count - 1) * variance + count * np.square(location - gamma)
        delta2 = (rate + square / 2) / (count / 2 + shape - 1)
        moved = max(np.abs(gamma - before[0]).max(), np.abs(before[1] / delta2 - 1).max())
        if moved <= _TOLERANCE:
            break
    return gamma, delta2
