"""What is asked of an extraction, and the encoders as they will be used for it; without torch."""

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from training.extraction import encoder_table, weights
from training.extraction.config import Tiling
from training.extraction.config_embed import EmbedConfig, EncoderChoice
from training.extraction.encoder_table import Encoder
from training.extraction.weights import Weights


@dataclass(frozen=True, slots=True, kw_only=True)
class Request:
    """What is to be embedded.

    Args:
        slides: the table of slides.
        out: the data set.
        encoders: by name.
        checkpoints: local files of weights, by encoder.
        config: how.
        folds: CSV of held-out patients, as for `sweep index`; None: those that are there stay.
        limit: the first so many slides only; None: all.
        device: where encoders are.
        workers: processes that decode; 0: none but this one.
    """

    slides: Path
    out: Path
    encoders: tuple[str, ...]
    checkpoints: Mapping[str, Path]
    config: EmbedConfig
    folds: Path | None = None
    limit: int | None = None
    device: str = "cpu"
    workers: int = 1


@dataclass(frozen=True, slots=True, kw_only=True)
class Chosen:
    """An encoder as it will be used.

    Args:
        encoder: with the revision and the licence of the configuration.
        weights: where they are.
        precision: arithmetic.
        tiling: tiles that it gets.
    """

    encoder: Encoder
    weights: Weights
    precision: str
    tiling: Tiling


def describe(name: str, request: Request) -> Encoder:
    """Find an encoder, with the revision and the licence of the configuration.

    Raises:
        DataError: It is not known.
    """
    setting = request.config.encoders.get(name, EncoderChoice())
    found = encoder_table.find(name)
    return dataclasses.replace(
        found,
        revision=setting.revision or found.revision,
        licence=setting.licence or found.licence,
    )


def choose(name: str, request: Request) -> Chosen:
    """Find an encoder and its weights, as the request has them.

    Raises:
        DataError: The weights cannot be had.
    """
    found = describe(name, request)
    return Chosen(
        encoder=found,
        weights=weights.locate(found, _checkpoint(name, request)),
        precision=arithmetic(found, request, request.device),
        tiling=_tiling(found, request.config.tiling),
    )


def arithmetic(encoder: Encoder, request: Request, device: str) -> str:
    """Choose the arithmetic of an encoder on a device, as the request has it."""
    setting = request.config.encoders.get(encoder.name, EncoderChoice())
    return encoder_table.arithmetic(encoder, device, setting.precision)


def pinned(request: Request) -> Request:
    """Find all weights, and ask for these from now on, whatever the hub has later.

    Raises:
        DataError: Weights cannot be had.
    """
    settings = dict(request.config.encoders)
    for name in request.encoders:
        found = choose(name, request).weights.revision
        if _checkpoint(name, request) is None:
            setting = settings.get(name, EncoderChoice())
            settings[name] = setting.model_copy(update={"revision": found})
    config = request.config.model_copy(update={"encoders": settings})
    return dataclasses.replace(request, config=config)


def _checkpoint(name: str, request: Request) -> Path | None:
    setting = request.config.encoders.get(name, EncoderChoice())
    return request.checkpoints.get(name) or setting.checkpoint


def _tiling(encoder: Encoder, tiling: Tiling) -> Tiling:
    """Give an encoder the tiles of the configuration, or those that it was made for."""
    own = {"tile_px": encoder.tile_px, "mpp": encoder.mpp}
    free = {key: value for key, value in own.items() if key not in tiling.model_fields_set}
    return Tiling.model_validate({**tiling.model_dump(), **free})
