"""The section of slides: where attention lies on the pictures of scans, where there are any.

Pictures are those that `sweep embed` leaves under `thumbnails/` of the data; attention is kept
where the spec asks for it. A slide without either is passed over.
"""

import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import quote

import numpy as np
import pandas as pd

from orchestrator import canvas, figures, figures_slides, files, store
from orchestrator.figures_slides import Attended
from orchestrator.report_material import Material
from orchestrator.report_parts import Section

SLIDES_MAX = 2
"""Slides of an encoder that are drawn, each on two scanners."""
ENCODERS_MAX = 4
SIDE_MAX = 420
"""Longer side of a picture on the page, pixels."""


@dataclass(frozen=True, slots=True, kw_only=True)
class _Kept:
    """Attention that a trial kept.

    Attributes:
        trial: which.
        scans: slide, view and scanner of the rows.
        tile: [scan, top] tile numbers, -1 where there are no more.
        weight: [scan, top] attention.
    """

    trial: str
    scans: pd.DataFrame
    tile: np.ndarray
    weight: np.ndarray


def sections(material: Material) -> list[Section]:
    """Make the section; none where no attention was kept or no picture is there."""
    if material.data is None or not (material.data / "thumbnails").is_dir():
        return []
    drawn = [figures_slides.attention(shown) for shown in _shown(material, material.data)]
    if not drawn:
        return []
    return [
        Section(
            anchor="slides",
            title="Where the models look",
            text=(
                "The tiles with the most attention, on the same slides from two scanners: the "
                "first slides by name that have pictures, a trial each of the reference arm and "
                "of the last arm that kept attention. Attention is no explanation; it shows "
                "whether the scanners make a model look elsewhere.",
            ),
            figures=tuple(drawn),
        )
    ]


def _shown(material: Material, data: Path) -> Iterator[Attended]:
    from training.data import index

    rows = index.read(data).index
    for encoder in list(dict.fromkeys(material.plan["encoder"]))[:ENCODERS_MAX]:
        own = rows[(rows["encoder"] == encoder) & (rows["view"] == rows["scan"])]
        own = own[[_is_there(data, scan) for scan in own["scan"]]].set_index("view")
        both = own.groupby("slide")["scanner"].nunique()
        slides = sorted(both.index[both > 1])
        for name, kept in _trials(material, encoder):
            yield from _of(kept, own, slides, data=data, encoder=encoder, name=name)


def _of(
    kept: _Kept,
    rows: pd.DataFrame,
    slides: Sequence[str],
    *,
    data: Path,
    encoder: str,
    name: str,
) -> Iterator[Attended]:
    """Give the first slides that a trial held out, on two scanners each."""
    from training.data.bags import BagReader

    reader = BagReader(data)
    there = kept.scans[kept.scans["view"].isin(rows.index)].drop_duplicates(["slide", "scanner"])
    for slide in [each for each in slides if (there["slide"] == each).sum() > 1][:SLIDES_MAX]:
        for place in there.index[there["slide"] == slide][:2]:
            view = str(kept.scans["view"][place])
            row = rows.reset_index().iloc[rows.index.get_loc(view)]
            where = dict(zip(reader.tiles(row).tolist(), reader.coords(row), strict=True))
            found = [
                (where[tile], weight)
                for tile, weight in zip(kept.tile[place].tolist(), kept.weight[place], strict=True)
                if tile in where and (where[tile] >= 0).all()
            ]
            picture, step, span = _read(_picture(data, str(row["scan"])))
            yield Attended(
                encoder=encoder,
                cell=name,
                slide=slide,
                scanner=str(row["scanner"]),
                picture=picture,
                corners=np.array([corner for corner, _ in found], float).reshape(-1, 2) / step,
                span=span,
                weight=np.array([weight for _, weight in found], float),
            )


def _trials(material: Material, encoder: str) -> Iterator[tuple[str, _Kept]]:
    """Give the first trial with attention of the reference arm, and of the last other arm."""
    cells = material.joined.cells
    own = cells[cells["encoder"] == encoder]
    rows = material.joined.rows
    reference = own.index[own["arm"] == material.reference]
    others = own.index[own["arm"] != material.reference][::-1]
    segments = store.counting(material.folder)
    for group in (reference, others):
        for cell in group:
            trials = rows.loc[rows["cell"] == cell, "trial"].tolist()
            kept = next((k for t in trials if (k := _attention(segments, t)) is not None), None)
            if kept is not None:
                yield figures.names(cells.loc[[cell]], material.axes)[0], kept
                break


def _attention(segments: dict[Path, set[str]], trial: str) -> _Kept | None:
    """Read the attention that a trial kept; None where it kept none."""
    segment = next((path for path, ids in segments.items() if trial in ids), None)
    path = segment / "artefacts" / "attention.safetensors" if segment else None
    if path is None or not path.is_file():
        return None
    with files.tensors(path) as file:
        if f"{trial}.tile" not in set(file.keys()):
            return None
        tile, weight = file.get_tensor(f"{trial}.tile"), file.get_tensor(f"{trial}.weight")
    scans = files.read_frame(path.with_name("scans.parquet"))
    return _Kept(trial=trial, scans=scans, tile=tile, weight=weight)


def _picture(data: Path, scan: str) -> Path:
    """Tell where the picture of a scan lies, as `sweep embed` names it."""
    return data / "thumbnails" / f"{quote(scan, safe=' ')}.png"


def _is_there(data: Path, scan: str) -> bool:
    path = _picture(data, scan)
    return path.is_file() and path.with_suffix(".json").is_file()


def _read(path: Path) -> tuple[np.ndarray, np.ndarray, float]:
    """Read a picture made small, its pixels' size in level-0 pixels, and a tile's side on it."""
    facts = json.loads(path.with_suffix(".json").read_text("utf-8"))
    picture = canvas.picture(path, SIDE_MAX)
    height, width = picture.shape[:2]
    step = np.array(facts["size"], float) / (width, height)
    return picture, step, float(facts["tile_span"][0]) / float(step[0])
