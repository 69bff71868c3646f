"""Extraction as SLURM jobs: an array whose tasks share the slides, and a last job behind it.

Tasks stage bags; the last job does what they could not and brings everything into the data set.
Whatever is killed, the same command goes on from there.
"""

import json
import os
from dataclasses import asdict, replace
from pathlib import Path

from cluster import allocation
from cluster.profile import SlurmProfile
from orchestrator import pool
from orchestrator.folder import Folder
from training.errors import DataError
from training.extraction import requests
from training.extraction.requests import Request

NAME = "embed-jobs.partial"
"""Folder of the jobs, below the data set."""


def submit(asked: Request, profile: SlurmProfile, *, tasks: int) -> list[str]:
    """Submit the array and the last job; return their SLURM job ids.

    Weights are fetched before, since nodes may have no way to the hub; torch is not loaded for
    that, except for encoders that only timm knows.

    Raises:
        DataError: Weights cannot be had.
        ClusterError: SLURM refused.
    """
    for name in asked.encoders:
        requests.choose(name, asked)
    request = replace(
        asked,
        slides=asked.slides.resolve(),
        out=asked.out.resolve(),
        folds=asked.folds and asked.folds.resolve(),
        checkpoints={name: path.resolve() for name, path in asked.checkpoints.items()},
        device=profile.device,
        workers=max(1, profile.cpus - 1),
    )
    with allocation.hidden():
        executor = pool.pilot_executor(Folder(request.out / NAME), profile, avoid=())
        executor.update_parameters(job_name="sweep-embed", array_parallelism=tasks)
        array = pool.sbatch(executor, tasks, stage, request, tasks)
        further = dict(executor.parameters["additional_parameters"])
        further["dependency"] = f"afterany:{array[0].partition('_')[0]}"
        executor.update_parameters(additional_parameters=further, job_name="sweep-embed-last")
        return [*array, *pool.sbatch(executor, 1, finish, request)]


def logs(data: Path) -> Path:
    """Where the jobs write what they have to say."""
    return Folder(data / NAME).pool / "submitit"


def stage(request: Request, tasks: int) -> None:
    """Embed the slides of one task of the array."""
    from training.extraction import embedding  # torch, which no login node loads

    number = int(os.environ.get("SLURM_ARRAY_TASK_ID", "0"))
    embedding.run(request, share=(number, tasks))


def finish(request: Request) -> None:
    """Do what is left, and bring all into the data set; the job fails where something failed.

    Raises:
        DataError: Something could not be done.
    """
    from training.extraction import embedding

    report = embedding.run(request)
    path = request.out / NAME / "report.json"
    path.write_text(json.dumps(asdict(report), indent=1, ensure_ascii=False), encoding="utf-8")
    if report.failed:
        raise DataError("\n".join(report.failed))
