"""One picture per scan with the kept tiles drawn, for looking, and its numbers beside it."""

import hashlib
import json
from pathlib import Path
from urllib.parse import quote

import numpy as np
from PIL import Image, ImageDraw

from training.extraction.grid import Tiles
from training.extraction.masks import Mask
from training.extraction.slides import Slide

EDGE = (0, 110, 60)
VEIL = 0.55
"""How far what is outside the mask fades to white."""
LONGEST = 200
"""Characters of a file's name that are sure to have room on a disk, further ones around them."""


def file_name(scan: str) -> str:
    """Name the picture of a scan; a long name is cut, and a hash of the whole follows."""
    name = quote(scan, safe=" ")
    if len(name) > LONGEST:
        name = f"{name[: LONGEST // 2]}-{hashlib.sha256(scan.encode()).hexdigest()[:32]}"
    return f"{name}.png"


def write(slide: Slide, mask: Mask, tiles: Tiles, out: Path, *, max_px: int = 1024) -> None:
    """Draw the scan with its mask and tiles.

    Args:
        slide: the scan.
        mask: what is outside fades.
        tiles: each is framed.
        out: the PNG; the numbers lie beside it under the same name with `.json`.
        max_px: longer side of the picture.
    """
    rgb, step = slide.thumbnail(max_px)
    height, width, _ = rgb.shape
    inside = Image.fromarray(mask.inside).resize((width, height), Image.Resampling.NEAREST)
    faded = rgb + (255 - rgb) * (VEIL * ~np.asarray(inside)[..., None])
    picture = Image.fromarray(faded.astype(np.uint8))
    draw = ImageDraw.Draw(picture)
    for x, y in tiles.coords.tolist():
        left, top = x / step[0], y / step[1]
        right, bottom = left + tiles.span[0] / step[0], top + tiles.span[1] / step[1]
        draw.rectangle((left, top, max(right - 1, left), max(bottom - 1, top)), outline=EDGE)
    picture.save(out, format="PNG")
    facts = {
        "scan": slide.path.name,
        "vendor": slide.vendor,
        "size": slide.size,
        "mpp": slide.mpp,
        "levels": slide.levels,
        "has_profile": slide.has_profile,
        "picture_step": step,
        "tile_span": tiles.span,
        "grid": tiles.shape,
        "tissue_share": float(mask.inside.mean()),
        "num_found": tiles.num_found,
        "num_tiles": len(tiles.tile),
    }
    out.with_suffix(".json").write_text(json.dumps(facts, indent=2) + "\n", encoding="utf-8")
