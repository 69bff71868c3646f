"""Reads scans at a physical scale: whole-slide images, and plain pictures of regions.

Coordinates are level-0 pixels. The scale of a scan is never assumed: it comes from the file (from
TIFF resolution tags too, where they have a unit) or from the user. A region is read at a requested
scale: a stored level within `mpp_tolerance` of it is taken as it is, pixel for pixel; else the
nearest finer level is brought down with a Lanczos filter that sees beyond the region's edges, so
that neighbouring tiles meet without a seam. What is transparent or outside the scan is white.

A level's own grid of pixels may lie askew to level 0 (a width that is no multiple of the
reduction); it is met to a half level-0 pixel.
"""

import hashlib
import math
import os
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from types import TracebackType

import numpy as np
from PIL import Image, ImageCms

from training.errors import DataError
from training.extraction import scales
from training.extraction.config import Tiling
from training.extraction.scales import Scale
from training.extraction.slide_files import BrokenTileError, OpenSlideFile, PlainFile, open_file

__all__ = ["BrokenTileError", "Scale", "Slide", "Survey", "open_slide"]

SUPPORT = 3
"""Half width of the Lanczos filter in pixels returned."""

BLOCK_PX = 4096
"""Thumbnails are read in blocks of this side, in pixels of the stored level."""

WHITE = (255, 255, 255)


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Survey:
    """A thumbnail.

    Args:
        rgb: uint8 [height, width, 3].
        step: level-0 pixels per pixel along x and y.
        mpp: micrometres per pixel (mean of x and y).
        broken: bool [height, width], what cannot be decoded, in steps of 8 pixels or more.
    """

    rgb: np.ndarray
    step: tuple[float, float]
    mpp: float
    broken: np.ndarray


