"""How slides become embeddings, as configuration: the keys of `sweep embed --config`."""

from typing import Literal

from pydantic import Field, model_validator

from training.config_base import Config
from training.extraction.config import Tiling, Tissue
from training.extraction.config_registration import RegistrationConfig
from training.extraction.config_views import AugmentedView, Place


class EncoderChoice(Config):
    """What differs from the table of encoders."""

    checkpoint: Place | None = Field(None, description="a local file of weights; null: the hub's")
    revision: str = Field("", description="commit of the hub's repository; empty: its newest")
    precision: Literal["float32", "float16", "bfloat16"] | None = Field(
        None, description="arithmetic; null: the encoder's own on a GPU, float32 on a CPU"
    )
    licence: str = Field("", description="terms, where the table does not know them or is wrong")


class EmbedConfig(Config):
    """How slides become embeddings."""

    tiling: Tiling = Field(
        Tiling(),
        description="tiles; without tile_px and mpp, each encoder has those that it was made for",
    )
    tissue: Tissue = Field(Tissue(), description="what counts as tissue")
    registration: RegistrationConfig | None = Field(
        RegistrationConfig(),
        description="how the scans of a slide are registered; null: their tiles are not paired",
    )
    views: tuple[AugmentedView, ...] = Field((), description="augmented views of every scan")
    seed: int = Field(0, description="seed of what augmented views draw")
    encoders: dict[str, EncoderChoice] = Field({}, description="by name")
    batch_size: int = Field(64, ge=1, le=4096, description="tiles that an encoder gets at once")
    max_broken: float = Field(
        0.01, ge=0, le=1, description="a scan with more broken tiles than this share is refused"
    )

    @model_validator(mode="after")
    def _distinct(self) -> "EmbedConfig":
        names = [view.name for view in self.views]
        if twice := sorted({name for name in names if names.count(name) > 1}):
            raise ValueError(f"views: {', '.join(twice)}: more than once")
        return self
