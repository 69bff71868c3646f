"""A linear probe with calibrated probabilities, fitted for many permutations of a target at once.

Ridge regression on indicators of the classes gives linear scores from one decomposition for all
permutations; it sees every direction, since in paired scans the scanner hides in directions of
little variance. Multinomial logistic regression on these scores, each predicted without its own
patient, turns them into calibrated logits (stacking, Wolpert 1992).
"""

import numpy as np
from jaxtyping import Float, Int
from numpy import ndarray

_RIDGES = (1e-4, 1e-2, 1.0, 100.0)
"""Ridge penalties, relative to the mean eigenvalue; the best left-out error decides."""

_STEPS = 200
"""Steps of the logistic regression at most."""

_PENALTY = 1.0
"""On its squared coefficients, for scores of unit variance."""

Design = Float[ndarray, "case feature"]
Drawn = Float[ndarray, "draw case class"]


def read(
    train: Design,
    targets: Int[ndarray, "draw case"],
    patient: Int[ndarray, " case"],
    test: Float[ndarray, "other feature"],
    *,
    num_classes: int,
) -> Float[ndarray, "draw other class"]:
    """Fit on training cases, for each draw of the target, and give logits of the test cases.

    Args:
        train: embeddings.
        targets: class numbers.
        patient: of each training case; a case's score for the calibration comes from a regression
            without its patient.
        test: embeddings to be read.
        num_classes: classes of the target.
    """
    wanted = (targets[..., None] == np.arange(num_classes)).astype(np.float64)
    left_out, read_off = _ridge(train, wanted, patient, test)
    centre, scale = left_out.mean(1, keepdims=True), left_out.std(1, keepdims=True)
    scale = np.where(scale > 1e-12, scale, 1.0)
    weights = fit_logistic(_with_one((left_out - centre) / scale), wanted, penalty=_PENALTY)
    logits: Float[ndarray, "draw other class"] = _with_one((read_off - centre) / scale) @ weights
    return logits


def fit_logistic(
    design: Float[ndarray, "draw case weight"], wanted: Drawn, *, penalty: float
) -> Float[ndarray, "draw weight class"]:
    """Fit a multinomial logistic regression for every draw; the last weight is the intercept.

    Maximises log-likelihood - penalty / 2 × sum of squared coefficients without intercepts, by
    steps with a bound of the Hessian (Böhning, 1992) and Nesterov's momentum.
    """
    width = design.shape[2]
    ridge = np.diag([*np.full(width - 1, penalty), 1e-6])
    turned = design.transpose(0, 2, 1)
    bound = np.linalg.inv(turned @ design / 2 + ridge)
    weights = np.zeros((len(design), width, wanted.shape[2]))
    active = np.arange(len(design))
    now = ahead = weights[active]
    for step in range(_STEPS):
        logits = design[active] @ ahead
        logits -= logits.max(axis=2, keepdims=True)
        chance = np.exp(logits)
        chance /= chance.sum(axis=2, keepdims=True)
        gradient = turned[active] @ (wanted[active] - chance) - ridge @ ahead
        moved = ahead + bound[active] @ gradient
        change = moved - now
        weights[active] = moved
        going = np.abs(change).max((1, 2)) > 1e-5
        if not going.any():
            break
        now, active = moved[going], active[going]
        ahead = now + step / (step + 3) * change[going]
    return weights


def _ridge(
    train: Design,
    wanted: Drawn,
    patient: Int[ndarray, " case"],
    test: Float[ndarray, "other feature"],
) -> tuple[Drawn, Float[ndarray, "draw other class"]]:
    """Predict indicators: of training cases without their patient, and of test cases."""
    draws, number, classes = wanted.shape
    flat = wanted.transpose(1, 0, 2).reshape(number, -1)
    centre = train.astype(np.float64).mean(0)
    centred, other = train - centre, test - centre
    values, vectors = np.linalg.eigh(centred @ centred.T)
    values = np.maximum(values, 0)
    mean = flat.mean(0)
    turned = vectors.T @ (flat - mean)
    crossed = other @ centred.T @ vectors
    members = [np.flatnonzero(patient == each) for each in np.unique(patient)]
    best = np.full(draws, np.inf)
    left_out, read_off = np.empty(flat.shape), np.empty((len(other), flat.shape[1]))
    for ridge in _RIDGES:
        penalty = ridge * max(float(values.mean()), 1e-300)
        hat = (vectors * (values / (values + penalty))) @ vectors.T + 1 / number
        residual = flat - mean - vectors @ ((values / (values + penalty))[:, None] * turned)
        for rows in members:
            inside = np.eye(len(rows)) - hat[np.ix_(rows, rows)]
            residual[rows] = np.linalg.solve(inside, residual[rows])
        error = np.square(residual).reshape(number, draws, classes).sum((0, 2))
        chosen = np.repeat(error < best, classes)
        best = np.minimum(best, error)
        left_out[:, chosen] = (flat - residual)[:, chosen]
        read_off[:, chosen] = mean[chosen] + (crossed / (values + penalty)) @ turned[:, chosen]
    shape = (draws, classes)
    return (
        left_out.reshape(-1, *shape).transpose(1, 0, 2),
        read_off.reshape(-1, *shape).transpose(1, 0, 2),
    )


def _with_one(scores: Float[ndarray, "draw case class"]) -> Float[ndarray, "draw case weight"]:
    return np.concatenate([scores, np.ones((*scores.shape[:2], 1))], axis=2)
