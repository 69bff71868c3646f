"""Tickets of Ray Tune: each draws one pack on a reused worker; the only door to ray.tune.

A Tune trial is a *ticket* for one pack, and the pack is settled when the ticket starts on a worker.
Tune's own state lives in scratch that is deleted.
"""

import logging
import math
import os
import shutil
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import ray
from ray import tune
from ray.tune.search import Searcher

from cluster.errors import ClusterError
from orchestrator import worker
from orchestrator.folder import Folder
from orchestrator.halving import Bracket
from orchestrator.surroundings import Node
from orchestrator.worker import Assignment, Job, Setting

BROKER = "broker"
REPORT_S = 1.0
TELL_S = 0.1
"""A worker tells how far it is after epochs, but not more often."""
START_S = 180.0
"""On this machine a worker has drawn a pack by then, or something is broken."""
REFUSED_S = 1.0
"""A worker that got no pack asks again after this long."""
LEAVE = ("time", "sick")
"""Reasons for which the pilot had better leave."""
MAX_WORKER_DEATHS = 20
"""Deaths of workers under one ticket before Tune drops the ticket; packs have their own count."""


def run(
    desk: Any,
    setting: Setting,
    *,
    scratch: Path,
    start_s: float,
    on_progress: Callable[[dict[str, Any]], None],
) -> None:
    """Run tickets until the broker has nothing left, or hands out nothing more.

    Args:
        desk: the broker's actor.
        setting: what every pack shares.
        scratch: a folder for Tune's own state, which nobody reads.
        start_s: a worker must have drawn a pack by then.
        on_progress: called about once a second with the broker's state.
    """
    # What is silenced is Tune's complaint that tickets leave no result files, which is meant.
    logging.getLogger("ray.tune").setLevel(logging.CRITICAL)
    bundle = {"worker": 1.0} | ({"GPU": setting.gpus} if setting.gpus else {})
    trainable = tune.with_resources(
        tune.with_parameters(PackWorker, setting=setting), tune.PlacementGroupFactory([bundle])
    )
    tune.Tuner(
        trainable,
        tune_config=tune.TuneConfig(search_alg=Tickets(desk), num_samples=-1, reuse_actors=True),
        run_config=tune.RunConfig(
            storage_path=str(scratch / "tune"),
            verbose=0,
            callbacks=[Watch(desk, on_progress, start_s=start_s)],
            failure_config=tune.FailureConfig(max_failures=MAX_WORKER_DEATHS),
        ),
    ).fit()


class PackWorker(tune.Trainable):  # type: ignore[misc]  # ray is not typed
    """A reused actor: each ticket draws one pack, trains it and reports what became of it."""

    def setup(self, config: dict[str, Any], setting: Setting | None = None) -> None:
        """Find the broker; called once for an actor."""
        del config
        assert setting is not None
        self._setting = setting
        self._broker = ray.get_actor(BROKER)
        self._resident = ""
        self._node = Node.here()
        self._node.log_to(Folder(setting.folder).logs)

    def reset_config(self, new_config: dict[str, Any]) -> bool:
        """Take another ticket in the same process."""
        del new_config
        return True

    def step(self) -> dict[str, Any]:
        """Draw a pack and train it; wait where packs wait that may not train here now."""
        while not self._node.draining():
            reason = self._take()
            if reason in LEAVE:
                self._node.say_out_of_time()
            if reason in ("", "nothing", "stopped"):
                return {"done": True}
            # In the same ticket: Tune keeps two folders and a record of every ticket.
            time.sleep(REFUSED_S)
        time.sleep(REFUSED_S)
        return {"done": True}

    def _take(self) -> str:
        """Ask for a pack and train it; return why there is none."""
        name, place = self.trial_id, self._node.place()
        with self._node.busy():
            drawn = ray.get(self._broker.draw.remote(name, resident=self._resident, place=place))
            if drawn.assignment is not None:
                self._resident = drawn.assignment.job.encoder
                self._train(name, drawn.assignment)
        reason: str = drawn.reason
        return reason

    def _train(self, name: str, assignment: Assignment) -> None:
        answer, ends, told = None, False, -math.inf

        def report(epoch: int, epochs: int) -> None:
            nonlocal answer, ends, told
            if epoch < epochs and time.monotonic() - told < TELL_S:
                return
            # The answer to one report is read at the next: training waits for nobody.
            ends = answer is not None and ray.get(answer)
            answer, told = self._broker.report.remote(name, epoch / epochs), time.monotonic()

        def stop() -> bool:
            return ends or self._node.draining()

        def judge(bracket: Bracket, epoch: int, values: Mapping[str, float]) -> list[str]:
            found: list[str] = ray.get(self._broker.judge_rung.remote(bracket, epoch, values))
            return found

        outcome = worker.train(assignment, self._setting, on_epoch=report, stop=stop, judge=judge)
        if outcome.stopped:
            reason = "drain" if self._node.draining() else "stop"
            ray.get(self._broker.release.remote(name, assignment, reason=reason))
        elif outcome.failure is not None:
            parts = ray.get(self._broker.fail.remote(name, assignment, outcome.failure))
            if parts is not None:
                if outcome.failure.kind == "gpu_memory":
                    self._hand_down(assignment.job, parts)
                self._forget(assignment)
            if outcome.failure.cuda or outcome.failure.kind == "sick_gpu":
                # A CUDA fault stays with its process: Tune starts another one.
                os._exit(1)
        elif ray.get(
            self._broker.accept.remote(
                name,
                assignment,
                failed=outcome.failed,
                retired=outcome.retired,
                seconds=outcome.seconds,
                device=outcome.device,
            )
        ):
            self._forget(assignment)

    def _hand_down(self, job: Job, parts: list[str]) -> None:
        """Let the parts of a pack that did not fit go on from its checkpoint."""
        from training import checkpoint

        place = Folder(self._setting.folder).checkpoints
        checkpoint.hand_down(place / job.pack, [place / part for part in parts])

    def _forget(self, assignment: Assignment) -> None:
        """Remove a checkpoint that nobody will read."""
        checkpoint = Folder(self._setting.folder).checkpoints / assignment.job.pack
        shutil.rmtree(checkpoint, ignore_errors=True)

    def save_checkpoint(self, checkpoint_dir: str) -> None:
        """Keep nothing: packs have their own checkpoints."""

    def load_checkpoint(self, checkpoint: Any) -> None:
        """Load nothing: packs have their own checkpoints."""


