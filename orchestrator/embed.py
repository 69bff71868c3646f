"""What `embed` does and shows."""

import dataclasses
import os
import re
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from cluster import profile as profiles
from cluster.profile import SlurmProfile
from orchestrator import embed_jobs, licences, render
from orchestrator.errors import SweepError
from orchestrator.folder import Folder
from orchestrator.render import Mode
from training.data import joining
from training.errors import DataError
from training.extraction import checking, config_file, requests
from training.extraction.config_embed import EmbedConfig
from training.extraction.requests import Request

DEVICE = re.compile(r"cpu|cuda(:\d+)?")

if TYPE_CHECKING:  # these load torch, which takes seconds and is not for login nodes
    from training.extraction.embedding import Report
    from training.extraction.pace import Pace


def request(
    slides: Path,
    *,
    out: Path,
    encoders: Sequence[str],
    checkpoints: Sequence[str],
    config: Path | None,
    folds: Path | None,
    limit: int | None,
    device: str | None,
    workers: int | None,
) -> Request:
    """Make a request of the command's options; without a device, it is chosen where it runs.

    Raises:
        SweepError: An option is wrong.
        DataError: The configuration is wrong.
    """
    if device is not None and not DEVICE.fullmatch(device):
        raise SweepError(f"--device {device}: expected cpu or cuda, or cuda:1 for the second GPU")
    files = {}
    for text in checkpoints:
        name, found, path = text.partition("=")
        if not found or not name or not path:
            raise SweepError(f"--checkpoint {text}: expected NAME=PATH")
        files[name] = Path(path)
    cores = len(os.sched_getaffinity(0))
    return Request(
        slides=slides,
        out=out,
        encoders=tuple(dict.fromkeys(encoders)),
        checkpoints=files,
        config=EmbedConfig() if config is None else config_file.read(config),
        folds=folds,
        limit=limit,
        device=device or "",
        workers=max(1, cores - 1) if workers is None else min(workers, cores),
    )


def run(
    asked: Request, *, cluster: str | None, yes: bool, mode: Mode, given: Sequence[str] = ()
) -> int:
    """Embed here, or submit jobs that do; 1 where something could not be done.

    Args:
        asked: what is embedded.
        cluster: profile name; None for this machine.
        yes: spend GPU time without asking.
        mode: how it is shown.
        given: options of the command that a profile says for jobs.

    Raises:
        SweepError: Jobs cannot be as the options want them.
        DataError: What is asked for cannot be done.
        ClusterError: The profile is wrong, or SLURM took no jobs.
    """
    profile = profiles.load(cluster) if cluster else None
    if isinstance(profile, SlurmProfile):
        if given:
            raise SweepError(
                f"{' and '.join(given)}: profile {cluster} says this for jobs",
                hint="leave it out, or set device and cpus in the profile",
            )
        Folder(asked.out.resolve()).require_plain("data", option="--out")
        return _submit(asked, profile, yes=yes, mode=mode)
    from training.extraction import embedding

    device = _device(asked.device)
    if not asked.device and device == "cpu":
        _refuse_other_arithmetic(asked)
    asked = dataclasses.replace(asked, device=device)
    report = embedding.run(asked, on_progress=render.now_and_then(mode, progress_text))
    report = dataclasses.replace(report, notes=(*terms(asked), *report.notes))
    show(report, asked.out, mode)
    return 1 if report.failed else 0


def terms(asked: Request) -> list[str]:
    """Say whose licences may forbid passing on what is made here, and where they can be read."""
    lines = []
    for encoder in [requests.describe(name, asked) for name in asked.encoders]:
        for line in licences.remarks({encoder.name: [encoder.licence or licences.UNKNOWN]}):
            lines.append(f"{line}; read {encoder.page}" if encoder.hub else line)
    return lines


def show(report: "Report", out: Path, mode: Mode) -> None:
    """Show what was embedded, and what could not be."""
    if mode == "json":
        render.value({"data": str(out), **dataclasses.asdict(report)})
        return
    for line in report.notes:
        render.note(line, kind="warning")
    for line in report.failed:
        render.note(line, kind="error")
    if report.failed:
        render.note(f"{len(report.failed)} of these", hint="mend it, and give the same command")
    if mode == "quiet":
        render.lines([str(out)])
        return
    embedded = f"{report.num_embedded:,} tiles by this command"
    if report.num_embedded:
        embedded += f", {report.tiles_per_s:,.1f} tiles/s"
    rows = [("data", str(out)), ("slides", f"{report.num_slides:,}"), ("embedded", embedded)]
    rows += [
        (name, f"{found['views']:,} views, {found['tiles']:,} tiles, licence {found['licence']}")
        for name, found in report.encoders.items()
    ]
    if report.pairs:
        rows.append(("pairs", pairs_text(report.pairs)))
    render.facts(rows)


