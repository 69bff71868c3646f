"""Augmented views of a scan, as configuration: what a scanner or a stain might have made of it."""

from pathlib import Path
from typing import Annotated, Literal, TypeVar

from pydantic import AfterValidator, Field, field_validator

from training.config_base import Config

Place = Annotated[Path, AfterValidator(Path.absolute)]
"""A file, wherever the process that reads it runs: jobs need not run where they were submitted."""

Range = TypeVar("Range", tuple[float, float], tuple[int, int])


def _in_order(value: Range) -> Range:
    if value[0] > value[1]:
        raise ValueError(f"{value[0]} is above {value[1]}; expected the smaller one first")
    return value


class Hed(Config):
    """Jitter of the stains (Tellez et al. 2019): each of H, E, D times 1 ± sigma, plus ± bias."""

    kind: Literal["hed"] = "hed"
    sigma: float = Field(0.05, ge=0, lt=1, description="largest relative change of a stain")
    bias: float = Field(0.01, ge=0, le=0.5, description="largest shift of a stain, optical density")


class Reinhard(Config):
    """Colour mean and spread of the tissue, in Lab, as in a reference (Reinhard et al. 2001)."""

    kind: Literal["reinhard"] = "reinhard"
    reference: Place = Field(description="picture of stained tissue")
    strength: float = Field(1.0, ge=0, le=1, description="share of the way to the reference")


class Macenko(Config):
    """Stain colours and strengths as in a reference (Macenko et al. 2009)."""

    kind: Literal["macenko"] = "macenko"
    reference: Place | None = Field(
        None, description="picture of stained tissue; null: the authors' published stains"
    )
    strength: float = Field(1.0, ge=0, le=1, description="share of the way to the reference")


class Colour(Config):
    """Look of a camera: gain, gamma, saturation and hue, one draw for the whole scan."""

    kind: Literal["colour"] = "colour"
    brightness: float = Field(0.05, ge=0, lt=1, description="gain between 1 - brightness and 1")
    contrast: float = Field(0.15, ge=0, lt=1, description="gamma between 1 ± contrast")
    saturation: float = Field(0.15, ge=0, lt=1, description="factor between 1 ± saturation")
    hue_degrees: float = Field(5.0, ge=0, le=180, description="largest turn of the hue, degrees")


Sigma = Annotated[float, Field(ge=0, le=16)]
Quality = Annotated[int, Field(ge=1, le=95)]


class Blur(Config):
    """Gaussian blur."""

    kind: Literal["blur"] = "blur"
    sigma_px: tuple[Sigma, Sigma] = Field(
        (0.0, 1.0), description="smallest and largest standard deviation, pixels as read"
    )

    _ordered = field_validator("sigma_px")(_in_order)


class Jpeg(Config):
    """Compression."""

    kind: Literal["jpeg"] = "jpeg"
    quality: tuple[Quality, Quality] = Field(
        (50, 90), description="worst and best JPEG quality, 1 to 95"
    )

    _ordered = field_validator("quality")(_in_order)


Step = Annotated[Hed | Reinhard | Macenko | Colour | Blur | Jpeg, Field(discriminator="kind")]


class AugmentedView(Config):
    """A named look: steps in the order given, each drawn once per scan."""

    name: str = Field(
        pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]*$",
        max_length=64,
        description="the view of scan S is called S-<name>",
    )
    steps: tuple[Step, ...] = Field(
        min_length=1, description="what is done to the pixels, in order"
    )

    def of(self, scan: str) -> str:
        """Name the view of a scan in the index."""
        return f"{scan}-{self.name}"