class Tickets(Searcher):  # type: ignore[misc]  # ray is not typed
    """Hands out tickets while packs wait, and ends when none waits or trains."""

    def __init__(self, broker: Any) -> None:
        super().__init__()
        self._broker = broker
        self._count = 0

    def suggest(self, trial_id: str) -> Any:
        """Return a ticket, None for "ask again", or the end."""
        del trial_id
        state = ray.get(self._broker.state.remote())
        if state["stopped"]:
            return None if state["training"] else Searcher.FINISHED
        if state["waiting"] and not state["held"]:
            self._count += 1
            return {"ticket": self._count}
        left = state["waiting"] + state["training"] + state["lost"]
        return None if left else Searcher.FINISHED

    def on_trial_complete(
        self, trial_id: str, result: dict[str, Any] | None = None, error: bool = False
    ) -> None:
        """Learn nothing from a ticket: the broker knows."""

    def save(self, checkpoint_path: str) -> None:
        """Keep nothing: segments and events are the state."""

    def restore(self, checkpoint_path: str) -> None:
        """Restore nothing: segments and events are the state."""


class Watch(tune.Callback):  # type: ignore[misc]  # ray is not typed
    """Gives packs of vanished workers back, and reports progress."""

    def __init__(
        self, broker: Any, on_progress: Callable[[dict[str, Any]], None], *, start_s: float
    ) -> None:
        self._broker = broker
        self._on_progress = on_progress
        self._reported = 0.0
        self._start_by = time.monotonic() + start_s

    def __getstate__(self) -> dict[str, Any]:
        # Tune pickles its callbacks for a restore that is never made; a terminal cannot be pickled.
        return {}

    def on_trial_recover(self, iteration: int, trials: Any, trial: Any, **info: Any) -> None:
        """Take back the pack of a worker that Tune will replace."""
        del iteration, trials, info
        ray.get(self._broker.lose.remote(trial.trial_id))

    def on_trial_error(self, iteration: int, trials: Any, trial: Any, **info: Any) -> None:
        """Take back the pack of a worker that Tune gave up."""
        del iteration, trials, info
        ray.get(self._broker.lose.remote(trial.trial_id))

    def on_step_end(self, iteration: int, trials: Any, **info: Any) -> None:
        """Report progress, once a second at most."""
        del iteration, trials, info
        if time.monotonic() - self._reported >= REPORT_S:
            self._reported = time.monotonic()
            state = ray.get(self._broker.state.remote())
            self._on_progress(state)
            if state["waiting"] < state["packs"]:
                self._start_by = math.inf
            elif time.monotonic() > self._start_by:
                raise ClusterError("no worker started on this machine in 3 minutes")
