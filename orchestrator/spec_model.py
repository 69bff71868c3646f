"""The keys of a sweep spec as models; `sweeps/schema.json` is made from them.

Every key of `TrialConfig` that a spec may set is taken from there, one level at a time, with each
field optional: a spec, an encoder or an arm gives a part, and only the whole is a configuration
(`orchestrator.spec_expand`). A field added to `TrialConfig` is thereby part of the language.
"""

import json
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal, Union, get_args

from pydantic import Discriminator, Field, Tag, create_model
from pydantic.fields import FieldInfo

from orchestrator.spec_analysis import Analysis
from orchestrator.spec_artefacts import NO_ARTEFACTS, Artefacts
from orchestrator.spec_search import Search
from orchestrator.spec_select import Select
from training.config import Config, Loss, Task, TrialConfig
from training.simulation_config import Simulation

NOT_BASE = ("encoder", "losses", "views", "fold", "seed")
"""Fields of a trial that have their own key in the language."""

SweepName = Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]*$", max_length=64)]
EncoderName = Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]*$", max_length=64)]
ArmName = Annotated[str, Field(pattern=r"^[^\s\x00-\x1f]+$", max_length=64)]
LossName = Annotated[str, Field(pattern=r"^[A-Za-z0-9_-]+$", max_length=64)]
Values = Annotated[list[Any], Field(min_length=1)]
_SET = Field(min_length=1, json_schema_extra={"uniqueItems": True})


@cache
def kinds(model: type[Config], field: str) -> dict[str, type[Config]]:
    """List the models that a field distinguishes by `kind`; empty if it does not."""
    info = model.model_fields[field]
    if info.discriminator != "kind":
        return {}
    return {
        get_args(part.model_fields["kind"].annotation)[0]: part
        for part in get_args(info.annotation)
    }


def section(info: FieldInfo) -> type[Config] | None:
    """Return the model of a field that is itself a configuration."""
    model = info.annotation
    return model if isinstance(model, type) and issubclass(model, Config) else None


@cache
def part_of(
    model: type[Config], *, without: tuple[str, ...] = (), required: tuple[str, ...] = ()
) -> Any:
    """Make a model with the fields of another, each optional and checked by itself."""
    fields: dict[str, Any] = {}
    for name, info in model.model_fields.items():
        if name in without:
            continue
        if name in required:
            fields[name] = (info.annotation, info)
        elif kinds(model, name):
            fields[name] = (_one_of(model, name), _absent(info.description))
        elif (inner := section(info)) is not None:
            fields[name] = (part_of(inner), _absent(info.description))
        elif info.is_required():
            bound = Annotated[(info.annotation, *info.metadata)] if info.metadata else None
            fields[name] = (bound or info.annotation, _absent(info.description))
        else:
            fields[name] = (info.annotation, info)
    return create_model(f"{model.__name__}Part", __base__=Config, __doc__=model.__doc__, **fields)


def _one_of(model: type[Config], field: str) -> Any:
    """Part of any kind: with `kind`, the fields of that kind; without, those of all kinds."""
    options = kinds(model, field)
    fields: dict[str, Any] = {
        name: (Any, _absent(info.description))
        for option in options.values()
        for name, info in option.model_fields.items()
        if name != "kind"
    }
    document = "Fields of any kind; `kind` comes from the base or from another key."
    name = f"{field.capitalize()}OfAnyKind"
    open_part = create_model(name, __base__=Config, __doc__=document, **fields)
    tagged = [
        Annotated[part_of(option, required=("kind",)), Tag(kind)]
        for kind, option in options.items()
    ]
    choices: Any = Union[(*tagged, Annotated[open_part, Tag("")])]
    return Annotated[choices, Discriminator(_kind)]


def _kind(value: Any) -> str:
    kind = value.get("kind", "") if isinstance(value, dict) else getattr(value, "kind", "")
    return str(kind)


def _absent(description: str | None) -> Any:
    return Field(None, description=description, json_schema_extra=_drop_default)


def _drop_default(schema: dict[str, Any]) -> None:
    schema.pop("default", None)


def _is_list(value: Any) -> str:
    return "a list" if isinstance(value, list | tuple) else "not a list"


def _is_mapping(value: Any) -> str:
    return "a mapping" if isinstance(value, dict | Config) else "not a mapping"


if TYPE_CHECKING:
    Overrides = Config  # a computed class is no type to mypy
else:
    Overrides = part_of(TrialConfig, without=NOT_BASE)
    """What a spec, an encoder or an arm may set of a trial."""


class Encoder(Overrides):
    """What an encoder has of its own."""

    priority: int = Field(0, description="is added to the priority of the arms")


class Axes(Overrides):
    """Settings, and settings with several values."""

    grid: dict[str, Values] = Field(
        {}, description="dotted key, for example optim.lr, to a list of values: every combination"
    )
    zip: list[Annotated[dict[str, Values], Field(min_length=1)]] = Field(
        [],
        description="mappings of dotted keys to equally long lists: the first values together, "
        "then the second ones, and so on",
    )


class Arm(Axes):
    """A named method."""

    views: Literal["routine", "all"] = Field(
        description="routine: one scan per slide; all: paired slides with both scans too"
    )
    losses: dict[LossName, Loss] = Field(
        {}, description="robustness losses by a name of yours, which grid keys use"
    )
    priority: int = Field(0, description="packs of the arm with the higher priority go first")
    search: Search | None = Field(
        None, description="settings to search instead of a grid; not for a factorial comparison"
    )


