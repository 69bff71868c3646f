"""Pictures that look like stained tissue enough to be cut into tiles, and tables of them."""

import csv
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
import torch
from PIL import Image, ImageFilter

from tests.training.extraction.small_encoders import save
from training.extraction import encoder_table
from training.extraction.config_embed import EmbedConfig
from training.extraction.requests import Request

NAME = "test_vit"
"""The smallest vision transformer of timm; tiles of 160 pixels."""
OTHER = "test_efficientnet"

CONFIG = EmbedConfig.model_validate(
    {
        "tiling": {"tile_px": 64, "mpp": 1.0, "min_tissue": 0.3},
        "registration": None,
        "batch_size": 8,
    }
)


def draw(path: Path, *, seed: int = 0, side: int = 256) -> Path:
    """Draw a blob of pink and purple on white glass; one pixel is one micrometre."""
    drawn = np.random.default_rng(seed)
    coarse = Image.fromarray(drawn.integers(0, 256, (side // 8, side // 8), dtype=np.uint8))
    field = np.asarray(coarse.resize((side, side)).filter(ImageFilter.GaussianBlur(2))) / 255.0
    y, x = np.mgrid[:side, :side] / side - 0.5
    inside = x**2 + y**2 < 0.14
    pink, purple = np.array([225, 120, 180]), np.array([110, 50, 140])
    stained = purple + (pink - purple) * field[..., None]
    picture = np.where(inside[..., None], stained, 244)
    noise = drawn.normal(0, 2, picture.shape)
    Image.fromarray((picture + noise).clip(0, 255).astype(np.uint8)).save(path)
    return path


def table(folder: Path, rows: Sequence[Mapping[str, str]]) -> Path:
    """Write a table of slides; each has a label and a scale."""
    path = folder / "slides.csv"
    names = ["slide", "scan", "patient", "scanner", "label", "file", "mpp"]
    names += sorted({key for row in rows for key in row} - set(names))
    with path.open("w", newline="", encoding="utf-8") as file:
        out = csv.DictWriter(file, names)
        out.writeheader()
        out.writerows({"scanner": "A", "mpp": "1.0", **row} for row in rows)
    return path


def simple(folder: Path, count: int = 3) -> Path:
    """Draw so many slides of so many patients, and write their table."""
    folder.mkdir(parents=True, exist_ok=True)
    rows = []
    for number in range(count):
        name = f"s {number}'é"
        draw(folder / f"{name}.png", seed=number)
        rows.append({"slide": name, "scan": name, "patient": f"p{number}",
                     "label": "ab"[number % 2], "file": f"{name}.png"})  # fmt: skip
    return table(folder, rows)


def weights(folder: Path, name: str = NAME) -> Path:
    return save(encoder_table.find(name), folder / f"{name}.pth", seed=1)


def request(slides: Path, out: Path, **changes: object) -> Request:
    """Ask for the smallest encoder, in this process."""
    names = changes.pop("encoders", (NAME,))
    given = {
        "slides": slides, "out": out, "encoders": names,
        "checkpoints": {name: weights(slides.parent, name) for name in names},
        "config": CONFIG, "workers": 0,
    }  # fmt: skip
    return Request(**{**given, **changes})


def bytes_of(data: Path) -> dict[str, bytes]:
    """Everything in a data set, by path."""
    torch.set_num_threads(1)
    return {
        str(path.relative_to(data)): path.read_bytes()
        for path in sorted(data.rglob("*"))
        if path.is_file()
    }
