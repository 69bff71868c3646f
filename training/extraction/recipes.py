"""By what recipe the bag of a view is made: content of the files, configuration, encoder.

Equal recipes give equal bags, so that what is made is never made again, and what has changed is.
"""

import hashlib
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from training.errors import DataError
from training.extraction import slide_plan, staging
from training.extraction.config_embed import EmbedConfig
from training.extraction.config_views import AugmentedView
from training.extraction.requests import Chosen
from training.extraction.slide_table import Scan
from training.extraction.slides import open_slide

VERSION = 1
"""Raised when the code makes other bags of the same recipe."""

Recipes = dict[str, dict[str, str]]
"""By encoder and view."""


def of_slide(scans: Sequence[Scan], config: EmbedConfig, chosen: Sequence[Chosen]) -> Recipes:
    """Give the recipe of every view of a slide; opens its files.

    A file that cannot be opened has a recipe, too, which no bag is made by.
    """
    prints = {scan.name: _fingerprint(scan) for scan in scans}
    made: dict[str, Any] = {}
    for order, scan in enumerate(scans):
        files = [prints[scans[0].name], prints.get(scan.source_scan, ""), prints[scan.name]]
        looks = [None, *(() if scan.source_scan else map(_look, config.views))]
        for name, look in zip(slide_plan.view_names(scan, config), looks, strict=True):
            made[name] = [*files, order, scan.name, look]
    settings = config.model_dump(
        mode="json", include={"tiling", "tissue", "registration", "seed", "batch_size"}
    )
    return {
        each.encoder.name: {
            view: staging.recipe([VERSION, settings, content, facts])
            for view, content in made.items()
        }
        for each in chosen
        for facts in [_facts(each)]
    }


def _facts(chosen: Chosen) -> list[Any]:
    encoder = chosen.encoder
    return [
        encoder.model, dict(encoder.arguments), encoder.pooling, encoder.resize_px,
        encoder.input_px, encoder.interpolation, encoder.mean, encoder.std,
        chosen.weights.revision, chosen.precision,
    ]  # fmt: skip


def _look(view: AugmentedView) -> list[Any]:
    references = [getattr(step, "reference", None) for step in view.steps]
    plain = view.model_dump(mode="json", exclude={"steps": {"__all__": {"reference"}}})
    return [plain, [_digest(path) for path in references]]


def _fingerprint(scan: Scan) -> str:
    try:
        with open_slide(scan.path, mpp=scan.mpp) as slide:
            return f"{slide.fingerprint} {slide.mpp} {_digest(scan.mask)} {_digest(scan.transform)}"
    except (DataError, OSError):
        return "unreadable"


def _digest(path: Path | None) -> str:
    if path is None or not path.is_file():
        return ""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
