"""From a table of slides to a data set: every slide read once, through all encoders asked for.

Bags are staged one by one and brought into the data set at the end, so that what was killed goes on
where it stopped, and ends with the same bytes as if nobody had disturbed it. What goes wrong with a
scan is named, and the others are finished.
"""

import itertools
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import psutil
import torch

from training.errors import DataError
from training.extraction import checking, gathering, pair_files, requests, staging, stored
from training.extraction.pace import Pace
from training.extraction.passing import Pass
from training.extraction.requests import Chosen, Request
from training.extraction.slide_table import Scan

MEMORY_SHARE = 0.6
"""Of the free memory, for the weights of encoders that work side by side."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Report:
    """What was embedded.

    Args:
        encoders: by name: views in the data set now, their tiles, their licence.
        num_slides: in the table.
        num_embedded: tiles embedded by this call.
        tiles_per_s: of this call.
        failed: what could not be done, a line each.
        notes: what the user should know, a line each.
        pairs: how well scans were registered, those of earlier calls among them; the refused, too.
    """

    encoders: Mapping[str, Mapping[str, Any]]
    num_slides: int
    num_embedded: int
    tiles_per_s: float
    failed: tuple[str, ...]
    notes: tuple[str, ...]
    pairs: tuple[Mapping[str, Any], ...] = ()


def run(
    request: Request,
    *,
    share: tuple[int, int] | None = None,
    on_progress: Callable[[Pace], None] | None = None,
) -> Report:
    """Embed what is missing, and bring it into the data set.

    Args:
        request: what.
        share: (number, of how many): the slides of one of several processes; what it embeds waits
            for a call without a share.
        on_progress: called after every batch.

    Raises:
        DataError: The request is wrong; nothing was embedded.
    """
    table = checking.check(request)
    chosen = [requests.choose(name, request) for name in request.encoders]
    if lines := [line for each in chosen for line in stored.conflicts(request.out, each, table)]:
        raise DataError("\n".join(lines))
    slides = {
        name: scans
        for number, (name, scans) in enumerate(table.slides.items())
        if share is None or number % share[1] == share[0]
    }
    failed: dict[str, str] = {}
    notes: dict[str, None] = {}
    groups = list(_groups(chosen, request.device))
    pace = Pace(num_slides=len(slides) * len(groups))
    recipes: dict[str, dict[str, str]] = {}
    for group in groups:
        config = request.config.model_copy(update={"tiling": group[0].tiling})
        done = Pass(
            data=request.out, config=config, chosen=group, device=request.device,
            workers=request.workers, pace=pace, on_progress=on_progress,
        )  # fmt: skip
        done.run(slides)
        failed |= done.failed
        notes |= dict.fromkeys(done.notes)
        recipes |= done.recipes
    lines = [f"scan {scan!r}: {text}" for scan, text in failed.items()]
    if share is None:
        for number, each in enumerate(chosen):
            lines += gathering.gather(
                request.out, each, table, recipes[each.encoder.name], request.config, notes,
                replacing=request.encoders[number + 1 :],
            )  # fmt: skip
            staging.tidy(request.out, each.encoder.name)
    return Report(
        encoders={e.encoder.name: gathering.counts(request.out, e.encoder.name) for e in chosen},
        num_slides=len(slides),
        num_embedded=pace.tiles,
        tiles_per_s=pace.tiles_per_s,
        failed=tuple(dict.fromkeys(lines)),
        notes=tuple(notes),
        pairs=tuple(_pairs(request, slides, failed)),
    )


def _pairs(
    request: Request, slides: Mapping[str, tuple[Scan, ...]], failed: Collection[str]
) -> Iterator[Mapping[str, Any]]:
    if request.config.registration is not None:
        for pair in pair_files.read(request.out / "thumbnails", slides, without=failed):
            yield pair.model_dump()


def _groups(chosen: Sequence[Chosen], device: str) -> Iterator[list[Chosen]]:
    """Group encoders that get the same tiles and whose weights have room side by side."""
    room = MEMORY_SHARE * _free(device)
    key = [each.tiling.model_dump_json() for each in chosen]
    for tiling in dict.fromkeys(key):
        group: list[Chosen] = []
        for each in itertools.compress(chosen, (text == tiling for text in key)):
            if group and sum(e.weights.path.stat().st_size for e in (*group, each)) > room:
                yield group
                group = []
            group.append(each)
        yield group


def _free(device: str) -> float:
    if device.startswith("cuda"):
        return float(torch.cuda.mem_get_info(torch.device(device))[0])
    return float(psutil.virtual_memory().available)
