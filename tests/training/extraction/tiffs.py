"""Writes small tiled TIFF files, pyramids and alpha included: what slide scanners leave."""

import struct
from collections.abc import Sequence
from pathlib import Path

import numpy as np

SHORT, LONG, RATIONAL, UNDEFINED = 3, 4, 5, 7
CODES = {SHORT: "H", LONG: "I"}


def write(
    path: Path,
    levels: Sequence[np.ndarray],
    *,
    mpp: float | None = None,
    unit: int = 3,
    side: int = 64,
    profile: bytes = b"",
    break_tile: int | None = None,
) -> Path:
    """Write uint8 levels [height, width, 3 or 4], the largest first, uncompressed.

    Args:
        path: the file.
        levels: the pictures.
        mpp: micrometres per pixel for the resolution tags; None: no such tags.
        unit: 2 for pixels per inch, 3 per centimetre.
        side: of the stored tiles.
        profile: an ICC profile.
        break_tile: stored tile of the largest level that points beyond the end of the file.
    """
    body = bytearray(b"II*\0\0\0\0\0")
    link = 4
    for number, level in enumerate(levels):
        places, sizes = [], []
        for tile in stored_tiles(level, side):
            places.append(len(body))
            sizes.append(len(tile))
            body += tile
        if break_tile is not None and number == 0:
            places[break_tile] = 1 << 30
        tags: dict[int, tuple[int, list[int]]] = {
            254: (LONG, [int(number > 0)]), 256: (LONG, [level.shape[1]]),
            257: (LONG, [level.shape[0]]), 258: (SHORT, [8] * level.shape[2]), 259: (SHORT, [1]),
            262: (SHORT, [2]), 277: (SHORT, [level.shape[2]]), 284: (SHORT, [1]),
            322: (LONG, [side]), 323: (LONG, [side]), 324: (LONG, places), 325: (LONG, sizes),
        }  # fmt: skip
        if level.shape[2] == 4:
            tags[338] = (SHORT, [2])
        if mpp is not None:
            dots = [round({2: 25_400, 3: 10_000}.get(unit, 1) / mpp * 1000), 1000]
            tags |= {282: (RATIONAL, dots), 283: (RATIONAL, dots), 296: (SHORT, [unit])}
        if profile:
            tags[34675] = (UNDEFINED, list(profile))
        link = append_directory(body, tags, link)
    path.write_bytes(body)
    return path


def stored_tiles(level: np.ndarray, side: int) -> list[bytes]:
    height, width, _ = level.shape
    padded = np.pad(level, ((0, -height % side), (0, -width % side), (0, 0)), mode="edge")
    return [
        padded[y : y + side, x : x + side].tobytes()
        for y in range(0, height, side)
        for x in range(0, width, side)
    ]


def append_directory(body: bytearray, tags: dict[int, tuple[int, list[int]]], link: int) -> int:
    """Append a directory, point `link` at it, and return where its own link lies."""
    entries = bytearray()
    for tag, (kind, values) in sorted(tags.items()):
        if kind == RATIONAL:
            data, count = struct.pack("<2I", *values), 1
        elif kind == UNDEFINED:
            data, count = bytes(values), len(values)
        else:
            data, count = struct.pack(f"<{len(values)}{CODES[kind]}", *values), len(values)
        if len(data) > 4:
            body += b"\0" * (len(body) % 2)
            data, body[len(body) :] = struct.pack("<I", len(body)), data
        entries += struct.pack("<HHI", tag, kind, count) + data.ljust(4, b"\0")
    body += b"\0" * (len(body) % 2)
    body[link : link + 4] = struct.pack("<I", len(body))
    body += struct.pack("<H", len(tags)) + entries + struct.pack("<I", 0)
    return len(body) - 4
