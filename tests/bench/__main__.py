"""How fast is it? `make bench`, or `python -m tests.bench`; `--full` for the long form.

Every figure on one machine in one call, and what a stopped call measured is not measured again.
"""

import os

os.environ["MKL_CBWR"] = "AUTO"  # before any product: training.lanes
os.environ["OMP_NUM_THREADS"] = "1"

import contextlib
import math
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path

import click

from cluster.errors import ClusterError
from cluster.testbed import layout, lifecycle, packages
from tests.bench import bare, lanes, loading, plain, report, scale, systems, trials
from tests.bench.record import Record
from tests.bench.report import Values, Work
from tests.bench.systems import Bench
from tests.bench.trials import Load

FIGURES = ("scale", "loading", "lanes", "systems")
CALIBRATE_EPOCHS = 8


@dataclass(frozen=True, slots=True, kw_only=True)
class Form:
    """How much is measured.

    Args:
        loads: name, seconds of a trial, number of trials, and who trains it: all, or `sweep`.
        repeats: of every pair of systems.
        lanes_s: seconds of a trial of the lanes figure.
        scales: numbers of trials.
        minutes: no measurement begins later.
    """

    loads: tuple[tuple[str, float, int, str], ...]
    repeats: int
    lanes_s: float
    scales: tuple[int, ...]
    minutes: float


SHORT = Form(
    loads=(("1 s", 1.0, 12, "all"), ("5 s", 5.0, 8, "sweep")),
    repeats=3, lanes_s=0.4, scales=(1000, 10_000, 100_000), minutes=12,
)  # fmt: skip
FULL = Form(
    loads=(("5 s", 5.0, 64, "all"), ("1 s", 1.0, 256, "all"), ("0.2 s", 0.2, 256, "sweep")),
    repeats=3, lanes_s=1.0, scales=(1000, 10_000, 100_000), minutes=115,
)  # fmt: skip


class OutOfTimeError(Exception):
    """The call's minutes are over; the next call goes on."""


@click.command()
@click.option("--full", is_flag=True, help="Loads of full size: up to two hours a call.")
@click.option("--minutes", type=float, help="No measurement begins later.")
@click.option("--only", type=click.Choice(FIGURES), multiple=True, help="Only these figures.")
@click.option("--trials", "num_trials", type=int, help="Trials of every load: to try it out.")
@click.option("--out", type=click.Path(path_type=Path), default=Path("results/bench"))
@click.option("--page", type=click.Path(path_type=Path), default=Path("results/README.md"))
def main(
    *, full: bool, minutes: float | None, only: tuple[str, ...], num_trials: int | None, out: Path,
    page: Path,
) -> None:  # fmt: skip
    """Measure what is missing and write the tables."""
    form = FULL if full else SHORT
    until = time.monotonic() + 60 * (minutes or form.minutes)
    settings = {"form": "full" if full else "short", "repeats": form.repeats, "trials": num_trials}
    record = Record(out / ("speed-full.json" if full else "speed.json"), settings)
    click.echo(f"{'goes on with' if record.resumed else 'begins'} {record.path}")
    complete = True
    with tempfile.TemporaryDirectory(prefix="sweep-bench-") as scratch, _testbed() as slurm_conf:
        bench = Bench(
            data=Path(scratch) / "data", scratch=Path(scratch),
            cores=len(os.sched_getaffinity(0)), slurm_conf=slurm_conf,
        )  # fmt: skip
        trials.write_data(bench.data)
        runner = Runner(record, form, bench, until=until, num_trials=num_trials)
        try:
            for figure in FIGURES:
                if not only or figure in only:
                    getattr(runner, figure)()
        except (OutOfTimeError, KeyboardInterrupt) as stopped:
            complete = False
            click.echo(f"stopped: {stopped or 'interrupted'}; the same command goes on")
    tables = report.markdown(record, full=full)
    report.put(tables, page, full=full)
    click.echo(tables)
    sys.exit(0 if complete and not runner.failed else 1)


