"""Start training what is planned: here, in the present allocation, or by SLURM jobs.

Nothing here waits for SLURM, and `submit` is the only call that spends GPU hours. Ray reads its
token when it is imported, so every driver starts through this module.
"""

import contextlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

from cluster import allocation, pilot, ray_node, slurm
from cluster.errors import ClusterError, NoAnswerError
from cluster.profile import SlurmProfile
from orchestrator.events import Journal
from orchestrator.folder import Folder
from orchestrator.worker import Setting

TUNE_VARIABLES = {
    "TUNE_DISABLE_AUTO_CALLBACK_LOGGERS": "1",
    "TUNE_WARN_INSUFFICENT_RESOURCE_THRESHOLD_S": "1000000000",
    "TUNE_RESULT_BUFFER_LENGTH": "0",
    "TUNE_DISABLE_SIGINT_HANDLER": "1",
    "RAY_AIR_NEW_OUTPUT": "0",
}


Grow = Callable[[Path], bool]
"""Given a sweep's folder, plans what follows from results; whether there are new packs."""


def submit(
    folder: Folder,
    profile: SlurmProfile,
    setting: Setting,
    journal: Journal,
    *,
    pilots: int,
    grow: Grow | None = None,
) -> list[str]:
    """Submit the driver job and its pilots, and return their SLURM job ids, the driver's first.

    Fewer pilots than asked where the site's limits, or the profile's `queued_max`, allow no more:
    the driver submits further ones when there is room.

    Args:
        folder: the sweep's.
        profile: how the cluster is used.
        setting: what every pack shares.
        journal: the launch's.
        pilots: how many to submit; 0 where pilots of an earlier driver wait still.
        grow: a function of a module, which the driver calls when nothing is left to train.

    Raises:
        ClusterError: SLURM refused, or (NoAnswerError) did not say what it took; what was
            submitted is cancelled again.
    """
    from orchestrator import pool

    with allocation.hidden(), contextlib.ExitStack() as undo:
        pilot.head_file(folder.pool).unlink(missing_ok=True)
        submitter = pool.Submitter(
            folder, profile, journal, by="launch", limits=pool.limits(profile)
        )  # fmt: skip
        driver = submitter.driver(drive_on_cluster, setting=setting, profile=profile, grow=grow)
        undo.callback(slurm.cancel, [driver])
        inside = profile.driver.inside
        count = min(pilots - inside, profile.queued_max)
        taken = submitter.pilots(count) if count > 0 else pool.Taken()
        undo.callback(slurm.cancel, taken.jobs)
        if taken.refused and not (taken.limited and (taken.jobs or inside or pilots == 0)):
            if taken.silent:
                raise NoAnswerError(taken.refused, hint=pool.SILENT_HINT.format(folder.name))
            raise ClusterError(taken.refused, hint=pool.HINT)
        undo.pop_all()
    return [driver, *taken.jobs]


def drive_on_cluster(*, setting: Setting, profile: SlurmProfile, grow: Grow | None = None) -> None:
    """Be the driver job; imports Ray there and not on the login node."""
    with _ray_environment(Folder(setting.folder)):
        from orchestrator import driver

        driver.drive_on_cluster(setting, profile, grow=grow)


def drive_here(
    setting: Setting,
    *,
    workers: int,
    grow: Grow | None,
    on_progress: Callable[[dict[str, Any]], None],
) -> None:
    """Train on this machine, in the foreground."""
    with _ray_environment(Folder(setting.folder)):
        from orchestrator import driver

        driver.drive_here(setting, workers=workers, grow=grow, on_progress=on_progress)


def drive_in_allocation(
    setting: Setting,
    profile: SlurmProfile,
    *,
    grow: Grow | None,
    on_progress: Callable[[dict[str, Any]], None],
) -> None:
    """Train in the allocation that this command runs in, as one pilot that is its own driver."""
    with _ray_environment(Folder(setting.folder)):
        from orchestrator import driver

        driver.drive_in_allocation(setting, profile, grow=grow, on_progress=on_progress)


def _ray_environment(folder: Folder) -> contextlib.AbstractContextManager[None]:
    """Set what Ray and Tune read when they are imported."""
    token = (folder.pool / "token").resolve()
    ray_node.make_token(token)
    return ray_node.variables({**ray_node.environment(token), **TUNE_VARIABLES})
