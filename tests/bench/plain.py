"""An ordinary trainer of one model: no lanes, no `vmap`, torch's own optimiser.

It does the arithmetic that a lane does, once: the same batches, losses, validation after each epoch
and scores of the chosen epoch, to rounding. The bare training of the benchmark is this in a tight
loop, and the alternatives train with it too, so that none pays for the companion that a lone lane
has. `python -m tests.bench.plain TRIAL.json --data DATA --out OUT --marks DIR` trains one trial.
"""

import os

os.environ.setdefault("MKL_CBWR", "AUTO")

import argparse
import copy
import json
import time
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd
import torch

from training import evaluation, judging, objective, seeds
from training.config import TrialConfig
from training.data import index, pairing, sampling, scans
from training.data.bags import BagReader
from training.data.loading import Loader
from training.data.sampling import Pool, Rows
from training.data.scans import Scans
from training.dropout import draw_dropped
from training.judging import Judge
from training.optimiser import schedule
from training.progress import Progress

RESIDENT_BYTES = 2**31


@dataclass(frozen=True, slots=True, kw_only=True)
class Prepared:
    """What trials of one fold read, in memory."""

    scans: Scans
    pool: Pool
    judge: Judge
    loader: Loader
    num_tiles: Rows


def prepare(config: TrialConfig, data: Path) -> Prepared:
    """Read what a trial needs."""
    torch.set_num_threads(1)
    dataset = index.read(data)
    found = scans.read(dataset, config)
    judge = judging.judge(found, config.stopping)
    assert judge is not None, "the trials of the benchmark validate"
    loader = Loader(
        BagReader(dataset.root), found, dtype=objective.dtype(config),
        device=torch.device("cpu"), resident_bytes=RESIDENT_BYTES,
    )  # fmt: skip
    return Prepared(
        scans=found,
        pool=sampling.pool(found, paired=config.views == "all"),
        judge=judge,
        loader=loader,
        num_tiles=found.table["num_tiles"].to_numpy(np.int64),
    )


def train(config: TrialConfig, given: Prepared) -> pd.DataFrame:
    """Train a trial and return its predictions."""
    model = objective.initialise(
        config, seeds.derive(config.seed, "initialisation"), in_dim=given.scans.in_dim,
        num_outputs=given.scans.num_outputs, num_groups=given.scans.num_groups,
        num_patients=given.scans.num_patients, base=given.scans.base,
    )  # fmt: skip
    generator = torch.Generator().manual_seed(seeds.derive(config.seed, "dropout"))
    optim = config.optim
    adam = torch.optim.AdamW(model.parameters(), weight_decay=optim.weight_decay, fused=True)
    like = {"dtype": objective.dtype(config)}
    weights = torch.tensor([loss.weight for loss in config.losses], **like)
    temperatures = torch.tensor([getattr(x, "temperature", 1.0) for x in config.losses], **like)
    steps = sampling.steps_per_epoch(given.pool, config.sampling)
    progress, chosen, step = Progress(), model.state_dict(), 0
    for epoch in range(1, optim.epochs + 1):
        model.train()
        key = (config.draw_seed, config.fold, epoch)
        for draw in sampling.epoch(given.pool, config.sampling, key=key):
            draw = pairing.compare(draw, config.pairs, patient=given.scans.patient)
            batch = given.loader.batch(draw, config.sampling.tiles_per_bag)
            dropped = draw_dropped(
                [generator], (batch.bags.shape[0], batch.bags.shape[1]),
                widths=config.head.embed_dims, dropout=config.head.dropout,
            )  # fmt: skip
            mine = tuple(mask[0] for mask in dropped)
            total, _ = model(batch.bags, batch.mask, mine, weights, temperatures, batch)
            adam.zero_grad()
            total.backward()
            adam.param_groups[0]["lr"] = optim.lr * schedule(optim, step, steps)
            adam.step()
            step += 1
        values = given.judge.values(score(model, given, given.judge.validation.rows))
        progress.record(values)
        value, loss = values["validation_auroc"], values["validation_loss"]
        if progress.judge(value, loss, config.stopping):
            chosen = copy.deepcopy(model.state_dict())
    model.load_state_dict(chosen)
    test = given.scans.of("test", seen_only=False)
    seen = given.scans.of("validation", seen_only=True)
    rows = np.concatenate([test, seen])
    return evaluation.predictions(given.scans, rows, score(model, given, rows))


@torch.no_grad()
def score(model: torch.nn.Module, given: Prepared, rows: Rows) -> np.ndarray:
    """Score whole bags."""
    model.eval()
    none = torch.empty(0)
    found = np.empty((len(rows), given.scans.num_outputs))
    for places in evaluation.chunks(given.num_tiles[rows]):
        bags, mask = given.loader.whole(rows[places])
        found[places] = model(bags, mask, (), none, none, None)[0].numpy()
    return found


def timed(config: TrialConfig, given: Prepared, *, name: str, out: Path, marks: Path) -> float:
    """Train a trial, leave its predictions and when it trained; return its seconds."""
    began = time.time()
    found = train(config, given)
    out.mkdir(parents=True, exist_ok=True)
    found.to_parquet(out / f"{name}.parquet", index=False)
    ended = time.time()
    marks.mkdir(parents=True, exist_ok=True)
    mark = {"name": name, "began": began, "ended": ended}
    with (marks / f"{name}.jsonl").open("a") as file:
        file.write(json.dumps(mark) + "\n")
    return ended - began


def alone(trial: Path, data: Path, out: Path, marks: Path) -> float:
    """Train the trial of a JSON file in a process that knows nothing yet."""
    config = TrialConfig.model_validate_json(trial.read_text())
    return timed(config, prepare(config, data), name=trial.stem, out=out, marks=marks)


def main() -> None:
    """Train one trial from the command line."""
    parser = argparse.ArgumentParser(prog="python -m tests.bench.plain", description=main.__doc__)
    parser.add_argument("trial", type=Path)
    for name in ("data", "out", "marks"):
        parser.add_argument(f"--{name}", type=Path, required=True)
    given = parser.parse_args()
    alone(given.trial, given.data, given.out, given.marks)


if __name__ == "__main__":
    main()
