"""Find everything that is wrong with a spec, all at once.

First the keys and values as written, then grid, zip and exclude, then every cell as a whole. What
is wrong is reported, cut out or replaced, and the rest is checked further.
"""

import json
import os
from functools import cache
from itertools import takewhile
from pathlib import Path
from typing import Any

from pydantic import ValidationError
from pydantic_core import ErrorDetails

from orchestrator import spec_analysis_check, spec_axes, spec_expand, spec_search_check
from orchestrator.spec_expand import Cell, Draft
from orchestrator.spec_lines import Place, Source
from orchestrator.spec_model import Language, Spec
from orchestrator.spec_problems import describe, place_of, shown
from training.config import TrialConfig, num_folds

MAX_TRIALS = 200_000

_STAND_INS: dict[str, Any] = {
    "task": {},
    "data": ".",
    "encoders": ["missing"],
    "seeds": 1,
    "arms": {"missing": {"views": "routine"}},
    "views": "all",
}
"""What takes the place of a required key that is missing or wrong, to check the rest."""


def check(source: Source, path: Path) -> tuple[Spec, tuple[str, ...]]:
    """Check a spec that was loaded.

    Args:
        source: its tree and lines.
        path: its file: for the default name, and for the data folder relative to it.

    Returns:
        The spec, and warnings.

    Raises:
        SpecError: lists every problem.
    """
    _settle(source, path)
    cut: set[Place] = set()
    spec = _validate(source, cut)
    flaws = (spec_axes.flaws(spec), spec_search_check.flaws(spec), spec_analysis_check.flaws(spec))
    for flaw in [flaw for part in flaws for flaw in part]:
        if not (str(flaw.place[-1]).startswith("losses.") and any(old[0] == "arms" for old in cut)):
            source.report(flaw.place, flaw.text)
        if not flaw.usable:
            _cut(source.tree, flaw.place)
            cut.add(flaw.place)
    spec = _validate(source, cut)
    if spec_expand.num_drafts(spec) * len(spec.seed_numbers) > MAX_TRIALS:
        found = f"{spec_expand.num_drafts(spec):,} cells × {len(spec.seed_numbers):,} seeds"
        source.report(("arms",), f"found {found}; expected at most {MAX_TRIALS:,} trials")
        source.refuse()
    warnings = _check_cells(spec, source, cut)
    source.refuse()
    for flaw in spec_analysis_check.cell_flaws(spec):
        source.report(flaw.place, flaw.text)
    source.refuse()
    remarks = [source.say(place, text) for place, text in spec_search_check.remarks(spec)]
    return spec, (*warnings, *remarks)


@cache
def schema() -> dict[str, Any]:
    """Make the JSON Schema of the spec language."""
    found: dict[str, Any] = Language.model_json_schema()
    found["$schema"] = "https://json-schema.org/draft/2020-12/schema"
    losses = {"pattern": r"^losses\.[A-Za-z0-9_-]+\.[a-z_]+$"}
    keys = {"type": "string", "anyOf": [{"enum": list(spec_axes.settings())}, losses]}
    for part in (found, found["$defs"]["Arm"]):
        part["properties"]["grid"]["propertyNames"] = keys
        part["properties"]["zip"]["items"]["propertyNames"] = keys
    for name in ("RandomSearch", "AshaSearch", "OptunaSearch"):
        found["$defs"][name]["properties"]["space"]["propertyNames"] = keys
    return found


def _settle(source: Source, path: Path) -> None:
    """Fill in the name, and make the data folder absolute."""
    source.tree.setdefault("name", path.stem)
    data = source.tree.get("data")
    if isinstance(data, str):
        expanded, found = os.path.expandvars(data), shown(data)
        if "$" in expanded:
            source.report(("data",), f"found {found}; expected environment variables that are set")
        if not data.isprintable():
            source.report(("data",), f"found {found}; expected a path without control characters")
        try:
            folder = (path.parent / Path(expanded).expanduser()).resolve()
            if folder.is_file():
                source.report(("data",), f"found {found}, a file; expected a folder")
            source.tree["data"] = str(folder)
        except (OSError, RuntimeError, ValueError) as error:
            reason = error.strerror if isinstance(error, OSError) else error
            source.report(("data",), f"found {found}; expected the path of a folder: {reason}")


