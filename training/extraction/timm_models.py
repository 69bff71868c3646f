"""The door to timm: its models by name, and the networks of the encoders.

A network is built here, and its layers named by strings looked up; weights come from
`training.extraction.checkpoints`.
"""

import dataclasses
from typing import Any

import timm
import torch
from timm.layers.mlp import SwiGLUPacked
from torch import nn

from training.extraction.encoder_table import IMAGENET_MEAN, IMAGENET_STD, Encoder

_LAYERS: dict[str, Any] = {"SwiGLUPacked": SwiGLUPacked, "SiLU": nn.SiLU}


def build(encoder: Encoder, *, device: torch.device | str = "cpu") -> nn.Module:
    """Build the network without weights; on the device "meta" it takes no memory."""
    arguments = {
        key: _LAYERS.get(value, value) if isinstance(value, str) else value
        for key, value in encoder.arguments.items()
    }
    with torch.device(device):
        network: nn.Module = timm.create_model(encoder.model, pretrained=False, **arguments)
    return network.eval().requires_grad_(False)


def names() -> list[str]:
    """List timm's models."""
    found: list[str] = timm.list_models()
    return found


def describe(name: str) -> Encoder | None:
    """Describe one of timm's models; None if it has none of this name."""
    architecture = name.partition(".")[0]
    if not timm.is_model(architecture):
        return None
    try:
        config = timm.get_pretrained_cfg(name)
    except (RuntimeError, ValueError):  # no such weights of a known architecture
        return None
    facts: dict[str, Any] = dataclasses.asdict(config) if config else {}
    side = int(facts.get("input_size", (3, 224, 224))[-1])
    return Encoder(
        name=name,
        model=name,
        arguments={"num_classes": 0},
        pooling="model",
        tile_px=side,
        resize_px=side,
        input_px=side,
        interpolation="bilinear" if facts.get("interpolation") == "bilinear" else "bicubic",
        mean=tuple(facts.get("mean", IMAGENET_MEAN)),
        std=tuple(facts.get("std", IMAGENET_STD)),
        precision="float32",
        hub=str(facts.get("hf_hub_id") or ""),
        licence=str(facts.get("license") or ""),
    )


def pooled(network: nn.Module, encoder: Encoder, tiles: torch.Tensor) -> torch.Tensor:
    """Give the embeddings of normalised tiles: [tiles, dim]."""
    if encoder.pooling == "model":
        whole: torch.Tensor = network(tiles)
        return whole
    tokens: torch.Tensor = network.forward_features(tiles)  # type: ignore[operator]  # timm's own
    if encoder.pooling == "token":
        return tokens[:, 0]
    registers: Any = network.num_prefix_tokens
    return torch.cat([tokens[:, 0], tokens[:, registers:].mean(dim=1)], dim=1)
