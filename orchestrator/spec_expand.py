"""From a spec to its cells: settings in layers, and the product of the axes.

Layers, later ones win: the spec, its grid and zip, the encoder, the arm, the arm's grid and zip. A
layer that changes the `kind` of the head or of the folds drops those settings of earlier layers
that the new kind lacks. The settings of an arm's search come last.
"""

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import product
from math import prod
from types import MappingProxyType
from typing import Any

from pydantic import ValidationError

from orchestrator import spec_assembly, spec_search
from orchestrator.spec_axes import Choice, axes_of, open_axes
from orchestrator.spec_lines import Place
from orchestrator.spec_model import Spec, given, kinds
from orchestrator.spec_search import Search, Setting
from orchestrator.trial import hash_of
from training.config import Loss, TrialConfig
from training.identity import canonical


@dataclass(frozen=True, slots=True, kw_only=True)
class Searched:
    """Where a cell of a search comes from.

    Args:
        search: of its arm.
        group: names the cells that the search compares: all but the settings is the same in them.
        setting: this one's.
    """

    search: Search
    group: str
    setting: Setting


@dataclass(frozen=True, slots=True)
class Draft:
    """A cell before validation; `searched` is None where no search made it."""

    encoder: str
    arm: str
    values: dict[str, Any]
    choices: tuple[Choice, ...]
    searched: Searched | None = None


@dataclass(frozen=True, slots=True)
class Cell:
    """A valid cell: its configuration, for fold 0 and seed 0, and its losses by the arm's names."""

    config: TrialConfig
    losses: Mapping[str, Loss]

    def at(self, key: str) -> Any:
        """Return the value of a dotted key; None if this cell has no such setting."""
        first, *rest = key.split(".")
        value: Any = self.losses.get(rest.pop(0)) if first == "losses" else self.config
        for name in rest if first == "losses" else (first, *rest):
            value = getattr(value, name, None)
        return list(value) if isinstance(value, tuple) else value


def num_drafts(spec: Spec) -> int:
    """Count the cells before exclusions, without making them."""
    return sum(
        prod(map(len, (*open_axes(spec, encoder, arm), *axes_of(arm, ("arms", name)))))
        * (arm.search.samples if arm.search else 1)
        for encoder in spec.encoder_names
        for name, arm in spec.arms.items()
    )


def outcomes(
    spec: Spec, suggested: Mapping[str, Sequence[Setting]] = MappingProxyType({})
) -> Iterator[tuple[Draft, Cell | ValidationError, list[int]]]:
    """Go through all cells in order: encoders, arms, axes, settings of a search.

    Args:
        spec: which cells.
        suggested: by group of a search, the settings that followed from results.

    Yields:
        The draft, what became of it, and the positions of the exclusions that it fits.
    """
    for draft in _drafts(spec, suggested):
        cell = _validate(draft)
        yield draft, cell, [n for n, e in enumerate(spec.exclude) if _fits(e, draft, cell)]


def origin(spec: Spec, draft: Draft, target: Place) -> Place:
    """Find the place in the spec from which a cell's setting came, or where it would be.

    Args:
        spec: the spec of the cell.
        draft: the cell.
        target: keys that lead to the setting in the cell's configuration; none for the whole cell.
    """
    if not target:
        return ("arms", draft.arm)
    layers: list[tuple[Place, dict[str, Any]]] = [
        (("arms", draft.arm), given(spec.arms[draft.arm])),
        (("encoders", draft.encoder), given(spec.own_settings(draft.encoder))),
        ((), given(spec)),
    ]
    for length in range(len(target), 0, -1):
        path, rest = target[:length], target[length:]
        for choice in draft.choices:
            if ".".join(map(str, path)) == choice.key:
                return (*choice.place, *rest)
        for prefix, values in layers:
            if _has(values, path):
                return (*prefix, *target)
    return target


def payload(draft: Draft) -> dict[str, Any]:
    """Write a draft as the configuration of its fold 0 and seed 0."""
    losses = list(draft.values.get("losses", {}).values())
    return draft.values | {"losses": losses, "encoder": draft.encoder, "fold": 0, "seed": 0}