class SimulatedData(Config):
    """Data made by `training.simulate`."""

    simulate: Simulation = Field(description="fields of the simulated cohort; {} for its defaults")


Data = Annotated[
    Annotated[Path, Tag("not a mapping")] | Annotated[SimulatedData, Tag("a mapping")],
    Discriminator(_is_mapping),
]
Encoders = Annotated[
    Annotated[list[EncoderName], Tag("a list"), _SET]
    | Annotated[dict[EncoderName, Encoder | None], Tag("not a list"), Field(min_length=1)],
    Discriminator(_is_list),
]
Seeds = Annotated[
    Annotated[int, Tag("not a list"), Field(ge=1, le=200_000)]
    | Annotated[list[Annotated[int, Field(ge=0, lt=2**31)]], Tag("a list"), _SET],
    Discriminator(_is_list),
]


class Language(Axes):
    """A sweep spec."""

    task: Task = Field(description="what is predicted")
    name: SweepName = Field("sweep", description="name of the sweep. Default: the file's name")
    data: Data = Field(
        description="folder with index.parquet, relative to this file, $VARIABLES expanded; or "
        "{simulate: {…}}"
    )
    cluster: str | None = Field(None, description="profile to use unless --cluster says otherwise")
    encoders: Encoders = Field(
        description="a list of names, or a mapping of names to settings of their own"
    )
    seeds: Seeds = Field(description="n for the seeds 0 to n - 1, or a list of seeds")
    arms: Annotated[dict[ArmName, Arm], Field(min_length=1)] = Field(
        description="the methods to compare, by name"
    )
    exclude: list[Annotated[dict[str, Any], Field(min_length=1)]] = Field(
        [],
        description="mappings of dotted keys, encoder or arm to a value or a list of values: a "
        "cell that fits all of a mapping is left out",
    )
    artefacts: Artefacts = Field(
        NO_ARTEFACTS, description="what a trial leaves beside its predictions"
    )

    select: Select | None = Field(
        None, description="how the table of selected settings chooses; sweep aggregate --select"
    )

    analysis: Analysis | None = Field(
        None, description="the primary analysis: reported first, all else is exploratory"
    )

    @property
    def encoder_names(self) -> tuple[str, ...]:
        """The encoders in the order of the spec."""
        return tuple(self.encoders)

    @property
    def seed_numbers(self) -> tuple[int, ...]:
        """The seeds in the order of the spec."""
        return tuple(range(self.seeds) if isinstance(self.seeds, int) else self.seeds)

    def priority(self, encoder: str, arm: str) -> int:
        """Add the priorities of an encoder and an arm."""
        own = self.encoders[encoder] if isinstance(self.encoders, dict) else None
        return self.arms[arm].priority + (own.priority if own else 0)

    def own_settings(self, encoder: str) -> Config | None:
        """Return what the spec sets for one encoder."""
        return self.encoders[encoder] if isinstance(self.encoders, dict) else None


class Spec(Language):
    """A spec that was read: name and data folder are settled, and every cell is valid."""

    warnings: tuple[str, ...] = Field((), exclude=True, description="what the reader should see")

    @property
    def data_path(self) -> Path | None:
        """Folder of the data; None if they are simulated."""
        return self.data if isinstance(self.data, Path) else None

    @property
    def simulation(self) -> Simulation | None:
        """The simulated cohort; None if the data are a folder."""
        return None if isinstance(self.data, Path) else self.data.simulate

    def document(self) -> dict[str, Any]:
        """Write the spec, defaults filled in, as plain values that read back to equal trials."""
        simulation = self.simulation and {"simulate": self.simulation.model_dump(mode="json")}
        own = given(self)
        filled = {name: _filled(name, own.get(name)) for name in Overrides.model_fields}
        plain = {
            **self.model_dump(mode="json", exclude_unset=True),
            "name": self.name,
            "data": simulation or str(self.data_path),
            **{name: value for name, value in filled.items() if value is not None},
            "artefacts": self.artefacts.model_dump(mode="json"),
        }
        document: dict[str, Any] = json.loads(json.dumps(plain))
        return document


def given(part: Config | None) -> dict[str, Any]:
    """Return what was set of a trial's configuration in a spec, an encoder or an arm."""
    if part is None:
        return {}
    return part.model_dump(mode="json", include=set(TrialConfig.model_fields), exclude_unset=True)


def _filled(name: str, value: Any) -> Any:
    """Fill in the defaults of a field of a trial's configuration, where they are settled."""
    info = TrialConfig.model_fields[name]
    model = section(info)
    if options := kinds(TrialConfig, name):
        settled = None if info.is_required() else info.get_default()
        model = options.get(str((value or {}).get("kind") or getattr(settled, "kind", "")))
        if model and settled and not value:
            return dict(settled.model_dump(mode="json"))
    if model is None:
        default = None if info.is_required() else info.get_default()
        return value if value is not None else default
    fields = model.model_fields
    defaults = {
        key: plain.model_dump(mode="json") if isinstance(plain, Config) else plain
        for key, field in fields.items()
        if not field.is_required()
        for plain in [field.get_default()]
    }
    return defaults | (value or {})
