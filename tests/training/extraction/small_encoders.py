"""Small networks of the architectures of the table, with random weights in files."""

import dataclasses
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save_file

from training.extraction import encoder_table, timm_models
from training.extraction.encoder_table import Encoder

WIDTH, DEPTH, HEADS = 48, 2, 3


def small(name: str, **changes: Any) -> Encoder:
    """An encoder of the table at reduced depth and width; all else as published."""
    whole = encoder_table.find(name)
    size = {"depth": DEPTH, "embed_dim": WIDTH, "num_heads": HEADS}
    dim = 2 * WIDTH if whole.pooling == "token_and_mean" else WIDTH
    arguments = {**whole.arguments, **size}
    return dataclasses.replace(whole, arguments=arguments, dim=dim, **changes)


def random_weights(encoder: Encoder, *, seed: int = 0) -> dict[str, torch.Tensor]:
    network = timm_models.build(encoder)
    generator = torch.Generator().manual_seed(seed)
    drawn = {
        name: torch.randn(value.shape, generator=generator) * 0.2
        for name, value in network.state_dict().items()
    }
    return {name: v.abs() + 1 if "running_var" in name else v for name, v in drawn.items()}


def save(encoder: Encoder, path: Path, *, seed: int = 0) -> Path:
    state = random_weights(encoder, seed=seed)
    if path.suffix == ".safetensors":
        save_file(state, path)
    else:
        torch.save(state, path)
    return path


def tiles(count: int, side: int = 224, *, seed: int = 0) -> torch.Tensor:
    generator = torch.Generator().manual_seed(seed)
    coarse = torch.randint(0, 256, (count, 3, 14, 14), generator=generator).float()
    fine = torch.nn.functional.interpolate(coarse, (side, side), mode="bilinear")
    return fine.permute(0, 2, 3, 1).round().to(torch.uint8)