class Slide:
    """A scan. Each process opens the file on its first use; pickles without the open file.

    Args:
        path: the file.
        mpp: micrometres per level-0 pixel along x and y; None: what the file says.

    Attributes:
        size: width and height at level 0.
        mpp: micrometres per level-0 pixel along x and y.
        vendor: the format.
        levels: width and height of every stored level, the largest first.
        has_profile: whether the file has an ICC profile.
    """

    def __init__(self, path: Path, mpp: tuple[float, float] | None) -> None:
        self.path = path
        self._file: OpenSlideFile | PlainFile | None = None
        self._process = 0
        file = self._opened()
        self.size = file.levels[0]
        self.vendor = file.vendor
        self.levels = file.levels
        self.has_profile = file.has_profile
        self._steps = file.steps
        self._quickhash = file.quickhash
        self._colours: ImageCms.ImageCmsTransform | None = None
        found = mpp or file.mpp
        if found is None:
            raise DataError(
                f"{path}: its scale is not known: the file does not say the micrometres per pixel",
                hint="give it in the column 'mpp' of the slide table",
            )
        self.mpp = found

    @cached_property
    def fingerprint(self) -> str:
        """Hash the file's size and samples of its content: tells whether it was replaced."""
        digest = hashlib.sha256(self._quickhash.encode())
        num_bytes = self.path.stat().st_size
        digest.update(str(num_bytes).encode())
        with self.path.open("rb") as stream:
            for part in range(16):
                stream.seek(max(num_bytes - 65_536, 0) * part // 15)
                digest.update(stream.read(65_536))
        return digest.hexdigest()

    def scale(self, tiling: Tiling) -> Scale:
        """Decide how tiles are read.

        Raises:
            DataError: The scan is coarser than requested, and upsampling is not allowed.
        """
        found = scales.of_tiles(self._steps, self.mpp, tiling)
        if found is None:
            raise DataError(
                f"{self.path}: was scanned at {max(self.mpp):g} µm/px; {tiling.mpp:g} µm/px would "
                "be upsampling",
                hint="ask for a larger mpp, or set allow_upsampling",
            )
        return found

    def true_mpp(self, tiling: Tiling) -> float:
        """Give the micrometres per pixel that tiles truly have."""
        return self.scale(tiling).mpp

    def read(self, x: int, y: int, tiling: Tiling) -> np.ndarray:
        """Read a tile.

        Args:
            x: left edge in level-0 pixels.
            y: upper edge.
            tiling: side and scale of the tile.

        Returns:
            uint8 [tile_px, tile_px, 3].

        Raises:
            BrokenTileError: The region cannot be decoded; the slide stays usable.
        """
        corner, size = (float(x), float(y)), (tiling.tile_px, tiling.tile_px)
        return np.asarray(self._region(corner, size, self.scale(tiling), icc=tiling.icc))

    def thumbnail(self, max_px: int) -> tuple[np.ndarray, tuple[float, float]]:
        """Read the whole scan, its longer side at most `max_px`; what is broken is white.

        Returns:
            uint8 [height, width, 3], and the level-0 pixels per pixel along x and y.
        """
        found = self.survey(max_px)
        return found.rgb, found.step

    def survey(self, max_px: int) -> Survey:
        """Read the whole scan, its longer side at most `max_px`, and what of it is broken.

        Raises:
            BrokenTileError: Nothing of it can be decoded.
        """
        shrink = max(1.0, max(self.size) / max_px)
        width, height = (max(1, round(side / shrink)) for side in self.size)
        step = (self.size[0] / width, self.size[1] / height)
        scale = scales.of_picture(self._steps, self.mpp, step)
        whole = Image.new("RGB", (width, height), WHITE)
        broken = np.zeros((height, width), bool)
        blocks = _divided((0, 0, width, height), max(1, int(BLOCK_PX / max(scale.factor))))
        while blocks:
            left, top, right, bottom = block = blocks.pop()
            corner, size = (left * step[0], top * step[1]), (right - left, bottom - top)
            try:
                whole.paste(self._region(corner, size, scale, icc=False), (left, top))
            except BrokenTileError:
                if max(size) > max(8, *(side // 64 for side in whole.size)):
                    blocks += _divided(block, math.ceil(max(size) / 2))
                else:
                    broken[top:bottom, left:right] = True
        if broken.all():
            raise BrokenTileError(f"{self.path}: nothing of it can be decoded")
        return Survey(rgb=np.asarray(whole), step=step, mpp=scale.mpp, broken=broken)

    def close(self) -> None:
        """Close the file; the next use opens it again."""
        if self._file is not None and self._process == os.getpid():
            self._file.close()
        self._file = None

    def __enter__(self) -> "Slide":
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    def __getstate__(self) -> dict[str, object]:
        return {**self.__dict__, "_file": None, "_colours": None}

    def _opened(self) -> OpenSlideFile | PlainFile:
        if self._file is None or self._process != os.getpid():
            self._file, self._process = open_file(self.path), os.getpid()
        return self._file

    def _region(
        self, corner: tuple[float, float], size: tuple[int, int], scale: Scale, *, icc: bool
    ) -> Image.Image:
        """Read a region of `size` pixels at a scale; `corner` in level-0 pixels."""
        step = self._steps[scale.level]
        starts, lengths, boxes = [], [], []
        for axis in (0, 1):
            first, length = corner[axis] / step, size[axis] * scale.factor[axis]
            begin, end = round(first), round(first) + size[axis]
            if scale.factor != (1.0, 1.0):
                margin = SUPPORT * max(scale.factor[axis], 1.0) + 1
                edge = self.levels[scale.level][axis]
                begin = max(math.floor(first - margin), min(0, math.floor(first)))
                end = min(math.ceil(first + length + margin), max(edge, math.ceil(first + length)))
            starts.append(round(begin * step))
            lengths.append(end - begin)
            # OpenSlide reads from a level-0 pixel, which may lie between two pixels of the level
            offset = max(first - starts[axis] / step, 0.0)
            boxes.append((offset, min(offset + length, end - begin)))
        pixels = self._opaque(self._pixels(starts, scale.level, lengths), icc=icc)
        if scale.factor == (1.0, 1.0):
            return pixels
        (left, right), (top, bottom) = boxes
        return pixels.resize(size, Image.Resampling.LANCZOS, (left, top, right, bottom))

    def _pixels(self, start: list[int], level: int, size: list[int]) -> Image.Image:
        try:
            return self._opened().read(start[0], start[1], level, size[0], size[1])
        except BrokenTileError:
            self.close()  # OpenSlide answers nothing more after an error
            raise

    def _opaque(self, image: Image.Image, *, icc: bool) -> Image.Image:
        """Bring colours to sRGB, if asked and possible, and lay the image on white."""
        pixels = image if image.mode == "RGB" else image.convert("RGB")
        if icc and self.has_profile:
            ImageCms.applyTransform(pixels, self._to_srgb(), inPlace=True)
        if image.mode != "RGBA" or image.getchannel("A").getextrema() == (255, 255):
            return pixels
        paper = Image.new("RGB", image.size, WHITE)
        paper.paste(pixels, mask=image.getchannel("A"))
        return paper

    def _to_srgb(self) -> ImageCms.ImageCmsTransform:
        if self._colours is None:
            profile = self._opened().profile()
            try:
                self._colours = ImageCms.buildTransform(
                    profile,
                    ImageCms.createProfile("sRGB"),
                    "RGB",
                    "RGB",
                    ImageCms.Intent(ImageCms.getDefaultIntent(profile)),
                )
            except ImageCms.PyCMSError as error:
                raise DataError(f"{self.path}: its ICC profile is of no use: {error}") from error
        return self._colours


def open_slide(path: Path, *, mpp: float | None = None) -> Slide:
    """Open a scan.

    Args:
        path: the file.
        mpp: micrometres per level-0 pixel, in place of what the file says.

    Raises:
        DataError: It cannot be read, or its scale is not known.
    """
    return Slide(path, None if mpp is None else (mpp, mpp))


def _divided(box: tuple[int, int, int, int], side: int) -> list[tuple[int, int, int, int]]:
    """Divide a box (left, top, right, bottom) into squares of a side, and what is left of them."""
    left, top, right, bottom = box
    return [
        (x, y, min(x + side, right), min(y + side, bottom))
        for y in range(top, bottom, side)
        for x in range(left, right, side)
    ]
