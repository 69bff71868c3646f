"""Finds the weights of encoders: local files, or those of a hub that the user has access to.

What the hub refuses becomes an error that names the page to visit. Nothing here imports torch, so
that weights can be fetched before jobs are submitted.
"""

import hashlib
from dataclasses import dataclass
from pathlib import Path

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

from training.errors import DataError
from training.extraction.encoder_table import Encoder

FILES = ("model.safetensors", "pytorch_model.bin")
"""Names of weights in a repository, in order of preference."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Weights:
    """Where the weights of an encoder are.

    Args:
        path: the file.
        revision: which they are: a commit of the hub, or the digest of a local file.
    """

    path: Path
    revision: str


def locate(encoder: Encoder, checkpoint: Path | None = None) -> Weights:
    """Find the weights: the given file, or the hub's, fetched where they are not here yet.

    Raises:
        DataError: They cannot be had.
    """
    if checkpoint is not None:
        return Weights(path=checkpoint, revision=digest(checkpoint))
    path, commit = download(encoder)
    return Weights(path=path, revision=commit)


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
    away: LocalEntryNotFoundError | None = None
    for name in FILES:
        try:
            path = Path(hf_hub_download(encoder.hub, name, revision=encoder.revision or None))
        except LocalEntryNotFoundError as error:
            away = error  # the other file may be in the cache
            continue
        except EntryNotFoundError:
            continue
        except (GatedRepoError, RepositoryNotFoundError) as error:
            raise DataError(
                f"encoder {encoder.name!r}: the hub does not give you its weights "
                f"({first_line(error)})",
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
    if away is not None:
        raise _unreachable(encoder, away) from away
    raise DataError(
        f"encoder {encoder.name!r}: {encoder.hub} has none of {', '.join(FILES)}",
        hint=f"look at {encoder.page}/tree/main and bring the file: "
        f"--checkpoint {encoder.name}=PATH",
    )


def digest(path: Path) -> str:
    """Name the content of a local file: the revision of weights that came from no hub."""
    try:
        with path.open("rb") as file:
            return f"sha256:{hashlib.file_digest(file, 'sha256').hexdigest()}"
    except OSError as error:
        raise DataError(f"{path}: cannot be read: {error.strerror or error}") from error


def first_line(error: Exception) -> str:
    """Give what an error says first, or its name where it says nothing."""
    return str(error).strip().partition("\n")[0] or type(error).__name__


def _commit(path: Path) -> str:
    """Read the commit from the hub's cache, where it names the folder of a file."""
    return path.parent.name if path.parent.parent.name == "snapshots" else ""


def _unreachable(encoder: Encoder, error: Exception) -> DataError:
    return DataError(
        f"encoder {encoder.name!r}: its weights are not on this machine and the hub is not "
        f"reachable ({first_line(error)})",
        hint=f"get them from {encoder.page} and bring the file: --checkpoint {encoder.name}=PATH",
    )
