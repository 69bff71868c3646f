"""How tiles are cut and tissue is found, as configuration."""

from pydantic import Field, model_validator

from training.config_base import Config


class Tiling(Config):
    """Which tiles of a scan are kept and how their pixels are read."""

    tile_px: int = Field(224, ge=8, le=4096, description="side of a tile in pixels as read")
    mpp: float = Field(0.5, gt=0, description="micrometres per pixel at which tiles are read")
    overlap_px: int = Field(0, ge=0, description="pixels that neighbouring tiles share")
    min_tissue: float = Field(
        0.5, ge=0, le=1, description="smallest share of tissue in a kept tile; 0: any at all"
    )
    max_tiles: int | None = Field(
        None, ge=1, description="tiles kept of a scan at most, drawn at random; null: all"
    )
    seed: int = Field(0, description="seed of that draw")
    mpp_tolerance: float = Field(
        0.02,
        ge=0,
        lt=0.5,
        description="a stored level whose scale differs from mpp by at most this share is read as "
        "it is; the true scale is recorded",
    )
    allow_upsampling: bool = Field(
        False, description="read finer than the scan was made, by interpolation"
    )
    icc: bool = Field(
        False, description="turn colours into sRGB with the scan's ICC profile, if it has one"
    )

    @model_validator(mode="after")
    def _advances(self) -> "Tiling":
        if self.overlap_px >= self.tile_px:
            raise ValueError(
                f"overlap_px is {self.overlap_px}; expected less than tile_px, {self.tile_px}"
            )
        return self


class Tissue(Config):
    """What counts as tissue on a thumbnail."""

    mpp: float = Field(8.0, ge=1, description="micrometres per pixel of the thumbnail looked at")
    smooth_um: float = Field(
        25.0, ge=0, description="standard deviation of the smoothing, micrometres; about a fat cell"
    )
    min_colour: float = Field(
        20.0, ge=0, le=255, description="lower bound of the threshold on the colourfulness, 0-255"
    )
    max_colour: float = Field(25.0, ge=0, le=255, description="upper bound of that threshold")
    min_area_um2: float = Field(
        5000.0, ge=0, description="smaller pieces of tissue are left out, square micrometres"
    )
    pen: bool = Field(
        True, description="leave out pen and darkness; false for stains other than H&E"
    )
    max_red_ratio: float = Field(
        1.05, gt=0, description="green or blue pen: optical density of red over green above this"
    )
    max_blue_ratio: float = Field(
        0.78, gt=0, description="black pen, rims of red pen: that of blue over green above this"
    )
    red_pen_ratio: float = Field(
        0.88, gt=0, description="red pen: that of blue over green above this somewhere"
    )
    red_pen_density: float = Field(
        1.5, ge=0, description="and the optical density of green above this at the same place"
    )
    min_light: float = Field(
        110.0, ge=0, le=255, description="black pen and borders: R, G and B all below this"
    )
    pen_margin_um: float = Field(
        40.0, ge=0, description="what is this near to pen is left out too, micrometres"
    )

    @model_validator(mode="after")
    def _ordered(self) -> "Tissue":
        if self.min_colour > self.max_colour:
            raise ValueError(
                f"min_colour is {self.min_colour:g}, max_colour {self.max_colour:g}; expected the "
                "smaller first"
            )
        return self
