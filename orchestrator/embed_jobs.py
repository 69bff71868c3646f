"""Extraction as SLURM jobs: an array whose tasks share the slides, and a last job behind it.

Tasks stage bags; the last job does what they could not and brings everything into the data set.
Whatever is killed, the same command goes on from there.
"""

import contextlib
import json
import os
from dataclasses import asdict, replace
from itertools import chain
from pathlib import Path
from typing import TYPE_CHECKING

from cluster import allocation, slurm
from cluster.profile import SlurmProfile
from orchestrator import pool
from orchestrator.folder import Folder, write_file
from training.errors import DataError
from training.extraction import requests
from training.extraction.requests import Request

if TYPE_CHECKING:
    from training.extraction.embedding import Report

NAME = "embed-jobs.partial"
"""Folder of the jobs, below the data set."""


def submit(asked: Request, profile: SlurmProfile, *, tasks: int) -> list[str]:
    """Submit the array and the last job; return their SLURM job ids.

    Weights are fetched before, and all jobs take just these, since nodes may have no way to the
    hub; torch is not loaded for that, except for encoders that only timm knows.

    Raises:
        DataError: Weights cannot be had.
        ClusterError: SLURM refused, or (NoAnswerError) did not say what it took; what was
            submitted is cancelled again.
    """
    request = replace(
        requests.pinned(asked),
        slides=asked.slides.resolve(),
        out=asked.out.resolve(),
        folds=asked.folds and asked.folds.resolve(),
        checkpoints={name: path.resolve() for name, path in asked.checkpoints.items()},
        device=profile.device,
        workers=max(1, profile.cpus - 1),
    )
    with allocation.hidden(), contextlib.ExitStack() as undo:
        executor = pool.pilot_executor(Folder(request.out / NAME), profile, avoid=())
        executor.update_parameters(job_name="sweep-embed", array_parallelism=tasks)
        array = pool.sbatch(executor, tasks, stage, request, tasks)
        further = dict(executor.parameters["additional_parameters"])
        first = array[0].partition("_")[0]
        undo.callback(slurm.cancel, [first])
        further["dependency"] = f"afterany:{first}"
        executor.update_parameters(additional_parameters=further, job_name="sweep-embed-last")
        last = pool.sbatch(executor, 1, finish, request, first)
        undo.pop_all()
    return [*array, *last]


def logs(data: Path) -> Path:
    """Where the jobs write what they have to say."""
    return Folder(data / NAME).pool / "submitit"


def told(data: Path, job: str) -> Path:
    """Where the last job, by its SLURM job id, writes what is there and what could not be done."""
    return data / NAME / f"report-{job}.json"


def stage(request: Request, tasks: int) -> None:
    """Embed the slides of one task of the array."""
    from training.extraction import embedding  # torch, which no login node loads

    number = int(os.environ.get("SLURM_ARRAY_TASK_ID", "0"))
    array = os.environ.get("SLURM_ARRAY_JOB_ID") or os.environ["SLURM_JOB_ID"]  # a lone job is none
    _write(embedding.run(request, share=(number, tasks)), _of_task(request.out, array, number))


def finish(request: Request, array: str) -> None:
    """Do what is left, and bring all into the data set; the job fails where something failed.

    Args:
        request: what is embedded.
        array: SLURM job id of the tasks, whose notes are told with those of this job.

    Raises:
        DataError: Something could not be done.
    """
    from training.extraction import embedding

    report = embedding.run(request)
    tasks = sorted((request.out / NAME).glob(_of_task(request.out, array, "*").name))
    notes = chain(*map(_notes, tasks), report.notes)
    report = replace(report, notes=tuple(dict.fromkeys(notes)))
    _write(report, told(request.out, os.environ["SLURM_JOB_ID"]))
    if report.failed:
        raise DataError("\n".join(report.failed))


def _of_task(data: Path, array: str, number: int | str) -> Path:
    return data / NAME / f"task-{array}-{number}.json"


def _notes(path: Path) -> list[str]:
    """Read what a task had to say; nothing of one that was ended while it said it."""
    try:
        return [str(line) for line in json.loads(path.read_text(encoding="utf-8"))["notes"]]
    except (OSError, ValueError, KeyError, TypeError):
        return []


def _write(report: "Report", path: Path) -> None:
    write_file(path, json.dumps(asdict(report), indent=1, ensure_ascii=False).encode())
