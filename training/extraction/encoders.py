"""Encoders ready for use: a network with its weights, and what turns tiles into embeddings.

Tiles go in as bytes and are resized, cut and normalised on the device; embeddings come out in
float32. Every tile is encoded by itself, so that the batch that it is in does not matter.
"""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import lru_cache
from typing import Any

import torch
import torch.nn.functional as F
from jaxtyping import Float, UInt8
from torch import Tensor, nn

from training.errors import DataError
from training.extraction import checkpoints, key_maps, timm_models
from training.extraction.encoder_table import Encoder, Rgb
from training.extraction.weights import Weights

_HEADS = ("head.", "fc.", "classifier.", "head_drop.")
"""Classifiers, which published weights may have and an encoder has not."""

_SHOWN = 4


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Loaded:
    """An encoder with its weights, on a device.

    Args:
        encoder: what it is; its width is filled in.
        network: in evaluation mode, without gradients.
        device: where it is.
        precision: float32, or autocast to the named type.
        revision: which weights: a commit of the hub, or the digest of a local file.
    """

    encoder: Encoder
    network: nn.Module
    device: torch.device
    precision: str
    revision: str

    def embed(self, tiles: UInt8[Tensor, "tile height width 3"]) -> Float[Tensor, "tile embedding"]:
        """Encode tiles that are on the device; the result stays there."""
        with torch.inference_mode():
            pixels = prepare(tiles, self.encoder)
            narrow = self.precision != "float32"
            dtype = getattr(torch, self.precision) if narrow else None
            with torch.autocast(self.device.type, dtype=dtype, enabled=narrow):
                found = timm_models.pooled(self.network, self.encoder, pixels)
            return found.float()


def load(
    encoder: Encoder,
    weights: Weights,
    *,
    device: str = "cpu",
    precision: str = "float32",
) -> Loaded:
    """Build an encoder and give it its weights.

    Args:
        encoder: which one.
        weights: of `weights.locate`.
        device: where it shall be.
        precision: of `encoder_table.arithmetic`.

    Raises:
        DataError: The weights cannot be read, or are not those of this encoder.
    """
    path = weights.path
    state = checkpoints.read(path)
    built = replace(encoder, arguments={**encoder.arguments, **key_maps.arguments(state)})
    network = timm_models.build(built, device="meta")
    state = key_maps.to_timm(state, network.state_dict())
    fill(network, state, where=str(path), name=encoder.name)
    if any(each.is_meta for each in network.buffers()):  # such as are in no file
        network = timm_models.build(built)
        fill(network, state, where=str(path), name=encoder.name)
    network.to(device)
    width = _width(network, encoder, torch.device(device))
    if encoder.dim not in (0, width):
        raise DataError(
            f"{path}: encoder {encoder.name!r} gives {width} numbers a tile, expected {encoder.dim}"
        )
    return Loaded(
        encoder=replace(built, dim=width),
        network=network,
        device=torch.device(device),
        precision=precision,
        revision=weights.revision,
    )


def prepare(
    tiles: UInt8[Tensor, "tile height width 3"], encoder: Encoder
) -> Float[Tensor, "tile 3 side side"]:
    """Resize, cut to the middle and normalise, as the encoder expects it."""
    pixels = tiles.permute(0, 3, 1, 2).float() / 255
    side = encoder.resize_px
    if pixels.shape[2:] != (side, side):
        pixels = F.interpolate(pixels, (side, side), mode=encoder.interpolation, antialias=True)
        pixels = pixels.clamp_(0, 1)
    edge = (side - encoder.input_px) // 2
    pixels = pixels[:, :, edge : edge + encoder.input_px, edge : edge + encoder.input_px]
    mean, std = (_channels(values, tiles.device) for values in (encoder.mean, encoder.std))
    return (pixels - mean) / std


def fill(network: nn.Module, state: Mapping[str, Tensor], *, where: str, name: str) -> None:
    """Give a network its weights, all of them and no others but those of a classifier.

    Raises:
        DataError: They do not fit; the first few differences are named.
    """
    wanted = network.state_dict()
    state = {key: value for key, value in state.items() if key in wanted or not _is_head(key)}
    lines = [f"{key} is missing" for key in wanted if key not in state]
    lines += [f"{key} is not known" for key in state if key not in wanted]
    lines += [
        f"{key} is {tuple(state[key].shape)}, expected {tuple(value.shape)}"
        for key, value in wanted.items()
        if key in state and state[key].shape != value.shape
    ]
    if lines:
        more = f"; and {len(lines) - _SHOWN} more" if len(lines) > _SHOWN else ""
        raise DataError(
            f"{where}: these are not the weights of encoder {name!r}: "
            + "; ".join(lines[:_SHOWN])
            + more
        )
    whole = {key: value.to(wanted[key].dtype) for key, value in state.items()}
    network.load_state_dict(whole, strict=True, assign=True)
    network.eval().requires_grad_(False)


@lru_cache(maxsize=64)
def _channels(values: Rgb, device: torch.device) -> Tensor:
    """Put numbers per channel on a device, once: a copy would wait for what the GPU does."""
    return torch.tensor(values, device=device).view(1, 3, 1, 1)


def _is_head(key: str) -> bool:
    return key.startswith(_HEADS)


def _width(network: nn.Module, encoder: Encoder, device: torch.device) -> int:
    """Find the width of the embedding by encoding one tile."""
    side = encoder.input_px
    with torch.inference_mode():
        blank: Any = torch.zeros(1, 3, side, side, device=device)
        return int(timm_models.pooled(network, encoder, blank).shape[1])