def pairs_text(pairs: Sequence[Mapping[str, Any]]) -> str:
    """Say how many pairs of scans were registered, and how well: the worst of each number."""
    lines = []
    for word, group in (
        ("registered", [pair for pair in pairs if not pair["refused"]]),
        ("refused", [pair for pair in pairs if pair["refused"]]),
    ):
        if group:
            turns = [
                abs(pair["turn_degrees"]) for pair in group if pair["turn_degrees"] is not None
            ]
            turned = f", turned by up to {max(turns):.1f}°" if turns else ""
            qualities, overlaps = ([pair[key] for pair in group] for key in ("quality", "overlap"))
            lines.append(
                f"{len(group):,} {word}: quality {min(qualities):.2f} to {max(qualities):.2f}, "
                f"overlap {min(overlaps):.0%} to {max(overlaps):.0%}{turned}"
            )
    return "; ".join(lines)


def _submit(asked: Request, profile: SlurmProfile, *, yes: bool, mode: Mode) -> int:
    asks = mode == "text" and sys.stdin.isatty() and sys.stderr.isatty()
    table = checking.check(asked)
    notes = terms(asked)
    if mode != "json":
        for line in notes:
            render.note(line, kind="warning")
    tasks = min(profile.pilots, len(table.slides))
    hours = (tasks + 1) * profile.billed_gpus * profile.walltime_min / 60
    text = f"{len(table.slides):,} slides in {render.many(tasks, 'task')} and a last job"
    if mode == "text":
        render.note(f"{text}, at most {render.hours(hours)} GPU-h")
    if not yes and not (asks and render.confirm("Submit?")):
        hint = "add --yes to submit"
        render.error(mode, kind="usage", message="this spends GPU time", hint=hint)
        return 2
    jobs = embed_jobs.submit(asked, profile, tasks=tasks)
    told = embed_jobs.told(asked.out, jobs[-1])
    if mode == "json":
        render.value({"data": str(asked.out), "jobs": jobs, "report": str(told), "notes": notes})
    elif mode == "quiet":
        render.lines(jobs)
    else:
        render.facts([("submitted", ", ".join(jobs)), ("logs", str(embed_jobs.logs(asked.out)))])
        render.note(f"When they have ended, {told} says what is there.")
    return 0


def _device(asked: str) -> str:
    import torch  # takes seconds

    count = torch.cuda.device_count() if torch.cuda.is_available() else 0
    if not asked:
        return "cuda" if count else "cpu"
    if asked != "cpu" and not count:
        raise DataError(f"--device {asked}: there is no GPU here", hint="use: --device cpu")
    if int(asked.partition(":")[2] or 0) >= max(count, 1):
        raise DataError(f"--device {asked}: there are {count} GPUs here, the first is cuda:0")
    return asked


def _refuse_other_arithmetic(asked: Request) -> None:
    """Keep a machine without a GPU from making anew, unasked, what a GPU has made.

    Raises:
        DataError: The data set has bags of an encoder in another arithmetic than a CPU's.
    """
    try:
        before = joining.existing(asked.out)
    except DataError:  # told later, with all that is wrong
        return
    if before is None:
        return
    lines = []
    for name in asked.encoders:
        made = set(before.index["precision"][before.index["encoder"] == name]) - {""}
        if not made:
            continue
        mine = requests.arithmetic(requests.describe(name, asked), asked, "cpu")
        if mine not in made:
            lines.append(
                f"{asked.out}: has embeddings of {name!r} in {' and '.join(sorted(made))}, and "
                f"there is no GPU here: it would all be made anew in {mine}"
            )
    if lines:
        raise DataError(
            "\n".join(lines),
            hint="where there is a GPU, the same command goes on; to make all anew: --device cpu",
        )


def progress_text(pace: "Pace") -> str:
    """Say how far an extraction is."""
    text = f"{pace.tiles:,} tiles of {pace.planned:,} slides"
    if pace.planned < pace.num_slides:
        text += f" ({pace.num_slides:,} in all)"
    text += f", {pace.tiles_per_s:,.1f} tiles/s"
    if pace.seconds_left is not None:
        text += f", about {render.duration(pace.seconds_left)} left"
    return text
