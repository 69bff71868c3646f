"""The key `artefacts` of a spec: it changes no result, so no trial's configuration has it."""

from typing import Literal

from pydantic import Field

from training.config_base import Config


class Artefacts(Config):
    """What a trial leaves beside its predictions."""

    weights: Literal["none", "all"] = Field(
        "none",
        description="weights of the chosen epoch to keep: none, or of every trial; `sweep predict` "
        "needs them",
    )
    embeddings: Literal["none", "evaluation"] = Field(
        "none",
        description="bag embeddings to keep: none, or of the held-out scans; the table of "
        "representations needs them",
    )
    attention: Literal["none", "top"] = Field(
        "none",
        description="attention to keep: none, or of the 64 top tiles of the held-out scans, and "
        "how far the scans of a slide agree on it",
    )
    gradients: Literal["none", "energy"] = Field(
        "none",
        description="energy: share of the score's gradient in the directions in which scanners "
        "differ, of the held-out scans",
    )
    views: Literal["none", "shift"] = Field(
        "none",
        description="shift: how far scores move from the held-out scans to the augmented views "
        "that were made from them",
    )


NO_ARTEFACTS = Artefacts()
