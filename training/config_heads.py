"""The MIL heads as configuration, part of `training.config`."""

from typing import Annotated, Literal

from pydantic import Field, model_validator

from training.config_base import Config


class _Head(Config):
    embed_dims: tuple[Annotated[int, Field(ge=1, le=8192)], ...] = Field(
        (256,),
        min_length=1,
        description="widths of the tile embedding; each is linear, batch norm, leaky ReLU, dropout",
    )
    norm: Literal["batch", "none"] = Field(
        "batch",
        description="batch: masked batch norm after each linear layer; none: a bias instead",
    )
    dropout: float = Field(0.25, ge=0, lt=1, description="share of tile-embedding units dropped")


class MeanHead(_Head):
    """Mean pooling of the tile embeddings."""

    kind: Literal["mean"] = Field(description="mean pooling")


class MaxHead(_Head):
    """Maximum over the tile embeddings, per unit."""

    kind: Literal["max"] = Field(description="max pooling")


class AttentionHead(_Head):
    """Attention pooling, Ilse, Tomczak and Welling (ICML 2018), equations 7 and 8."""

    kind: Literal["attention"] = Field(description="attention MIL")
    attention_dim: int = Field(128, ge=1, le=8192, description="width of the attention network")


class GatedAttentionHead(_Head):
    """Gated attention pooling, Ilse, Tomczak and Welling (ICML 2018), equation 9."""

    kind: Literal["gated_attention"] = Field(description="gated attention MIL")
    attention_dim: int = Field(128, ge=1, le=8192, description="width of the attention network")


class ClamSBHead(_Head):
    """CLAM with one attention branch, Lu et al. (2021)."""

    kind: Literal["clam_sb"] = Field(
        description="CLAM-SB; without the loss clam_clustering the same as gated_attention"
    )
    attention_dim: int = Field(128, ge=1, le=8192, description="width of the attention network")


class ClamMBHead(_Head):
    """CLAM with an attention branch per class, Lu et al. (2021)."""

    kind: Literal["clam_mb"] = Field(description="CLAM-MB, an attention branch per class")
    attention_dim: int = Field(128, ge=1, le=8192, description="width of the attention network")


class DSMILHead(_Head):
    """Dual-stream MIL, Li, Li and Eliceiri (CVPR 2021)."""

    kind: Literal["dsmil"] = Field(description="dual-stream MIL")
    query_dim: int = Field(128, ge=1, le=8192, description="width of the queries")


class TransMILHead(_Head):
    """Transformer MIL, Shao et al. (NeurIPS 2021), with exact attention."""

    kind: Literal["transmil"] = Field(
        description="transformer MIL; its attention takes the square of a bag's tiles in time"
    )
    num_heads: int = Field(
        8, ge=1, le=256, description="attention heads; must divide the last of embed_dims"
    )
    position: Literal["ppeg", "none"] = Field(
        "ppeg",
        description="ppeg: convolutions over the tiles laid out in a square in the order of the "
        "bag, as in the paper; none: the order of tiles does not matter",
    )

    @model_validator(mode="after")
    def _divides(self) -> "TransMILHead":
        if self.embed_dims[-1] % self.num_heads:
            raise ValueError(
                f"num_heads {self.num_heads} does not divide the width {self.embed_dims[-1]}"
            )
        return self


class LinearProbeHead(Config):
    """A linear classifier on the mean of the encoder's embeddings, without a tile embedding."""

    kind: Literal["linear_probe"] = Field(description="linear probe on mean-pooled embeddings")

    @property
    def embed_dims(self) -> tuple[int, ...]:
        """There is no tile embedding."""
        return ()

    @property
    def norm(self) -> str:
        """There is no batch norm."""
        return "none"

    @property
    def dropout(self) -> float:
        """Nothing is dropped."""
        return 0.0


Head = Annotated[
    MeanHead
    | MaxHead
    | AttentionHead
    | GatedAttentionHead
    | ClamSBHead
    | ClamMBHead
    | DSMILHead
    | TransMILHead
    | LinearProbeHead,
    Field(discriminator="kind"),
]
