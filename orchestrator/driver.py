"""The Ray Tune process: hands tickets to reused workers until no pack is left.

The only file that imports ray.tune. A Tune trial is a *ticket* for one pack, and the pack is
settled when the ticket starts on a worker. Tune's own state lives in scratch that is deleted:
results are segments, and a driver that dies is replaced by one that reads them.

Ray reads its token when it is imported: import this module with its environment set (`launch`).
"""

import contextlib
import logging
import os
import shutil
import signal
import socket
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import psutil
import ray
from ray import tune
from ray.tune.search import Searcher

from cluster import pilot, ray_node
from orchestrator import worker
from orchestrator.broker import Broker
from orchestrator.events import Journal, progress
from orchestrator.folder import Folder
from orchestrator.worker import Job, Setting

log = logging.getLogger(__name__)

BROKER = "broker"
LOOPBACK = "127.0.0.2"
"""Ray replaces 127.0.0.1 by the host's outer address, but keeps the addresses above it."""
HEAD_MEMORY_BYTES = 2**30
REPORT_S = 1.0
MAX_WORKER_DEATHS = 20
"""Deaths of workers under one ticket before Tune drops the ticket; packs have their own count."""


class PackWorker(tune.Trainable):  # type: ignore[misc]  # ray is not typed
    """A reused actor: each ticket draws one pack, trains it and reports what became of it."""

    def setup(self, config: dict[str, Any], setting: Setting | None = None) -> None:
        """Find the broker; called once for an actor."""
        del config
        assert setting is not None
        self._setting = setting
        self._broker = ray.get_actor(BROKER)
        self._resident = ""

    def reset_config(self, new_config: dict[str, Any]) -> bool:
        """Take another ticket in the same process."""
        del new_config
        return True

    def step(self) -> dict[str, Any]:
        """Draw a pack and train it."""
        name = self.trial_id
        assignment = None
        if not _draining():
            assignment = ray.get(self._broker.draw.remote(name, resident=self._resident))
        if assignment is None:
            time.sleep(0.5 if _draining() else 0.0)
            return {"done": True}
        self._resident = assignment.job.encoder
        outcome = worker.train(
            assignment,
            self._setting,
            on_epoch=lambda epoch, epochs: self._broker.report.remote(name, epoch / epochs),
            stop=_draining,
        )
        if outcome.stopped:
            ray.get(self._broker.release.remote(name, assignment))
        elif outcome.failure is not None:
            ray.get(self._broker.fail.remote(name, assignment, outcome.failure))
        elif ray.get(
            self._broker.accept.remote(
                name, assignment, failed=outcome.failed, seconds=outcome.seconds
            )
        ):
            checkpoint = Folder(self._setting.folder).checkpoints / assignment.job.pack
            shutil.rmtree(checkpoint, ignore_errors=True)
        return {"done": True}

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
        if state["waiting"]:
            self._count += 1
            return {"ticket": self._count}
        return None if state["training"] else Searcher.FINISHED

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

    def __init__(self, broker: Any, on_progress: Callable[[dict[str, Any]], None]) -> None:
        self._broker = broker
        self._on_progress = on_progress
        self._reported = 0.0

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
            self._on_progress(ray.get(self._broker.state.remote()))


def drive_here(
    jobs: Sequence[Job],
    setting: Setting,
    *,
    workers: int,
    on_progress: Callable[[dict[str, Any]], None],
) -> None:
    """Train packs on this machine, in the foreground.

    Args:
        jobs: packs, most urgent first.
        setting: where and how.
        workers: packs trained at once.
        on_progress: called about once a second with the broker's state.
    """
    gpus = round(setting.gpus * workers)
    with _head(setting, LOOPBACK, workers=workers, gpus=gpus) as (_, scratch):
        _drive(jobs, setting, scratch=scratch, workers=workers, on_progress=on_progress)


