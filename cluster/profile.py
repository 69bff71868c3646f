"""How a cluster is used: one YAML per site, validated before anything is submitted.

A profile never changes a result; it is outside every trial's identity.
"""

import difflib
import os
from pathlib import Path
from typing import Annotated, Any, Literal

import yaml
from pydantic import (
    BaseModel,
    ConfigDict,
    Field,
    TypeAdapter,
    ValidationError,
    model_validator,
)

from cluster import slurm
from cluster.errors import NoProfileError, ProfileError
from cluster.profile_values import Line, Option, Text, Value

NAME_MAX, PATH_MAX = 200, 4000
SHIPPED = Path(__file__).parent / "profiles"


class _Model(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)


class _Common(_Model):
    device: Literal["cpu", "cuda"] = Field("cpu", description="where trials train")
    lanes_max: int = Field(16, ge=1, le=1024, description="most trials trained in one pack")
    resident_gb: float = Field(
        2, ge=0, description="memory of a worker in which embeddings stay between packs"
    )


class LocalProfile(_Common):
    """This machine, without SLURM."""

    kind: Literal["local"] = Field(description="this machine, without SLURM")
    workers: int | None = Field(
        None,
        ge=1,
        description="packs trained at once; default: one per core this process may use, or per GPU",
    )
    gpus: int = Field(0, ge=0, description="GPUs that the workers share, with device cuda")

    @model_validator(mode="after")
    def _even(self) -> "LocalProfile":
        gpus = max(self.gpus, 1)
        if self.device == "cuda" and self.workers is not None and self.workers % gpus:
            raise ValueError(_uneven(self.workers, gpus))
        return self


class DriverJob(_Model):
    """The SLURM job that hands out packs."""

    partition: Text | None = Field(None, description="default: the pilots' partition")
    cpus: int = Field(2, ge=1, description="cores of the driver job")
    memory_gb: float = Field(4, gt=0, description="memory of the driver job")
    walltime_min: int = Field(24 * 60, ge=1, description="time limit of the driver job")
    inside: bool = Field(
        False, description="run in the first pilot's job, where no job without GPUs is allowed"
    )


class Larger(_Model):
    """A bigger class of GPU, for packs that ran out of memory; what is not named stays as it is."""

    partition: Text | None = Field(None, description="default: the pilots' partition")
    qos: Text | None = Field(None, description="default: the pilots' quality of service")
    constraint: Text | None = Field(None, description="node features; default: the pilots'")
    gpu_type: str | None = Field(None, description="default: the pilots' type, if any")
    gpus: int | None = Field(None, ge=1, description="GPUs of such a pilot; default: as others")
    memory_gb: float | None = Field(None, gt=0, description="memory of such a pilot")
    walltime_min: int | None = Field(None, ge=1, description="time limit of such a pilot")


class SlurmProfile(_Common):
    """A SLURM cluster: one driver job and pilots."""

    kind: Literal["slurm"] = Field(description="a SLURM cluster")
    partition: Text | None = Field(None, description="the pilots' partition; default: the site's")
    account: Text | None = Field(None, description="account to charge")
    qos: Text | None = Field(None, description="quality of service")
    pilots: int = Field(2, ge=1, le=1000, description="GPU jobs submitted at launch")
    queued_max: int = Field(16, ge=1, description="most pilots pending at once")
    max_submitted: int | None = Field(
        None, ge=2, description="most jobs of a sweep in the queue at once; default: the site's"
    )
    replace: bool = Field(True, description="the driver submits pilots again that ended early")
    gpus: int = Field(1, ge=0, description="GPUs of a pilot")
    gpu_type: str | None = Field(
        None, pattern=r"^[A-Za-z0-9_.-]+$", description="type of GPU as SLURM calls it: a100, h100"
    )
    cpus: int = Field(4, ge=1, description="cores of a pilot")
    memory_gb: float = Field(16, gt=0, description="memory of a pilot")
    walltime_min: int = Field(6 * 60, ge=1, description="time limit of a pilot")
    workers: int = Field(1, ge=1, description="packs trained at once on a pilot")
    wait_min: float = Field(10, gt=0, description="a pilot waits this long for a driver")
    signal_s: int = Field(
        90, ge=30, le=3600, description="SLURM signals a pilot this long before its time limit"
    )
    larger: Larger | None = Field(
        None, description="a bigger class of GPU for packs that do not fit; default: none"
    )
    billing: Literal["gpu", "node"] = Field("gpu", description="what the site charges for")
    node_gpus: int | None = Field(
        None, ge=1, description="GPUs charged for a pilot where whole nodes are charged"
    )
    share: Literal["private", "group"] = Field(
        "private", description="who may read the results: you, or your group too"
    )
    python: Line | None = Field(
        None,
        description="command that starts Python on a node, such as apptainer exec … python;"
        " default: this Python",
    )
    constraint: Text | None = Field(None, description="node features, as sbatch --constraint")
    exclude: Text | None = Field(None, description="nodes to avoid, as sbatch --exclude")
    setup: tuple[Line, ...] = Field(
        (), description="shell lines before Python starts: modules, conda, variables"
    )
    sbatch: dict[Option, Value] = Field(
        {}, description="further sbatch options by long name; true for a bare flag"
    )
    node_ip: Text | None = Field(
        None,
        description="address of a node for Ray, environment variables expanded; default: Ray's own",
    )
    driver: DriverJob = Field(DriverJob(), description="the driver job")

    @model_validator(mode="after")
    def _consistent(self) -> "SlurmProfile":
        larger = self.larger.gpus or 0 if self.larger else 0
        wrong = {
            "device cuda needs gpus": self.device == "cuda" and not self.gpus,
            _uneven(self.workers, self.gpus): self._splits_gpus(self.gpus),
            f"larger: {_uneven(self.workers, larger)}": self._splits_gpus(larger),
            "gpu_type needs gpus": self.gpu_type is not None and not self.gpus,
            "node_gpus counts with billing: node only": self.node_gpus is not None
            and self.billing == "gpu",
            "signal_s is as long as walltime_min": self.signal_s >= 60 * self.walltime_min,
            "gres: set gpus and gpu_type instead of a gpu there": "gpu"
            in str(self.sbatch.get("gres", "")),
        }
        if found := [text for text, holds in wrong.items() if holds]:
            raise ValueError("; ".join(found))
        return self

    def _splits_gpus(self, gpus: int) -> bool:
        return self.device == "cuda" and gpus > 0 and self.workers % gpus > 0

    @property
    def billed_gpus(self) -> int:
        """GPUs charged while a pilot runs, used or not."""
        whole = self.billing == "node" and self.node_gpus is not None
        return max(self.gpus, self.node_gpus or 0) if whole else self.gpus

    @property
    def gpus_per_node(self) -> str:
        """What sbatch --gpus-per-node is told; empty without GPUs."""
        if not self.gpus:
            return ""
        return f"{self.gpu_type}:{self.gpus}" if self.gpu_type else str(self.gpus)

    def enlarged(self) -> "SlurmProfile":
        """This profile for pilots of size "large"; itself where it has no `larger`."""
        named = self.larger.model_dump(exclude_none=True) if self.larger else {}
        return self.model_copy(update=named)


