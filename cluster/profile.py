"""How a cluster is used: one YAML per site, validated before anything is submitted.

A profile never changes a result; it is outside every trial's identity.
"""

import difflib
import os
from pathlib import Path
from typing import Annotated, Any, Literal

import yaml
from pydantic import BaseModel, ConfigDict, Field, TypeAdapter, ValidationError

from cluster.errors import ClusterError

SHIPPED = Path(__file__).parent / "profiles"


class _Model(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)


class _Common(_Model):
    device: Literal["cpu", "cuda"] = Field("cpu", description="where trials train")
    lanes_max: int = Field(16, ge=1, le=1024, description="most trials trained in one pack")


class LocalProfile(_Common):
    """This machine, without SLURM."""

    kind: Literal["local"] = Field(description="this machine, without SLURM")
    workers: int | None = Field(
        None, ge=1, description="packs trained at once; default: one per core this process may use"
    )


class DriverJob(_Model):
    """The SLURM job that hands out packs."""

    partition: str | None = Field(None, description="default: the pilots' partition")
    cpus: int = Field(2, ge=1, description="cores of the driver job")
    memory_gb: float = Field(4, gt=0, description="memory of the driver job")
    walltime_min: int = Field(24 * 60, ge=1, description="time limit of the driver job")


class SlurmProfile(_Common):
    """A SLURM cluster: one driver job and pilots."""

    kind: Literal["slurm"] = Field(description="a SLURM cluster")
    partition: str | None = Field(None, description="the pilots' partition; default: the site's")
    account: str | None = Field(None, description="account to charge")
    qos: str | None = Field(None, description="quality of service")
    pilots: int = Field(2, ge=1, le=1000, description="GPU jobs submitted at launch")
    gpus: int = Field(1, ge=0, description="GPUs of a pilot")
    cpus: int = Field(4, ge=1, description="cores of a pilot")
    memory_gb: float = Field(16, gt=0, description="memory of a pilot")
    walltime_min: int = Field(6 * 60, ge=1, description="time limit of a pilot")
    workers: int = Field(1, ge=1, description="packs trained at once on a pilot")
    constraint: str | None = Field(None, description="node features, as sbatch --constraint")
    exclude: str | None = Field(None, description="nodes to avoid, as sbatch --exclude")
    setup: tuple[str, ...] = Field(
        (), description="shell lines before Python starts: modules, conda, variables"
    )
    sbatch: dict[str, str | int | bool] = Field(
        {}, description="further sbatch options by long name; true for a bare flag"
    )
    node_ip: str | None = Field(
        None,
        description="address of a node for Ray, environment variables expanded; default: Ray's own",
    )
    driver: DriverJob = Field(DriverJob(), description="the driver job")


Profile = Annotated[LocalProfile | SlurmProfile, Field(discriminator="kind")]
_ADAPTER: TypeAdapter[LocalProfile | SlurmProfile] = TypeAdapter(Profile)


def load(name: str) -> LocalProfile | SlurmProfile:
    """Read the profile of this name: a path ending in .yaml, the user's own, or a shipped one.

    Raises:
        ClusterError: There is none, or it is wrong; every problem is listed.
    """
    path = _find(name)
    try:
        content = yaml.safe_load(path.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError, yaml.YAMLError) as error:
        reason = " ".join(str(error).split())
        raise ClusterError(f"{path}: not readable as YAML: {reason}") from error
    return parse(content, where=str(path))


def parse(content: Any, *, where: str) -> LocalProfile | SlurmProfile:
    """Validate a profile's content.

    Raises:
        ClusterError: It is wrong; every problem is listed with its key.
    """
    try:
        return _ADAPTER.validate_python(content)
    except ValidationError as error:
        problems = [_problem(item, where) for item in error.errors()]
        raise ClusterError(
            "\n".join(problems), hint="keys of a profile: cluster/README.md"
        ) from error


def names() -> list[str]:
    """List the profiles that can be named."""
    found = {path.stem for folder in _folders() for path in folder.glob("*.yaml")}
    return sorted(found)


def _problem(item: Any, where: str) -> str:
    key = ".".join(str(part) for part in item["loc"] if part not in ("local", "slurm"))
    if item["type"] == "extra_forbidden":
        model = SlurmProfile if "slurm" in item["loc"] else LocalProfile
        known = DriverJob.model_fields if "driver" in item["loc"] else model.model_fields
        near = difflib.get_close_matches(str(item["loc"][-1]), known, n=1)
        return f"{where}: {key}: unknown key" + (f"; did you mean {near[0]}?" if near else "")
    return f"{where}: {key or 'profile'}: {item['msg']}; found {item['input']!r}"


def _folders() -> list[Path]:
    home = Path(os.environ.get("XDG_CONFIG_HOME") or Path.home() / ".config")
    return [home / "sweep" / "profiles", SHIPPED]


def _find(name: str) -> Path:
    if name.endswith((".yaml", ".yml")):
        if Path(name).is_file():
            return Path(name)
        raise ClusterError(f"{name}: no such profile file")
    for folder in _folders():
        if (path := folder / f"{name}.yaml").is_file():
            return path
    near = difflib.get_close_matches(name, names(), n=2)
    raise ClusterError(
        f"no profile named {name!r}" + (f"; did you mean {' or '.join(near)}?" if near else ""),
        hint=f"profiles: {', '.join(names())}; or give the path of a .yaml file",
    )
