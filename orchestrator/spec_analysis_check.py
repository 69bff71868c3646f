"""What is wrong with the primary analysis of a spec: names that are not there, open settings."""

import difflib
from collections.abc import Iterator, Sequence
from typing import Any

from pydantic import ValidationError

from orchestrator import spec_axes, spec_expand
from orchestrator.spec_analysis import OF_CLASSES, OF_SURVIVAL, Analysis
from orchestrator.spec_axes import Flaw
from orchestrator.spec_expand import Cell
from orchestrator.spec_lines import Place
from orchestrator.spec_model import Spec
from orchestrator.spec_problems import shown


def flaws(spec: Spec) -> Iterator[Flaw]:
    """Find what is wrong; nothing where no analysis is declared."""
    analysis = spec.analysis
    if analysis is None:
        return
    yield from _names(spec, analysis)
    if analysis.arm == analysis.against:
        text = f"found {shown(analysis.against)}, the arm that is judged; expected another arm"
        yield Flaw(("analysis", "against"), text)
    survival = spec.task is not None and getattr(spec.task, "kind", "") == "survival"
    metrics = OF_SURVIVAL if survival else OF_CLASSES
    for key in ("metric", "margin_metric"):
        value = getattr(analysis, key)
        if value is not None and value not in metrics:
            kind = "survival" if survival else "class"
            yield Flaw(
                ("analysis", key), f"found {shown(value)}; expected a metric of a {kind} task"
            )
    if analysis.margin_metric is not None and analysis.margin is None:
        yield Flaw(("analysis", "margin_metric"), "is without effect: no margin is given")


def cell_flaws(spec: Spec) -> Iterator[Flaw]:
    """Find settings that the analysis leaves open, in a spec that is sound otherwise."""
    analysis = spec.analysis
    if analysis is None:
        return
    axes = spec_axes.axis_keys(spec)
    for key in analysis.where:
        if key not in axes:
            yield _unknown(("analysis", "where", key), key, axes, "an axis of the spec")
    where = {key: value for key, value in analysis.where.items() if key in axes}
    cells = [
        (draft.encoder, draft.arm, cell)
        for draft, cell, excluded in spec_expand.outcomes(spec)
        if not excluded and isinstance(cell, Cell) and draft.arm in (analysis.arm, analysis.against)
    ]
    family = analysis.family or spec.encoder_names
    for key in ("arm", "against"):
        name = getattr(analysis, key)
        for encoder in family:
            own = [cell for of, arm, cell in cells if of == encoder and arm == name]
            left = [cell for cell in own if key == "against" or _fits(cell, where)]
            if not left:
                found = "no cell" if not own else "no cell with these settings (where)"
                yield Flaw(("analysis", key), f"found {found} of {shown(name)} for {encoder}")
            elif len(left) > 1 and spec.select is None and (key == "arm" or not where):
                text = (
                    f"found {len(left)} settings of {shown(name)} for {encoder}; expected `where` "
                    "that leaves one, or `select` in the spec"
                )
                yield Flaw(("analysis", key), text)
                break


def _names(spec: Spec, analysis: Analysis) -> Iterator[Flaw]:
    for key in ("arm", "against"):
        if getattr(analysis, key) not in spec.arms:
            yield _unknown(("analysis", key), getattr(analysis, key), list(spec.arms), "an arm")
    for place, encoder in enumerate(analysis.family or ()):
        if encoder not in spec.encoder_names:
            names = spec.encoder_names
            yield _unknown(("analysis", "family", place), encoder, names, "an encoder of the spec")


def _unknown(place: Place, name: str, names: Sequence[str], what: str) -> Flaw:
    near = difflib.get_close_matches(name, names, n=1)
    meant = f"; did you mean {near[0]}?" if near else ""
    return Flaw(place, f"found {shown(name)}; expected {what}{meant}")


def _fits(cell: Cell | ValidationError, where: dict[str, Any]) -> bool:
    return isinstance(cell, Cell) and all(cell.at(key) == value for key, value in where.items())