def _uneven(workers: int, gpus: int) -> str:
    return f"device cuda needs workers to be a multiple of gpus, {gpus}; found {workers}"


Profile = Annotated[LocalProfile | SlurmProfile, Field(discriminator="kind")]
_ADAPTER: TypeAdapter[LocalProfile | SlurmProfile] = TypeAdapter(Profile)


def load(name: str) -> LocalProfile | SlurmProfile:
    """Read the profile of this name: a path ending in .yaml, the user's own, or a shipped one.

    Raises:
        ProfileError: There is none, or it is wrong; every problem is listed.
    """
    path = _find(name)
    try:
        content = yaml.safe_load(path.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError, yaml.YAMLError) as error:
        reason = " ".join(str(error).split())
        raise ProfileError(f"{path}: not readable as YAML: {reason}") from error
    return parse(content, where=str(path))


def parse(content: Any, *, where: str) -> LocalProfile | SlurmProfile:
    """Validate a profile's content.

    Raises:
        ProfileError: It is wrong; every problem is listed with its key.
    """
    try:
        return _ADAPTER.validate_python(content)
    except ValidationError as error:
        problems = [_problem(item, where) for item in error.errors()]
        raise ProfileError(
            "\n".join(problems), hint="keys of a profile: cluster/README.md"
        ) from error


def default() -> str:
    """Name the profile for who names none: the user's `default`, else `local` without SLURM.

    Raises:
        NoProfileError: SLURM is here and the user has no default profile.
    """
    if (own() / "default.yaml").is_file():
        return "default"
    if not slurm.configured():
        return "local"
    raise NoProfileError(
        "SLURM is here and no profile says how to use it",
        hint="write one: sweep doctor --write; or train on this machine: --cluster local",
    )


def own() -> Path:
    """Return the folder of the user's own profiles; it need not exist."""
    home = Path(os.environ.get("XDG_CONFIG_HOME") or Path.home() / ".config")
    return home / "sweep" / "profiles"


def names() -> list[str]:
    """List the profiles that can be named."""
    found = {path.stem for folder in _folders() for path in folder.glob("*.yaml")}
    return sorted(found)


def _problem(item: Any, where: str) -> str:
    loc = [part for part in item["loc"] if part not in ("local", "slurm", "[key]")]
    key = ".".join(str(part) for part in loc)
    if item["type"] == "extra_forbidden":
        model = SlurmProfile if "slurm" in item["loc"] else LocalProfile
        parts: dict[str, type[BaseModel]] = {"driver": DriverJob, "larger": Larger}
        known = parts.get(str(loc[-2]), model).model_fields if loc[1:] else model.model_fields
        near = difflib.get_close_matches(str(loc[-1]), known, n=1)
        return f"{where}: {key}: unknown key" + (f"; did you mean {near[0]}?" if near else "")
    said = item["msg"].removeprefix("Value error, ")
    found = "" if item["type"] == "value_error" and not loc else f"; found {item['input']!r}"
    return f"{where}: {key or 'profile'}: {said}{found}"


def _folders() -> list[Path]:
    return [own(), SHIPPED]


def _find(name: str) -> Path:
    if len(Path(name).name) > NAME_MAX or len(name) > PATH_MAX:
        raise ProfileError(f"no profile has a name of {len(name):,} characters: {name[:40]!r}…")
    if name.endswith((".yaml", ".yml")):
        if Path(name).is_file():
            return Path(name)
        raise ProfileError(f"{name}: no such profile file")
    for folder in _folders():
        if (path := folder / f"{name}.yaml").is_file():
            return path
    near = difflib.get_close_matches(name, names(), n=2)
    raise ProfileError(
        f"no profile named {name!r}" + (f"; did you mean {' or '.join(near)}?" if near else ""),
        hint=f"profiles: {', '.join(names())}; or give the path of a .yaml file",
    )
