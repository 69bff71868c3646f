"""What is known about a lane while it trains: its curves, its chosen epoch, whether it goes on."""

import math
from dataclasses import dataclass, field
from typing import Literal

import numpy as np
import numpy.typing as npt

from training.config import Stopping

ROUNDING = 1e-12
"""A value this much beyond the margin is within it: a difference of floats is not exact."""


@dataclass(slots=True, kw_only=True)
class Progress:
    """The record of a lane; plain values, so that it fits into a checkpoint.

    Attributes:
        state: training, stopped (early stopping), retired (by a search) or failed.
        failure: why it failed.
        epoch: the epoch chosen so far, from 1; 0 before the first.
        epochs_trained: epochs behind it.
        validation: validation value of the chosen epoch; NaN without validation.
        best_value: best validation value so far, NaN where it never was defined.
        best_loss: validation loss of that epoch.
        waited: epochs since then.
        curves: per quantity, one value per epoch.
    """

    state: Literal["training", "stopped", "retired", "failed"] = "training"
    failure: str = ""
    epoch: int = 0
    epochs_trained: int = 0
    validation: float = math.nan
    best_value: float = math.nan
    best_loss: float = math.inf
    waited: int = 0
    curves: dict[str, list[float]] = field(default_factory=dict)

    def record(self, values: dict[str, float]) -> None:
        """Append the values of an epoch."""
        self.epochs_trained += 1
        for name, value in values.items():
            self.curves.setdefault(name, []).append(value)

    def fail(self, reason: str) -> None:
        """End the lane."""
        self.state, self.failure = "failed", reason

    def judge(self, value: float, loss: float, stopping: Stopping) -> bool:
        """Decide which epoch is chosen, after its values are recorded, and if the lane goes on.

        `best`: of equal values the lower validation loss wins, then the earlier epoch. Where the
        AUROC or the concordance is not defined (one class on every scanner), the loss alone
        decides; an inconsistency that is not defined is the worst. `within_margin`: see
        `contenders`. Patience counts the epochs since the best value under every rule, so that the
        rules choose among the same epochs.

        Args:
            value: validation value, of the metric of the rules; NaN without validation.
            loss: validation loss; NaN without validation.
            stopping: the rules.

        Returns:
            Whether the weights of this epoch are to be kept: it is the chosen one, or can be yet.
        """
        improved = self._improves(value, loss, stopping)
        if improved:
            self.best_value, self.best_loss, self.waited = value, loss, 0
        else:
            self.waited += 1
        if stopping.patience is not None and self.waited >= stopping.patience:
            self.state = "stopped"
        if stopping.epoch == "within_margin":
            able = self.contenders(stopping)
            self.epoch = able[0]
            self.validation = self.curves[f"validation_{stopping.metric}"][self.epoch - 1]
            return self.epochs_trained in able
        if not improved and stopping.epoch == "best":
            return False
        self.epoch, self.validation = self.epochs_trained, value
        return True

    def contenders(self, stopping: Stopping) -> list[int]:
        """List the epochs that `within_margin` may choose, now or later, the chosen one first.

        Where the value is not defined there is no margin to keep within: the loss alone decides.
        """
        if f"validation_{stopping.metric}" not in self.curves:
            return []
        values = np.array(self.curves[f"validation_{stopping.metric}"])
        inconsistency = np.array(self.curves["validation_inconsistency"])
        if stopping.metric == "loss":
            values = -values
        if np.isnan(values).any():
            return [1 + int(np.argmin(self.curves["validation_loss"]))]
        return contenders(values, inconsistency, margin=stopping.margin)

    def _improves(self, value: float, loss: float, stopping: Stopping) -> bool:
        if stopping.metric == "inconsistency":
            now, best = (math.inf if math.isnan(x) else x for x in (value, self.best_value))
            return now < best or (now == best and loss < self.best_loss)
        if stopping.metric == "loss" or math.isnan(value):
            return loss < self.best_loss
        if math.isnan(self.best_value) or value > self.best_value:
            return True
        return value == self.best_value and loss < self.best_loss


def contenders(
    values: npt.NDArray[np.float64], inconsistency: npt.NDArray[np.float64], *, margin: float
) -> list[int]:
    """List the epochs, from 1, that can be the least inconsistent within the margin of the best.

    An epoch can be if its value is within the margin of the best so far and no other is both as
    good and as consistent: the best value only rises, so whatever admits an epoch later admits the
    other, too. The first of the list is the choice among all epochs so far; of equally inconsistent
    ones the better value wins, then the earlier epoch. The others follow by inconsistency, and so
    by value.

    Args:
        values: of each epoch; higher is better.
        inconsistency: of each epoch; NaN, which scores without spread give, is the worst.
        margin: what the value may lose.
    """
    spread = np.where(np.isnan(inconsistency), np.inf, inconsistency)
    within = np.flatnonzero(values.max() - values <= margin + ROUNDING)
    found: list[int] = []
    best = -math.inf
    for place in within[np.lexsort((within, -values[within], spread[within]))]:
        if values[place] > best:
            found.append(int(place) + 1)
            best = values[place]
    return found