class Runner:
    """Measures figure by figure, and says what it does.

    Args:
        record: keeps what was measured.
        form: how much.
        bench: where.
        until: no measurement begins later, monotonic.
        num_trials: of every load; None: those of the form.
    """

    def __init__(
        self, record: Record, form: Form, bench: Bench, *, until: float, num_trials: int | None
    ) -> None:
        self.record, self.form, self.bench = record, form, bench
        self.until, self.num_trials = until, num_trials
        self.failed = False

    def once(self, figure: str, name: str, repeat: int, work: Work) -> Values:
        """Measure what is missing, in time; a system that fails is told and leaves a hole."""
        known = self.record.get(figure, name, repeat)
        if known is not None:
            return known
        if time.monotonic() > self.until:
            raise OutOfTimeError("the time is over")
        began = time.monotonic()
        try:
            found = self.record.once(figure, name, repeat, work)
        except (RuntimeError, OSError, subprocess.TimeoutExpired) as error:
            self.failed = True
            click.echo(f"FAILED  {figure}: {name}: {error}")
            return {}
        shown = "  ".join(f"{key} {value:.4g}" for key, value in found.items())
        seconds = time.monotonic() - began
        click.echo(f"{figure}: {name} #{repeat + 1}: {shown}  ({seconds:.0f} s)")
        return found

    def scale(self) -> None:
        """Time the orchestrator at growing numbers of trials."""
        folder = self.bench.scratch / "scale"
        for what in ("plan, 100 cells", "plan, a cell per trial", "driver", "commands"):
            for count in self.form.scales:
                if what == "commands" and count > 10_000 and self.form is SHORT:
                    continue
                name = f"{what}, {count}"
                self.once("scale", name, 0, lambda w=what, n=count: scale.measure(w, n, folder))

    def loading(self) -> None:
        """Time the loader beside a copy of the same bytes and files per slide."""
        folder = self.bench.scratch / "loading"
        for repeat in range(self.form.repeats):
            if self.record.get("loading", "ways", repeat) is None:
                loading.write(folder)
            self.once("loading", "ways", repeat, lambda: loading.measure(folder))

    def lanes(self) -> None:
        """Time packs of K lanes beside an ordinary model."""
        load = self._load("lanes", self.form.lanes_s, max(lanes.SIZES))
        for repeat in range(self.form.repeats):
            for name, measure in (("sizes", lanes.measure), ("losses", lanes.measure_losses)):
                self.once("lanes", name, repeat, lambda measure=measure: measure(
                    load, data=self.bench.data, scratch=self.bench.scratch
                ))  # fmt: skip

    def systems(self) -> None:
        """Train the same trials with every system, one repeat after the other."""
        for repeat in range(self.form.repeats):
            for name, seconds, count, who in self.form.loads:
                load = self._load(name, seconds, self.num_trials or count)
                figure = f"systems, {name}"
                self.once(figure, "bare", repeat, lambda load=load: self._bare(load))
                everyone = (*systems.OURS, *systems.OTHERS)
                for system in everyone if who == "all" else (who,):
                    if systems.needs_slurm(system) and not self.bench.slurm_conf:
                        continue
                    work = lambda s=system, load=load: self._system(s, load)  # noqa: E731
                    self.once(figure, system, repeat, work)

    def _load(self, name: str, seconds: float, count: int) -> Load:
        """Make trials of about this length, on this machine, now and in later calls."""
        found = self.once("calibration", "epoch", 0, self._epoch)
        epochs = max(2, round(seconds / found["seconds"]))
        return Load(name=name, epochs=epochs, num_trials=count)

    def _epoch(self) -> dict[str, float]:
        load = Load(name="epoch", epochs=CALIBRATE_EPOCHS, num_trials=4)
        spec = self.bench.scratch / "epoch.yaml"
        trials.write_spec(spec, load, data=self.bench.data)
        config = trials.configs(spec)[0]
        given = plain.prepare(config, self.bench.data)
        times = []
        for _ in range(3):
            began = time.process_time()  # what others do meanwhile makes no trial shorter
            plain.train(config, given)
            times.append(time.process_time() - began)
        return {"seconds": min(times) / CALIBRATE_EPOCHS}

    def _bare(self, load: Load) -> dict[str, float]:
        spec = self.bench.scratch / "bare" / "bare.yaml"
        trials.write_spec(spec, load, data=self.bench.data)
        seconds = bare.core_seconds(
            trials.configs(spec), data=self.bench.data, scratch=spec.parent / "out",
            cores=self.bench.cores,
        )  # fmt: skip
        return {"core_s": seconds, "trials": float(load.num_trials)}

    def _system(self, name: str, load: Load) -> dict[str, float]:
        found = asdict(systems.measure(name, load, self.bench))
        return {key: value for key, value in found.items() if not math.isnan(value)}


@contextlib.contextmanager
def _testbed() -> Iterator[str]:
    """Have a SLURM test bed while measuring; without one, what needs it is left out."""
    if problems := packages.obstacles():
        click.echo(f"no SLURM test bed here: {'; '.join(problems)}")
        yield ""
        return
    root = layout.default_root()
    ran_before = any(lifecycle.status(root).daemons.values())
    try:
        yield str(lifecycle.up(root).slurm_conf)
    except ClusterError as error:
        click.echo(f"the SLURM test bed does not come up: {error.message}")
        yield ""
    finally:
        if not ran_before:
            lifecycle.down(root)


if __name__ == "__main__":
    main(prog_name="python -m tests.bench")