def _drafts(spec: Spec, suggested: Mapping[str, Sequence[Setting]]) -> Iterator[Draft]:
    base = given(spec)
    for encoder in spec.encoder_names:
        own = given(spec.own_settings(encoder))
        for name, arm in spec.arms.items():
            inner, outer = given(arm), open_axes(spec, encoder, arm)
            for picks in product(*outer, *axes_of(arm, ("arms", name))):
                first = [choice for pick in picks[: len(outer)] for choice in pick]
                last = [choice for pick in picks[len(outer) :] for choice in pick]
                layers = (base, _nested(first), own, inner, _nested(last))
                draft = Draft(encoder, name, _merged(layers), (*first, *last))
                yield from _settings(draft, arm.search, suggested) if arm.search else (draft,)


def _settings(
    draft: Draft, search: Search, suggested: Mapping[str, Sequence[Setting]]
) -> Iterator[Draft]:
    """Make the cells of a search out of the cell that they have in common."""
    group = ""
    fixed = spec_search.initial(search)
    for setting in fixed:
        one = _set(draft, setting)
        group = group or _group(one, search)
        yield replace(one, searched=Searched(search=search, group=group, setting=setting))
    for setting in suggested.get(group, ())[: search.samples - len(fixed)]:
        searched = Searched(search=search, group=group, setting=setting)
        yield replace(_set(draft, setting), searched=searched)


def _set(draft: Draft, setting: Setting) -> Draft:
    place = ("arms", draft.arm, "search", "space")
    choices = [Choice(key, value, (*place, key)) for key, value in setting.items()]
    values = _merged((draft.values, _nested(choices)))
    return replace(draft, values=values, choices=(*draft.choices, *choices))


def _group(first: Draft, search: Search) -> str:
    """Name the cells of a search by the first of them, and by how the others follow."""
    cell = _validate(first)
    whole = canonical(cell.config) if isinstance(cell, Cell) else json.dumps(payload(first))
    return hash_of(json.dumps([whole, spec_search.identity(search)]))


def _nested(choices: Sequence[Choice]) -> dict[str, Any]:
    values: dict[str, Any] = {}
    for choice in choices:
        *outer, last = choice.key.split(".")
        inner = values
        for key in outer:
            inner = inner.setdefault(key, {})
        inner[last] = choice.value
    return values


def _merged(layers: Sequence[dict[str, Any]]) -> dict[str, Any]:
    merged: dict[str, Any] = {}
    for depth, layer in enumerate(layers):
        for name, value in layer.items():
            if not isinstance(value, dict):
                merged[name] = value
                continue
            old = merged.get(name, {})
            if name == "losses":
                value = {key: {**old.get(key, {}), **loss} for key, loss in value.items()}
            elif fields := _fields_of_later_kind(name, layers[depth + 1 :]):
                value = {key: value[key] for key in value if key in fields}
            merged[name] = {**old, **value}
    return merged


def _fields_of_later_kind(name: str, later: Sequence[dict[str, Any]]) -> set[str]:
    """Fields of the kind that a later layer sets; empty if none does or it does not exist."""
    options = kinds(TrialConfig, name)
    for layer in reversed(later) if options else ():
        kind = layer.get(name, {}).get("kind")
        if kind is not None:
            return set(options[kind].model_fields) if str(kind) in options else set()
    return set()


def _validate(draft: Draft) -> Cell | ValidationError:
    try:
        config = spec_assembly.config(payload(draft))
    except ValidationError as error:
        return error
    named = dict(zip(draft.values.get("losses", {}), config.losses, strict=True))
    if len(config.losses) > 1:
        ordered = sorted(config.losses, key=lambda loss: (loss.kind, canonical(loss)))
        config = config.model_copy(update={"losses": tuple(ordered)})
    return Cell(config, named)


def _fits(entry: Mapping[str, Any], draft: Draft, cell: Cell | ValidationError) -> bool:
    for key, wanted in entry.items():
        if key in ("encoder", "arm"):
            found: Any = draft.encoder if key == "encoder" else draft.arm
        else:
            found = cell.at(key) if isinstance(cell, Cell) else _within(draft.values, key)
        if found not in (wanted if isinstance(wanted, list) else [wanted]):
            return False
    return True


def _within(values: Any, key: str) -> Any:
    for name in key.split("."):
        values = values.get(name) if isinstance(values, dict) else None
    return values


def _has(values: Any, target: Place) -> bool:
    for step in target:
        if not isinstance(values, dict) or step not in values:
            return False
        values = values[step]
    return True
