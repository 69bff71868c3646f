"""Opens image files: whole-slide formats and tiled TIFF through OpenSlide, others through Pillow.

The only file that imports openslide. A file gives its levels and regions of them; scales, colours
and resampling are the matter of `slides`.
"""

import io
import math
import warnings
from pathlib import Path

import openslide
from PIL import Image, ImageCms, TiffImagePlugin, UnidentifiedImageError

from training.errors import DataError

FORMATS = ("PNG", "JPEG", "TIFF", "BMP")
SUFFIXES = (".png", ".jpg", ".jpeg", ".tif", ".tiff", ".bmp")
"""Other names are never plain pictures: an MRXS file without its folder, for one, is a JPEG."""
MAX_MPP = 20.0
"""Coarser than any scan; print resolutions such as 72 dpi lie above and are no scale."""

ICC_SIZE = "openslide.icc-size"
TIFF_RESOLUTION, TIFF_UNIT, TIFF_TILE_WIDTH = (282, 283), 296, 322
MICROMETRES = {2: 25_400.0, 3: 10_000.0}
EIGHT_BITS = ("1", "L", "LA", "P", "PA", "RGB", "RGBA", "CMYK", "YCbCr")


class BrokenTileError(DataError):
    """A region of an otherwise readable scan cannot be decoded; callers count these."""


def open_file(path: Path) -> "OpenSlideFile | PlainFile":
    """Open a file with OpenSlide if that knows the format, else with Pillow.

    Raises:
        DataError: It is missing, empty, no image, damaged or of a kind that cannot be tiles.
    """
    _look(path)
    try:
        if openslide.OpenSlide.detect_format(path) is not None:
            return OpenSlideFile(path)
    except openslide.OpenSlideError as error:
        raise DataError(
            f"{path}: cannot be read: {error}", hint="copy the file again; it may be truncated"
        ) from error
    if path.suffix.lower() not in SUFFIXES:
        raise _foreign(path)
    return PlainFile(path)


