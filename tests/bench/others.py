"""The alternatives, each a program: `python -m tests.bench.others NAME TRIALS --data … --out …`.

All of them train with `tests.bench.plain`, at most `--cores` trials at once. They are used as their
manuals advise; what would cost them time for nothing (loggers, usage statistics) is switched off.
"""

import os

os.environ |= {"RAY_USAGE_STATS_ENABLED": "0", "TUNE_DISABLE_AUTO_CALLBACK_LOGGERS": "1"}
os.environ |= {"RAY_AIR_NEW_OUTPUT": "0", "RAY_DEDUP_LOGS": "0"}

import argparse
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

POLL_S = 0.2


def submitit_array(
    trials: list[Path], *, data: Path, out: Path, cores: int, partition: str
) -> None:
    """Submit a job array through submitit, one job per trial."""
    import submitit

    from tests.bench import plain

    executor = submitit.AutoExecutor(folder=out / "submitit", cluster="slurm")
    executor.update_parameters(
        slurm_partition=partition, slurm_array_parallelism=cores, cpus_per_task=1, mem_gb=2,
        timeout_min=30, slurm_setup=["export OMP_NUM_THREADS=1"],
    )  # fmt: skip
    with executor.batch():
        jobs = [executor.submit(plain.alone, path, data, out, out / "marks") for path in trials]
    while len(list((out / "marks").glob("*.jsonl"))) < len(trials):
        if all(job.watcher.is_done(job.job_id) for job in jobs):
            raise SystemExit("the array is over and trials are missing")
        time.sleep(POLL_S)


def shell(
    trials: list[Path], *, data: Path, out: Path, cores: int, program: tuple[str, ...]
) -> None:
    """Loop over the files in a shell, a process per trial."""
    command = [sys.executable, "-m", *program, "{}", "--data", str(data)]
    words = ["xargs", "-P", str(cores), "-I", "{}", *command]
    subprocess.run(words, input="\n".join(map(str, trials)), text=True, check=True)


def tune_function(trials: list[Path], *, data: Path, out: Path, cores: int) -> None:
    """Run a function trainable per trial."""
    from tests.bench import plain

    def one(config: dict[str, Any]) -> dict[str, float]:
        return {"seconds": plain.alone(Path(config["trial"]), data, out, out / "marks")}

    _tune(one, trials, out=out, cores=cores, reuse=False)


def tune_class(trials: list[Path], *, data: Path, out: Path, cores: int) -> None:
    """Run a class trainable with reused actors, which keep what they have read."""
    from ray import tune

    from tests.bench import plain
    from training.config import TrialConfig

    class One(tune.Trainable):  # type: ignore[misc]  # ray is not typed
        def setup(self, config: dict[str, Any]) -> None:
            self._given: plain.Prepared | None = None
            self._trial = Path(config["trial"])

        def reset_config(self, new_config: dict[str, Any]) -> bool:
            self._trial = Path(new_config["trial"])
            return True

        def step(self) -> dict[str, Any]:
            config = TrialConfig.model_validate_json(self._trial.read_text())
            self._given = self._given or plain.prepare(config, data)
            seconds = plain.timed(
                config, self._given, name=self._trial.stem, out=out, marks=out / "marks"
            )
            return {"seconds": seconds, "done": True}

        def save_checkpoint(self, checkpoint_dir: str) -> None:
            pass

        def load_checkpoint(self, checkpoint: Any) -> None:
            pass

    _tune(One, trials, out=out, cores=cores, reuse=True)


def _tune(trainable: Any, trials: list[Path], *, out: Path, cores: int, reuse: bool) -> None:
    import ray
    from ray import tune

    ray.init(num_cpus=cores, include_dashboard=False, log_to_driver=False, logging_level="error")
    tune.Tuner(
        tune.with_resources(trainable, {"cpu": 1}),
        param_space={"trial": tune.grid_search([str(path) for path in trials])},
        tune_config=tune.TuneConfig(reuse_actors=reuse, max_concurrent_trials=cores),
        run_config=tune.RunConfig(storage_path=str(out / "tune"), verbose=0),
    ).fit()
    ray.shutdown()


def main() -> None:
    """Train the trials of a folder with one of the alternatives."""
    parser = argparse.ArgumentParser(prog="python -m tests.bench.others", description=main.__doc__)
    parser.add_argument("name")
    parser.add_argument("trials", type=Path)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--cores", type=int, required=True)
    parser.add_argument("--partition", default="gpu")
    given = parser.parse_args()
    rest: dict[str, Any] = {"data": given.data, "out": given.out, "cores": given.cores}
    trials = sorted(given.trials.glob("*.json"))
    marks = str(given.out / "marks")
    match given.name:
        case "submitit":
            submitit_array(trials, partition=given.partition, **rest)
        case "tune function":
            tune_function(trials, **rest)
        case "tune class":
            tune_class(trials, **rest)
        case "shell":
            words = ("tests.bench.plain", "--out", str(given.out), "--marks", marks)
            shell(trials, program=words, **rest)
        case _:
            parser.error(f"no system is called {given.name!r}")


if __name__ == "__main__":
    main()