def _validate(source: Source, cut: set[Place]) -> Spec:
    """Report what is wrong in the tree and cut it, until the rest is a spec."""
    while True:
        try:
            spec: Spec = Spec.model_validate_json(json.dumps(source.tree), strict=True)
            return spec
        except ValidationError as error:
            found = _located(error, source.tree)
        for place, item in found:
            if not _follows(place, item, cut):
                source.report(place, describe(item, place, schema()))
        for place, item in found:
            if item["type"] == "missing":
                _stand_in(source.tree, place)
            else:
                _cut(source.tree, place)
        cut.update(place for place, _ in found)


def _located(error: ValidationError, tree: dict[str, Any]) -> list[tuple[Place, ErrorDetails]]:
    """Give each problem its place; a list that lacks only sound items is not called too short."""
    found = [(place_of(item, tree), item) for item in error.errors()]
    return [
        (place, item)
        for place, item in found
        if item["type"] != "too_short"
        or not any(other[: len(place)] == place != other for other, _ in found)
    ]


@cache
def _config_schema() -> dict[str, Any]:
    return TrialConfig.model_json_schema()


def _cut(tree: dict[str, Any], place: Place) -> None:
    """Cut a key from the tree; of a list, the key that holds it."""
    *outer, last = takewhile(lambda step: isinstance(step, str), place)
    inner: Any = tree
    for step in outer:
        inner = inner.get(step) if isinstance(inner, dict) else None
    if isinstance(inner, dict):
        inner.pop(last, None)


def _stand_in(tree: dict[str, Any], place: Place) -> None:
    """Put something valid where a required key is missing, or cut what lacks it."""
    *outer, last = place
    if last not in _STAND_INS:
        _cut(tree, place[:-1])
        return
    inner: Any = tree
    for step in outer:
        inner = inner.get(step) if isinstance(inner, dict) else None
    if isinstance(inner, dict):  # what lacks the key may be cut by now for another reason
        inner[last] = _STAND_INS[str(last)]


def _follows(place: Place, item: ErrorDetails, cut: set[Place]) -> bool:
    """Say whether a problem is only there because something was cut."""
    if any(place[: len(old)] == old for old in cut):
        return True
    incomplete = item["type"] in ("missing", "union_tag_not_found", "value_error", "too_short")
    return incomplete and any(old[: len(place)] == place for old in cut)


def _check_cells(spec: Spec, source: Source, cut: set[Place]) -> tuple[str, ...]:
    """Report what is wrong with whole cells; return what the reader should look at."""
    idle, empty = set(range(len(spec.exclude))), dict.fromkeys(spec.arms)
    num_trials = 0
    for draft, cell, excluded in spec_expand.outcomes(spec):
        idle.difference_update(excluded)
        if excluded:
            continue
        empty.pop(draft.arm, None)
        if isinstance(cell, Cell):
            num_trials += num_folds(cell.config.folds) * len(spec.seed_numbers)
            if flaw := spec_search_check.cell_flaw(draft, cell):
                source.report(flaw.place, flaw.text)
        else:
            for inside, item in _located(cell, spec_expand.payload(draft)):
                _report_cell(spec, source, draft, item, inside, cut)
    if num_trials > MAX_TRIALS:
        text = f"found {num_trials:,} trials; expected at most {MAX_TRIALS:,}"
        source.report(("arms",), text)
    if len(empty) == len(spec.arms):
        source.report(("exclude",), "found every cell excluded; expected some to remain")
    idle_lines = [source.say(("exclude", number), "fits no cell") for number in sorted(idle)]
    empty_lines = [source.say(("arms", arm), "all its cells are excluded") for arm in empty]
    return (*idle_lines, *empty_lines)


def _report_cell(
    spec: Spec,
    source: Source,
    draft: Draft,
    item: ErrorDetails,
    inside: Place,
    cut: set[Place],
) -> None:
    text, target = describe(item, inside, _config_schema()), inside
    if inside[:1] == ("losses",) and len(inside) > 1:
        names = list(draft.values["losses"])
        target = ("losses", names[int(inside[1])], *inside[2:])
    place = spec_expand.origin(spec, draft, target)
    owners: tuple[Place, ...] = ((), ("arms", draft.arm), ("encoders", draft.encoder))
    if not any(_follows((*owner, *target), item, cut) for owner in owners if target):
        source.report(place, text)