def drive_on_cluster(
    jobs: Sequence[Job], setting: Setting, *, workers: int, node_ip: str | None
) -> None:
    """Train packs with the pilots that join; the body of the driver's SLURM job.

    Args:
        jobs: packs, most urgent first.
        setting: where and how.
        workers: places on all pilots together: tickets that may wait at once.
        node_ip: address of this node for Ray, variables expanded; default: the host's own.
    """
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(levelname)s %(message)s")
    pool = Folder(setting.folder).pool
    ip = os.path.expandvars(node_ip) if node_ip else ray_node.own_address()
    with _head(setting, ip) as (address, scratch):
        pilot.announce(pool, address)
        _drive(jobs, setting, scratch=scratch, workers=workers, on_progress=_log_progress())
        pilot.dismiss(pool)


@contextlib.contextmanager
def _head(
    setting: Setting, ip: str, *, workers: int = 0, gpus: int = 0
) -> Iterator[tuple[str, Path]]:
    """Run a Ray head of our own and connect to it; yields its address and scratch folder."""
    port = ray_node.free_port()
    node = ray_node.start_head(
        token=Folder(setting.folder).pool / "token",
        ip=ip,
        port=port,
        memory_bytes=HEAD_MEMORY_BYTES if not workers else psutil.virtual_memory().available,
        workers=workers,
        gpus=gpus,
    )
    try:
        _connect(f"{ip}:{port}", ip, node)
        # Ray and submitit have handlers of their own; a driver that is asked to leave leaves, and
        # its node with it.
        for number in (signal.SIGTERM, signal.SIGUSR1, signal.SIGUSR2):
            signal.signal(number, _leave)
        yield f"{ip}:{port}", node.temporary
    finally:
        ray.shutdown()
        node.end()


def _drive(
    jobs: Sequence[Job],
    setting: Setting,
    *,
    scratch: Path,
    workers: int,
    on_progress: Callable[[dict[str, Any]], None],
) -> None:
    folder = Folder(setting.folder)
    journal = Journal(folder, "driver")
    journal.write(
        "driving", host=socket.gethostname(), pid=os.getpid(),
        job=os.environ.get("SLURM_JOB_ID", ""), packs=len(jobs),
    )  # fmt: skip
    attempts = dict(progress(folder).attempts)
    desk = (
        ray.remote(Broker)
        .options(name=BROKER, num_cpus=0)
        .remote(list(jobs), attempts=attempts, journal=journal)
    )
    on_progress(ray.get(desk.state.remote()))
    os.environ["TUNE_MAX_PENDING_TRIALS_PG"] = str(workers)
    _tune(desk, setting, scratch=scratch, on_progress=on_progress)
    on_progress(ray.get(desk.state.remote()))
    ray.get(desk.close.remote())


def _tune(
    desk: Any, setting: Setting, *, scratch: Path, on_progress: Callable[[dict[str, Any]], None]
) -> None:
    """Run tickets until the broker has nothing left."""
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
            callbacks=[Watch(desk, on_progress)],
            failure_config=tune.FailureConfig(max_failures=MAX_WORKER_DEATHS),
        ),
    ).fit()


def _connect(address: str, ip: str, node: ray_node.Node) -> None:
    """Join our own head, which takes some seconds to come up."""
    until = time.monotonic() + 60
    while True:
        try:
            ray.init(
                address=address, _node_ip_address=ip, log_to_driver=False, logging_level="error"
            )
            return
        except (ConnectionError, RuntimeError) as error:
            if not node.alive() or time.monotonic() > until:
                from cluster.errors import ClusterError

                raise ClusterError(f"the Ray head did not start: {error}\n{node.log()}") from error
            time.sleep(0.5)


def _draining() -> bool:
    path = os.environ.get(pilot.DRAIN_VARIABLE)
    return path is not None and Path(path).exists()


def _log_progress() -> Callable[[dict[str, Any]], None]:
    last: dict[str, Any] = {}

    def report(state: dict[str, Any]) -> None:
        if {**state, "shares": 0} != last:
            last.update(state, shares=0)
            log.info(" ".join(f"{name}={value}" for name, value in state.items()))

    return report


def _leave(number: int, _frame: object) -> None:
    raise SystemExit(128 + number)
