"""The rule by which one setting of an arm is chosen, as the key `select` of a spec."""

from typing import Literal

from pydantic import Field, model_validator

from training.config_base import Config


class Select(Config):
    """How `sweep aggregate` chooses one setting per encoder, arm and fold; no part of a trial."""

    rule: Literal["accuracy", "robustness", "robust_within_margin"] = Field(
        description="on validation patients: the best AUROC (concordance of a survival task), the "
        "least inconsistency, or the least inconsistency among settings within `margin` of the best"
    )
    margin: float = Field(
        0.01, ge=0, description="what the value may lose with robust_within_margin"
    )

    @model_validator(mode="after")
    def _reads_its_margin(self) -> "Select":
        if "margin" in self.model_fields_set and self.rule != "robust_within_margin":
            raise ValueError(f"rule {self.rule} has no margin; robust_within_margin has")
        return self

    def __str__(self) -> str:
        """Write the rule as people read it."""
        return self.rule + (f" ({self.margin:g})" if self.rule == "robust_within_margin" else "")
