"""What is known about a lane while it trains: its curves, its chosen epoch, whether it goes on."""

import math
from dataclasses import dataclass, field
from typing import Literal

from training.config import Stopping


@dataclass(slots=True, kw_only=True)
class Progress:
    """The record of a lane; plain values, so that it fits into a checkpoint.

    Attributes:
        state: training, stopped (early stopping) or failed.
        failure: why it failed.
        epoch: the epoch chosen so far, from 1; 0 before the first.
        epochs_trained: epochs behind it.
        validation: validation value of the chosen epoch; NaN without validation.
        best_value: best validation value so far.
        best_loss: validation loss of that epoch.
        waited: epochs since then.
        curves: per quantity, one value per epoch.
    """

    state: Literal["training", "stopped", "failed"] = "training"
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
        """Decide whether this epoch is the one to keep, and whether the lane goes on.

        Of equal values the lower validation loss wins, then the earlier epoch. Where the AUROC is
        not defined (one class on every scanner), or the concordance, the loss alone decides.

        Args:
            value: validation value, a loss, an AUROC or a concordance; NaN without validation.
            loss: validation loss; NaN without validation.
            stopping: the rules.

        Returns:
            Whether the weights of this epoch are to be kept.
        """
        improved = self._improves(value, loss, stopping)
        if improved:
            self.best_value, self.best_loss, self.waited = value, loss, 0
        else:
            self.waited += 1
        if stopping.patience is not None and self.waited >= stopping.patience:
            self.state = "stopped"
        if not improved and stopping.epoch == "best":
            return False
        self.epoch, self.validation = self.epochs_trained, value
        return True

    def _improves(self, value: float, loss: float, stopping: Stopping) -> bool:
        if stopping.metric == "loss" or math.isnan(value):
            return loss < self.best_loss
        if math.isnan(self.best_value) or value > self.best_value:
            return True
        return value == self.best_value and loss < self.best_loss
