"""The base of all configuration models."""

from pydantic import BaseModel, ConfigDict


class Config(BaseModel):
    """Base of all configuration models: frozen, unknown keys refused."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)
