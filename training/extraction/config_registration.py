"""How the scans of a slide are registered, as configuration."""

from pydantic import Field

from training.config_base import Config


class RegistrationConfig(Config):
    """Rigid, then affine, then B-spline registration of the thumbnails of two scans."""

    thumbnail_px: int = Field(
        2048, ge=64, le=16384, description="longer side of the thumbnails that are registered"
    )
    bspline_fields: int | None = Field(
        8,
        ge=1,
        le=64,
        description="fields between control points of the B-spline along the longer side of the "
        "tissue; null: affine only",
    )
    iterations: int = Field(
        300, ge=1, le=10_000, description="optimiser steps per resolution of each stage"
    )
    angle_step: float = Field(
        10.0, gt=0, le=90, description="degrees between the rotations that are tried at the start"
    )
    max_scale: float = Field(
        1.1, ge=1, description="largest change of size that is believed, as a factor either way"
    )
    min_quality: float = Field(
        0.4,
        ge=-1,
        le=1,
        description="a registration of less quality (mean local correlation of the scans' tissue) "
        "is refused; other tissue has about 0.1, a manual transform may have any",
    )
    min_overlap: float = Field(
        0.5, ge=0, le=1, description="share of the smaller tissue that must meet tissue"
    )
    mirrored: bool = Field(False, description="a manual transform may mirror the slide")
    seed: int = Field(0, ge=0, le=2**31 - 1, description="seed of the sampled image points")
