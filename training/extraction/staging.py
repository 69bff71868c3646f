"""Bags that are embedded and not yet in the data set: a file each, which appears whole.

Each knows the recipe that it was made by: a hash of the slide's content, of how tiles are cut and
of the encoder. A bag of the same recipe is never made twice, whether it waits here or is in the
data set already; recipes of the latter lie beside the shards.
"""

import hashlib
import json
import os
import shutil
import socket
import uuid
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import h5py
import numpy as np

from training.data import feature_files, joining, tables
from training.data.bags import Bag
from training.errors import DataError

FOLDER = "embed.partial"
"""Below the data set; gone when everything is in it."""

_SCRATCH = ".scratch"


@dataclass(frozen=True, slots=True, kw_only=True)
class Facts:
    """What is known of a staged bag without reading it.

    Args:
        recipe: what it was made by.
        num_tiles: of it.
        dim: of its embeddings.
        dtype: float16 or float32.
        mpp_read: micrometres per pixel of its tiles.
        tile_um: their side.
    """

    recipe: str
    num_tiles: int
    dim: int
    dtype: str
    mpp_read: float
    tile_um: float


def path(data: Path, encoder: str, view: str) -> Path:
    """Where the bag of a view waits; names of views need not be names of files."""
    return data / FOLDER / encoder / f"{hashlib.sha256(view.encode()).hexdigest()[:32]}.h5"


def scratch(data: Path) -> Path:
    """Where this process makes files that are moved elsewhere when they are whole."""
    return data / FOLDER / _SCRATCH / f"{socket.gethostname()}-{os.getpid()}"


def begin(data: Path, encoder: str) -> None:
    """Make the folder of an encoder; while it is there, no other encoder's end clears up."""
    path(data, encoder, "").parent.mkdir(parents=True, exist_ok=True)


def recipe(content: Any) -> str:
    """Hash plain values."""
    text = json.dumps(content, sort_keys=True, allow_nan=False)
    return hashlib.sha256(text.encode()).hexdigest()


def write(
    file: Path,
    embeddings: np.ndarray,
    *,
    tile: np.ndarray,
    coords: np.ndarray,
    recipe: str,
    mpp_read: float,
    tile_um: float,
) -> None:
    """Write a bag under a temporary name, bring it to disk, and rename it.

    Raises:
        OSError: The disk is full, for one; nothing is left behind.
    """
    dtype = feature_files.stored_type(embeddings)
    file.parent.mkdir(parents=True, exist_ok=True)
    partial = file.with_name(f"{file.name}.{uuid.uuid4().hex}.partial")
    try:
        with h5py.File(partial, "w") as out:
            for name, values in (("coords", coords), ("tile", tile)):
                out.create_dataset(name, data=values, dtype="int32", track_times=False)
            out.create_dataset("embeddings", data=embeddings, dtype=dtype, track_times=False)
            out.attrs.update({"recipe": recipe, "mpp_read": mpp_read, "tile_um": tile_um})
        tables.publish(partial, file)
    except RuntimeError as error:  # h5py's word for a file that cannot be closed
        raise OSError(f"{file}: cannot be written: {error}") from error
    finally:
        partial.unlink(missing_ok=True)


def look(file: Path) -> Facts | None:
    """Tell what a staged bag is; None if there is none or it cannot be read."""
    if not file.exists():
        return None
    try:
        with h5py.File(file, "r") as found:
            rows, dim = found["embeddings"].shape
            return Facts(
                recipe=str(found.attrs["recipe"]),
                num_tiles=int(rows),
                dim=int(dim),
                dtype=found["embeddings"].dtype.name,
                mpp_read=float(found.attrs["mpp_read"]),
                tile_um=float(found.attrs["tile_um"]),
            )
    except (OSError, LookupError, ValueError):
        return None


def bag(file: Path) -> Bag:
    """Read a staged bag.

    Raises:
        DataError: It cannot be read.
    """
    try:
        with h5py.File(file, "r") as found:
            return Bag(
                embeddings=found["embeddings"][()],
                tile=found["tile"][()],
                coords=found["coords"][()],
            )
    except (OSError, LookupError) as error:
        raise DataError(
            f"{file}: cannot be read: {error}", hint="delete it and embed again"
        ) from error


def kept(data: Path, encoder: str) -> dict[str, str]:
    """Read by which recipes the bags in the data set were made, by view.

    Those of a bag that came another way since, by an import of the encoder for one, are not known.
    """
    try:
        found = json.loads(_kept(data, encoder).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    sums = _checksums(data, encoder)
    items = found.items() if isinstance(found, dict) else ()
    made = {view: str(text).partition(" ") for view, text in items}
    return {
        view: recipe for view, (recipe, _, bag) in made.items() if bag and bag == sums.get(view)
    }


def keep(data: Path, encoder: str, recipes: Mapping[str, str]) -> None:
    """Write down by which recipes the bags in the data set were made, and which these are."""
    file = _kept(data, encoder)
    partial = file.with_name(f".{file.name}.partial")
    sums = _checksums(data, encoder)
    made = {view: f"{recipes[view]} {sums[view]}" for view in sorted(recipes) if view in sums}
    text = json.dumps(made, indent=0, ensure_ascii=False)
    partial.write_text(text, encoding="utf-8")
    tables.publish(partial, file)


def clear(data: Path, encoder: str, views: Iterable[str]) -> None:
    """Delete the staged bags of views that are in the data set now, and folders left empty."""
    for view in views:
        path(data, encoder, view).unlink(missing_ok=True)
    tidy(data, encoder)


def tidy(data: Path, encoder: str) -> None:
    """Delete the folder of an encoder if no bag waits there, and that of all if it was the last."""
    mine = data / FOLDER / encoder
    if not any(mine.glob("*.h5")):
        shutil.rmtree(mine, ignore_errors=True)
    if not any(other.name != _SCRATCH for other in (data / FOLDER).glob("*")):
        shutil.rmtree(data / FOLDER, ignore_errors=True)


def _checksums(data: Path, encoder: str) -> dict[str, str]:
    before = joining.existing(data)
    if before is None:
        return {}
    mine = before.index[before.index["encoder"] == encoder]
    return dict(zip(mine["view"], mine["checksum"], strict=True))


def _kept(data: Path, encoder: str) -> Path:
    return data / "shards" / f"{encoder}.recipes.json"