class OpenSlideFile:
    """A file that OpenSlide reads.

    Attributes:
        vendor: format.
        levels: width and height of every stored level, the largest first.
        steps: level-0 pixels per pixel of every level.
        mpp: micrometres per level-0 pixel along x and y, if the file says them.
        quickhash: OpenSlide's hash of the content; may be empty.
        has_profile: whether an ICC profile is in it.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._slide = openslide.OpenSlide(path)
        properties = self._slide.properties
        self.vendor = properties[openslide.PROPERTY_NAME_VENDOR]
        self.levels = self._slide.level_dimensions
        self.steps = self._slide.level_downsamples
        self.mpp = _scale(
            properties.get(openslide.PROPERTY_NAME_MPP_X),
            properties.get(openslide.PROPERTY_NAME_MPP_Y),
        )
        self.quickhash = properties.get(openslide.PROPERTY_NAME_QUICKHASH1, "")
        self.has_profile = ICC_SIZE in properties

    def read(self, x: int, y: int, level: int, width: int, height: int) -> Image.Image:
        """Read a region, RGBA, transparent outside; x and y are level-0 pixels.

        Raises:
            BrokenTileError: It cannot be decoded; the file must be opened again.
        """
        try:
            return self._slide.read_region((x, y), level, (width, height))
        except openslide.OpenSlideError as error:
            raise BrokenTileError(
                f"{self._path}: the region of {width} × {height} px at ({x}, {y}) of level {level} "
                f"cannot be decoded: {error}"
            ) from error

    def profile(self) -> ImageCms.ImageCmsProfile:
        """Read the ICC profile.

        Raises:
            DataError: It is damaged.
        """
        try:
            profile = self._slide.color_profile
        except ImageCms.PyCMSError as error:
            raise DataError(f"{self._path}: its ICC profile cannot be read: {error}") from error
        assert profile is not None
        return profile

    def close(self) -> None:
        """Close the file."""
        self._slide.close()


class PlainFile:
    """The first page of what Pillow reads, held in memory; speaks as an `OpenSlideFile`."""

    quickhash = ""

    def __init__(self, path: Path) -> None:
        self._path = path
        image = _decode(path)
        self._profile = image.info.get("icc_profile", b"")
        self._image = image if image.mode == "RGB" else image.convert("RGBA")
        self.vendor = (image.format or "").lower()
        self.levels: tuple[tuple[int, int], ...] = (image.size,)
        self.steps: tuple[float, ...] = (1.0,)
        self.mpp = _tiff_scale(image) if isinstance(image, TiffImagePlugin.TiffImageFile) else None
        self.has_profile = bool(self._profile)

    def read(self, x: int, y: int, level: int, width: int, height: int) -> Image.Image:
        """Read a region, RGB or RGBA; see `OpenSlideFile`."""
        assert level == 0
        left, top = max(x, 0), max(y, 0)
        right, bottom = min(x + width, self._image.width), min(y + height, self._image.height)
        if (right - left, bottom - top) == (width, height):
            return self._image.crop((left, top, right, bottom))
        region = Image.new("RGBA", (width, height))
        if left < right and top < bottom:
            inner = self._image.crop((left, top, right, bottom)).convert("RGBA")
            region.paste(inner, (left - x, top - y))
        return region

    def profile(self) -> ImageCms.ImageCmsProfile:
        """Read the ICC profile; see `OpenSlideFile`."""
        try:
            return ImageCms.getOpenProfile(io.BytesIO(self._profile))
        except (ImageCms.PyCMSError, OSError) as error:
            raise DataError(f"{self._path}: its ICC profile cannot be read: {error}") from error

    def close(self) -> None:
        """Free the pixels."""
        self._image.close()


def _look(path: Path) -> None:
    """Refuse what is no file with content."""
    try:
        if path.is_dir():
            raise DataError(f"{path}: is a folder, expected the file of a scan")
        if path.stat().st_size == 0:
            raise DataError(f"{path}: is empty (0 bytes)", hint="copy the file again")
        with path.open("rb"):
            pass
    except OSError as error:
        raise DataError(f"{path}: cannot be read: {error.strerror}") from error


def _foreign(path: Path) -> DataError:
    return DataError(
        f"{path}: is neither a slide that OpenSlide knows nor a plain picture "
        f"({', '.join(FORMATS)}), or it is truncated",
        hint="copy it again, with the files beside it that belong to it",
    )


def _decode(path: Path) -> Image.Image:
    """Read a whole picture; Pillow's limit against decompression bombs stands, at 179 Mpx."""
    tiled = "store it as a tiled, pyramidal TIFF"
    try:
        with path.open("rb") as stream, warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of large pictures and of odd metadata
            image = Image.open(stream, formats=FORMATS)
            image.load()
    except Image.DecompressionBombError as error:
        raise DataError(f"{path}: is too large for a plain picture: {error}", hint=tiled) from error
    except UnidentifiedImageError as error:
        raise _foreign(path) from error
    except (OSError, SyntaxError, ValueError) as error:
        raise DataError(
            f"{path}: cannot be decoded: {error}", hint="copy the file again; it may be truncated"
        ) from error
    if isinstance(image, TiffImagePlugin.TiffImageFile) and TIFF_TILE_WIDTH in image.tag_v2:
        raise _foreign(path)  # OpenSlide reads all tiled ones that are whole
    if image.mode not in EIGHT_BITS:
        raise DataError(f"{path}: its pixels are {image.mode!r}, expected 8 bits a channel")
    return image


def _scale(*values: object) -> tuple[float, float] | None:
    """Take the scale along x and y from the file, unless it is absent or absurd."""
    try:
        x, y = (float(str(value)) for value in values)
    except ValueError:
        return None
    sensible = all(math.isfinite(each) and 0 < each <= MAX_MPP for each in (x, y))
    return (x, y) if sensible else None


def _tiff_scale(image: TiffImagePlugin.TiffImageFile) -> tuple[float, float] | None:
    """Read the scale from the resolution tags, where their unit is an inch or a centimetre."""
    unit = MICROMETRES.get(image.tag_v2.get(TIFF_UNIT, 2))
    dots = [float(image.tag_v2.get(tag, 0)) for tag in TIFF_RESOLUTION]
    return _scale(*(unit / each for each in dots)) if unit and all(dots) else None
