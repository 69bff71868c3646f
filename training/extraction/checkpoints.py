"""Weights of encoders: local files, or files of a hub that the user has access to.

Files are safetensors, or PyTorch files loaded with `weights_only=True`: no code is ever run that
comes with weights. What the hub refuses becomes an error that names the page to visit.
"""

import hashlib
from pathlib import Path
from pickle import UnpicklingError
from typing import Any

import torch
from huggingface_hub import hf_hub_download
from huggingface_hub.errors import (
    EntryNotFoundError,
    GatedRepoError,
    HfHubHTTPError,
    HFValidationError,
    LocalEntryNotFoundError,
    OfflineModeIsEnabled,
    RepositoryNotFoundError,
    RevisionNotFoundError,
)
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor

from training.errors import DataError
from training.extraction.encoder_table import Encoder

FILES = ("model.safetensors", "pytorch_model.bin")
"""Names of weights in a repository, in order of preference."""

_NESTED = ("state_dict", "model")


def download(encoder: Encoder) -> tuple[Path, str]:
    """Fetch the weights of an encoder, or find them in the hub's cache on this machine.

    Returns:
        The file, and the commit of the repository that it is of.

    Raises:
        DataError: They cannot be had; with the page to visit.
    """
    if not encoder.hub:
        raise DataError(
            f"encoder {encoder.name!r}: no weights are published under this name",
            hint=f"give a file: --checkpoint {encoder.name}=PATH",
        )
    for name in FILES:
        try:
            path = Path(hf_hub_download(encoder.hub, name, revision=encoder.revision or None))
        except LocalEntryNotFoundError as error:
            raise _unreachable(encoder, error) from error
        except EntryNotFoundError:
            continue
        except (GatedRepoError, RepositoryNotFoundError) as error:
            raise DataError(
                f"encoder {encoder.name!r}: the hub does not give you its weights "
                f"({_first_line(error)})",
                hint=f"accept the terms at {encoder.page}, then set HF_TOKEN or: hf auth login; "
                f"or bring the file: --checkpoint {encoder.name}=PATH",
            ) from error
        except (RevisionNotFoundError, HFValidationError) as error:
            raise DataError(
                f"encoder {encoder.name!r}: no revision {encoder.revision!r} of {encoder.hub}",
                hint=f"revisions: {encoder.page}/commits/main",
            ) from error
        except (HfHubHTTPError, OfflineModeIsEnabled, OSError) as error:
            raise _unreachable(encoder, error) from error
        return path, _commit(path)
    raise DataError(
        f"encoder {encoder.name!r}: {encoder.hub} has none of {', '.join(FILES)}",
        hint=f"look at {encoder.page}/tree/main and bring the file: "
        f"--checkpoint {encoder.name}=PATH",
    )


def read(path: Path) -> dict[str, Tensor]:
    """Read a file of weights.

    Raises:
        DataError: It cannot be read, or holds more than tensors.
    """
    try:
        if path.suffix == ".safetensors":
            found: Any = load_file(path)
        else:
            found = torch.load(path, map_location="cpu", weights_only=True)
    except UnpicklingError as error:
        raise DataError(
            f"{path}: is damaged or holds more than weights, so it is not loaded",
            hint="save the weights alone: torch.save(model.state_dict(), path)",
        ) from error
    except (OSError, SafetensorError, RuntimeError, EOFError, ValueError, LookupError) as error:
        raise DataError(f"{path}: cannot be read: {_first_line(error)}") from error
    while isinstance(found, dict) and (
        inner := [k for k in _NESTED if isinstance(found.get(k), dict)]
    ):
        found = found[inner[0]]
    if not isinstance(found, dict) or not any(isinstance(v, Tensor) for v in found.values()):
        raise DataError(f"{path}: holds no weights by name")
    tensors = {str(key): value for key, value in found.items() if isinstance(value, Tensor)}
    if all(key.startswith("module.") for key in tensors):
        tensors = {key.removeprefix("module."): value for key, value in tensors.items()}
    return tensors


def digest(path: Path) -> str:
    """Name the content of a local file: the revision of weights that came from no hub."""
    try:
        with path.open("rb") as file:
            return f"sha256:{hashlib.file_digest(file, 'sha256').hexdigest()}"
    except OSError as error:
        raise DataError(f"{path}: cannot be read: {error.strerror or error}") from error


def _commit(path: Path) -> str:
    """Read the commit from the hub's cache, where it names the folder of a file."""
    return path.parent.name if path.parent.parent.name == "snapshots" else ""


def _unreachable(encoder: Encoder, error: Exception) -> DataError:
    return DataError(
        f"encoder {encoder.name!r}: its weights are not on this machine and the hub is not "
        f"reachable ({_first_line(error)})",
        hint=f"get them from {encoder.page} and bring the file: --checkpoint {encoder.name}=PATH",
    )


def _first_line(error: Exception) -> str:
    return str(error).strip().partition("\n")[0] or type(error).__name__
