"""What a sweep cost and what failed in it, from its events and results; pure.

GPU-hours are those that pilots held, over all launches, up to the last event: a GPU that waits is
paid too. No event says which arm a waiting GPU belongs to, so they are divided between arms as the
training time of the trials that count is.
"""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

import pandas as pd

from orchestrator.events import Event, Progress
from orchestrator.history import words


@dataclass(frozen=True, slots=True, kw_only=True)
class Cost:
    """What was used.

    Attributes:
        gpu_hours: that pilots held; zero without pilots.
        training_hours: of the trials that count, summed over trials.
        devices: that trained them.
        began: time of the first event; empty before it.
        ended: time of the last.
        arms: arm, trials, training_hours, share, and gpu_hours where there were any.
    """

    gpu_hours: float
    training_hours: float
    devices: tuple[str, ...]
    began: str
    ended: str
    arms: pd.DataFrame


def count(told: Sequence[Event], state: Progress, plan: pd.DataFrame, trials: pd.DataFrame) -> Cost:
    """Count what a sweep used; a trial in cells of several arms counts in the first.

    Args:
        told: all events, in time order.
        state: what they fold to.
        plan: a row per cell and trial.
        trials: a row per trial with a result.
    """
    ended = told[-1]["time"] if told else ""
    gpu_hours = sum(pilot.gpu_hours("", ended) for pilot in state.pilots.values())
    first = plan.drop_duplicates("trial")[["trial", "arm"]]
    known = trials.reindex(columns=["trial", "seconds", "device"])
    rows = first.merge(known, on="trial")
    by_arm = rows.groupby("arm", sort=False)
    hours = by_arm["seconds"].sum().astype(float) / 3600
    total = float(hours.sum())
    arms = pd.DataFrame({"arm": hours.index, "trials": by_arm.size().to_numpy()})
    arms["training_hours"] = hours.to_numpy()
    arms["share"] = arms["training_hours"] / total if total else 0.0
    if gpu_hours:
        arms["gpu_hours"] = arms["share"] * gpu_hours
    return Cost(
        gpu_hours=gpu_hours,
        training_hours=total,
        devices=tuple(sorted(set(known["device"].dropna().astype(str)))),
        began=told[0]["time"] if told else "",
        ended=ended,
        arms=arms,
    )


def failures(told: Sequence[Event], state: Progress) -> pd.DataFrame:
    """Count failures by class, over all launches, the most frequent first.

    Returns:
        failure, meaning, attempts that it ended, trials that died in a pack that went on, and
        trials given up for it.
    """
    attempts = Counter(event["failure"] for event in told if event["event"] == "failed")
    lanes = Counter(
        str(kind).partition(":")[0]
        for event in told
        if event["event"] == "accepted"
        for kind in event["failed"].values()
    )
    given_up = Counter(state.failed[trial] for trial in state.given_up)
    kinds = sorted({*attempts, *lanes, *given_up}, key=lambda kind: (-attempts[kind], kind))
    return pd.DataFrame(
        {
            "failure": kinds,
            "meaning": [words(kind) for kind in kinds],
            "attempts": [attempts[kind] for kind in kinds],
            "lanes": [lanes[kind] for kind in kinds],
            "given_up": [given_up[kind] for kind in kinds],
        }
    )


def jobs(state: Progress) -> pd.DataFrame:
    """List the SLURM jobs: driver jobs, then pilots, in the order of submission.

    Returns:
        job, role, node, gpus, hours that it ran, and how it ended.
    """
    rows = []
    for event in state.submitted:
        pilot = state.pilots.get(event["job"])
        rows.append(
            {
                "job": event["job"],
                "role": event["role"],
                "node": pilot.node if pilot else "",
                "gpus": pilot.gpus if pilot else 0.0,
                "hours": (pilot.seconds / 3600) if pilot else float("nan"),
                "ended": (pilot.reason or pilot.state.lower()) if pilot else "",
            }
        )
    return pd.DataFrame(rows, columns=["job", "role", "node", "gpus", "hours", "ended"])
