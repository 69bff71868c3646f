"""The configuration of a simulated cohort; `training.simulate` has the equations.

It fixes the dataset to the byte. Pydantic only: specs read it, so no numpy, pandas or torch here.
"""

from typing import Annotated

from pydantic import Field, model_validator

from training.config import Config

Name = Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]*$", max_length=64)]

MAX_VALUES = 2e10
"""Numbers in the embeddings of one encoder, 40 GB: more is a slip of the pen."""


class SimulatedEncoder(Config):
    """One encoder: a fixed random map of the latent tissue, more or less moved by the scanner."""

    dim: int = Field(64, ge=2, le=4096, description="length of an embedding")
    scanner_effect: float = Field(
        1.0,
        ge=0,
        le=10,
        description="factor r on all parts of the shift; 0: the encoder sees no scanner",
    )


class Shift(Config):
    """What a scanner does to embeddings; each part is off at 0.

    A strength is the root mean square of the move per coordinate, where 1 is about the root mean
    square of the scanner-free embedding itself.
    """

    offset: float = Field(0.6, ge=0, le=100, description="the same move for all tiles of a scanner")
    mixing: float = Field(0.5, ge=0, le=100, description="a linear map of the embedding")
    nonlinear: float = Field(
        0.4, ge=0, le=100, description="a saturating (tanh) warp of the embedding"
    )
    noise: float = Field(0.3, ge=0, le=100, description="noise whose size depends on the tile")
    missing_tiles: float = Field(
        0.1, ge=0, lt=1, description="share of a slide's tiles that a scan does not have"
    )


class SimulatedSurvival(Config):
    """Times to an event with proportional hazards: the label-bearing tissue shortens them."""

    log_hazard_ratio: float = Field(
        1.5, ge=-10, le=10, description="log hazard ratio of each class to the one before it"
    )
    shape: float = Field(
        1.2, gt=0, le=10, description="shape of the Weibull distribution; 1: exponential"
    )
    median: float = Field(48.0, gt=0, le=1e6, description="median time of class 0")
    followup: float = Field(60.0, gt=0, le=1e6, description="time after which all are censored")
    lost_share: float = Field(
        0.2, ge=0, lt=1, description="probability to be lost before the end of follow-up"
    )
    step: float = Field(
        0.0, ge=0, le=1e6, description="times are rounded up to multiples of this; 0: not rounded"
    )


class Simulation(Config):
    """A paired-scanner cohort with known truth; the defaults are the demo's."""

    seed: int = Field(0, ge=0, description="fixes everything; cohorts of two seeds share nothing")
    dev_patients: int = Field(
        120, ge=2, le=100_000, description="patients of cohort dev, for training"
    )
    test_patients: int = Field(
        80, ge=0, le=100_000, description="patients of cohort test, same world"
    )
    second_slide_share: float = Field(
        0.25, ge=0, le=1, description="probability that a patient has two slides"
    )
    num_sites: int = Field(3, ge=1, le=100, description="sites; a null group, without any effect")
    num_classes: int = Field(2, ge=2, le=10, description="classes, equally frequent; 0 is negative")

    scanners: tuple[Name, ...] = Field(
        ("A", "B", "C", "D"), min_length=1, description="scanners seen in both cohorts"
    )
    unseen_scanners: tuple[Name, ...] = Field(("E",), description="scanners of cohort test only")
    confounding: float = Field(
        0.8, ge=0, le=1, description="probability that class chose the routine scanner (cohort dev)"
    )
    paired_share: float = Field(
        0.2, ge=0, le=1, description="share of dev slides scanned by all seen scanners"
    )
    shift: Shift = Field(Shift(), description="what a scanner does to embeddings")
    encoders: dict[Name, SimulatedEncoder] = Field(
        {
            "fragile": SimulatedEncoder(scanner_effect=1.0),
            "sturdy": SimulatedEncoder(scanner_effect=0.5),
        },
        min_length=1,
        description="encoders by name",
    )

    min_tiles: int = Field(60, ge=1, description="fewest tiles of a slide")
    max_tiles: int = Field(120, ge=1, le=100_000, description="most tiles of a slide")
    bearing_share: float = Field(
        0.15, gt=0, le=1, description="mean share of label-bearing tiles in a positive slide"
    )
    signal: float = Field(
        2.6,
        ge=0,
        le=100,
        description="move of a label-bearing tile, in units of the tile's own spread",
    )
    num_tissues: int = Field(4, ge=1, description="background tissue types")
    tissue_spread: float = Field(
        1.0, ge=0, le=100, description="SD between tissue types, per coordinate"
    )
    patient_spread: float = Field(
        0.3, ge=0, le=100, description="SD between patients, per coordinate"
    )
    slide_spread: float = Field(0.2, ge=0, le=100, description="SD between slides, per coordinate")
    latent_dim: int = Field(16, ge=1, le=1024, description="coordinates of the latent tissue")
    trait_dim: int = Field(3, ge=1, le=64, description="traits in which scanners differ")
    augmented_views: int = Field(
        0,
        ge=0,
        le=16,
        description="augmented views of each dev scan, in random styles (`pairs: augmented`)",
        json_schema_extra={"added": True},
    )
    augmented_strength: float = Field(
        1.0,
        ge=0,
        le=100,
        description="factor on offset and mixing of a view's style; 1: as strong as a scanner's",
        json_schema_extra={"added": True},
    )
    survival: SimulatedSurvival | None = Field(
        None,
        description="columns time and event beside the label; null: none",
        json_schema_extra={"added": True},
    )

    @model_validator(mode="after")
    def _consistent(self) -> "Simulation":
        problems = []
        names = self.scanners + self.unseen_scanners
        twice = sorted({name for name in names if names.count(name) > 1})
        if twice:
            problems.append(f"scanner named twice: {', '.join(twice)}")
        if self.min_tiles > self.max_tiles:
            problems.append(f"min_tiles {self.min_tiles} is above max_tiles {self.max_tiles}")
        if self.confounding > 0 and len(self.scanners) < self.num_classes:
            problems.append("confounding needs at least one seen scanner per class")
        if self.paired_share > 0 and len(self.scanners) < 2:
            problems.append("paired_share above 0 needs at least two seen scanners")
        if self.dev_patients < self.num_classes:
            problems.append("dev_patients is below num_classes")
        patients = self.dev_patients * (1 + self.augmented_views) + self.test_patients
        tiles = patients * (1 + self.second_slide_share) * len(names) * self.max_tiles
        for name, encoder in self.encoders.items():
            if tiles * encoder.dim > MAX_VALUES:
                problems.append(
                    f"encoder {name}: up to {tiles * encoder.dim:.1e} numbers; expected at most "
                    f"{MAX_VALUES:.0e}: fewer patients, tiles or scanners"
                )
            if encoder.dim < self.trait_dim:
                problems.append(f"encoder {name}: dim {encoder.dim} is below trait_dim")
        if problems:
            raise ValueError("; ".join(problems))
        return self
