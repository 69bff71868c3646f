"""What is wrong with the searches of a spec, and what the reader should know of them."""

from collections.abc import Iterator, Sequence
from typing import Annotated, Any

from pydantic import TypeAdapter, ValidationError
from pydantic.fields import FieldInfo

from orchestrator import spec_search
from orchestrator.spec_axes import Flaw, loss_keys, settings
from orchestrator.spec_expand import Cell, Draft
from orchestrator.spec_lines import Place
from orchestrator.spec_model import Arm, Spec, kinds, section
from orchestrator.spec_problems import describe, shown, unknown
from orchestrator.spec_search import (
    AshaSearch,
    Choices,
    OptunaSearch,
    RandomSearch,
    Range,
    Search,
)
from training.config import CohortFolds, TrialConfig, num_folds

SECTIONS = ("optim", "regularisation", "mixstyle", "input", "head", "sampling")
"""What a search may set, beside losses: nothing that changes what is predicted, or on whom."""

_OF_A_LANE = ("optim.lr", "optim.weight_decay", "optim.clip")


def flaws(spec: Spec) -> Iterator[Flaw]:
    """Find what is wrong with the searches as they are written."""
    for name, arm in spec.arms.items():
        if arm.search is None:
            continue
        place: Place = ("arms", name, "search")
        found = list(_space_flaws(arm, arm.search, (*place, "space")))
        yield from found
        if found:
            continue
        drawn = len(spec_search.initial(arm.search.model_copy(update=_whole(arm.search))))
        if drawn < arm.search.samples:
            text = f"found {arm.search.samples}; expected at most {drawn}, all that the space has"
            yield Flaw((*place, "samples"), text, True)


def cell_flaw(draft: Draft, cell: Cell) -> Flaw | None:
    """Find what is wrong with a search in one of its cells."""
    if draft.searched is None or isinstance(search := draft.searched.search, RandomSearch):
        return None
    place: Place = ("arms", draft.arm, "search")
    if cell.config.stopping.validation_share == 0:
        text = f"{search.kind} needs validation patients, and stopping.validation_share is 0"
        return Flaw((*place, "kind"), text)
    folds = cell.config.folds
    if (
        isinstance(search, OptunaSearch)
        and num_folds(folds) > 1
        and not isinstance(folds, CohortFolds)
    ):
        # Whom one fold validates on another holds out: a mean over folds has seen them all.
        text = (
            f"found optuna with folds of kind {folds.kind}, where the validation patients of a "
            "fold are held out in another; expected folds of kind cohort, or random or asha"
        )
        return Flaw((*place, "kind"), text)
    epochs = cell.config.optim.epochs
    if isinstance(search, AshaSearch) and search.grace >= epochs:
        text = f"found {search.grace}; expected less than optim.epochs, {epochs}"
        return Flaw((*place, "grace"), text)
    return None


def remarks(spec: Spec) -> Iterator[tuple[Place, str]]:
    """Say which searched settings keep trials from sharing a pass over the data."""
    for name, arm in spec.arms.items():
        for key in arm.search.space if arm.search else ():
            own = key.startswith("losses.") and key.endswith((".weight", ".temperature"))
            if not own and key not in _OF_A_LANE:
                text = "trials that differ in it cannot share a pack: each trains by itself"
                yield ("arms", name, "search", "space", key), text


def _whole(search: Search) -> dict[str, int]:
    """Let all settings of a search be drawn at once."""
    return {} if isinstance(search, RandomSearch | AshaSearch) else {"batch": search.samples}


def _space_flaws(arm: Arm, search: Search, place: Place) -> Iterator[Flaw]:
    own = sorted(loss_keys(arm))
    fit = [*own, *(key for key in settings() if key.partition(".")[0] in SECTIONS)]
    for key, values in search.space.items():
        where = (*place, key)
        if key not in fit:
            other = key in settings() or key in ("encoder", "fold", "seed")
            expected = f"expected a setting of losses, {', '.join(SECTIONS)}"
            yield Flaw(where, f"not for a search; {expected}" if other else unknown(key, fit))
        elif isinstance(search, AshaSearch) and key == "optim.epochs":
            yield Flaw(
                where, "asha compares settings after equally many epochs; expected no epochs"
            )
        elif isinstance(values, Choices):
            texts = [repr(value) for value in values.choices]
            if twice := [text for text in texts if texts.count(text) > 1]:
                yield Flaw(where, f"found {twice[0]} twice; expected different values")
        else:
            yield from _range_flaws(values, _field(arm, key), where)


def _range_flaws(values: Range, field: FieldInfo, place: Place) -> Iterator[Flaw]:
    if "float" not in str(field.annotation):
        yield Flaw(place, "found a range, which is for numbers with fractions; expected choices")
        return
    if values.low >= values.high:
        found = f"found low {shown(values.low)} and high {shown(values.high)}"
        yield Flaw(place, f"{found}; expected low below high")
    elif values.log and values.low <= 0:
        text = f"found {shown(values.low)}; expected more than 0 where log is true"
        yield Flaw((*place, "low"), text)
    else:
        for name, end in (("low", values.low), ("high", values.high)):
            if problem := _problem(field, end):
                yield Flaw((*place, name), problem)


def _problem(field: FieldInfo, value: float) -> str:
    """Say why a setting cannot have a value; empty if it can."""
    bound: Any = Annotated[(field.annotation, *field.metadata)]
    adapter: TypeAdapter[Any] = TypeAdapter(bound)
    try:
        adapter.validate_python(value)
    except ValidationError as error:
        return describe(error.errors()[0], (), {})
    return ""


def _field(arm: Arm, key: str) -> FieldInfo:
    """Find a setting's field by its dotted key."""
    first, *rest = key.split(".")
    if first == "losses":
        return type(arm.losses[rest[0]]).model_fields[rest[1]]
    model, names = TrialConfig, [first, *rest]
    while len(names) > 1:
        inner = section(model.model_fields[names[0]])
        options: Sequence[Any] = [inner] if inner else list(kinds(model, names[0]).values())
        names = names[1:]
        model = next(option for option in options if names[0] in option.model_fields)
    return model.model_fields[names[0]]
