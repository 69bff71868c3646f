"""GB/s of the loader, page cache warm, beside a copy of the same bytes and files per slide."""

import time
from collections.abc import Callable
from pathlib import Path

import h5py
import numpy as np
import pandas as pd
import torch

from training.config import Optim, Sampling, Stopping, StratifiedFolds, Task, TrialConfig
from training.config_heads import AttentionHead
from training.data import index, sampling, scans, shards
from training.data.bags import Bag, BagReader
from training.data.loading import Loader
from training.data.shards import View

DIM = 1024
TILES = 3072
DRAWN = 512
BATCH = 8
NUM_SLIDES = 48


def write(root: Path) -> None:
    """Write bags of 6 MB three times: as shards, and as a `.pt` and an `.h5` file per slide."""
    if (root / "written").exists():
        return
    draw = np.random.default_rng(0)
    bags = {}
    views = [
        View(
            patient=f"p{number:03}", slide=f"s{number:03}", scan=f"s{number:03}",
            view=f"s{number:03}", scanner="A", routine=True, num_tiles=TILES, dim=DIM,
        )
        for number in range(NUM_SLIDES)
    ]  # fmt: skip
    (root / "files").mkdir(parents=True, exist_ok=True)
    for view in views:
        bags[view.view] = draw.standard_normal((TILES, DIM), np.float32).astype(np.float16)
        torch.save(torch.from_numpy(bags[view.view]), root / "files" / f"{view.view}.pt")
        with h5py.File(root / "files" / f"{view.view}.h5", "w") as file:
            file["features"] = bags[view.view]
    cases = pd.DataFrame({"patient": [view.patient for view in views]})
    cases["label"] = [str(number % 2) for number in range(NUM_SLIDES)]
    numbers = np.arange(TILES, dtype=np.int32)
    coords = np.zeros((TILES, 2), np.int32)
    shards.write(
        root / "data", encoder="one", views=views, cases=cases,
        load=lambda view: Bag(embeddings=bags[view.view], tile=numbers, coords=coords),
    )  # fmt: skip
    (root / "written").touch()


def measure(root: Path) -> dict[str, float]:
    """Read every bag by every way, twice, the second time counted; GB/s of stored bytes.

    Ways that end in " 512 tiles" draw as many from each bag; theirs are milliseconds per bag.
    """
    torch.set_num_threads(1)
    found: dict[str, float] = {}
    everything = NUM_SLIDES * TILES * DIM * 2 / 1e9
    for name, work in _ways(root).items():
        work()
        began = time.process_time()
        work()
        seconds = time.process_time() - began
        drawn = name.endswith("tiles")
        found[name] = seconds * 1e3 / NUM_SLIDES if drawn else everything / seconds
    return found


def _ways(root: Path) -> dict[str, Callable[[], None]]:
    loader, reader, table = _loader(root / "data")
    rows = [row for row in table.itertuples(index=False)]
    names = table["view"].tolist()
    source = np.concatenate([reader.whole(row) for row in rows])
    target = np.empty_like(source[: BATCH * TILES])
    chosen = [sampling.tiles(TILES, DRAWN, key=(0, 0, 1, n), slide="s") for n in range(NUM_SLIDES)]
    batches = np.arange(NUM_SLIDES).reshape(-1, BATCH)

    def copy() -> None:
        for batch in batches:
            np.copyto(target, source[batch[0] * TILES : (batch[-1] + 1) * TILES])

    def files(suffix: str, read: Callable[[Path], object]) -> Callable[[], None]:
        return lambda: [read(root / "files" / f"{name}.{suffix}") for name in names] and None

    def loaded() -> None:
        for batch in batches:
            loader.stored(batch, [np.arange(TILES)] * BATCH)

    def converted() -> None:
        for batch in batches:
            loader.whole(batch)

    def drawn() -> None:
        for batch in batches:
            loader.stored(batch, [chosen[row] for row in batch])

    def h5(path: Path) -> torch.Tensor:
        with h5py.File(path) as file:
            return torch.from_numpy(file["features"][:])

    def pt(path: Path) -> torch.Tensor:
        found: torch.Tensor = torch.load(path, weights_only=True)
        return found

    first = chosen[0]
    return {
        "memcpy": copy,
        "loader, as stored": loaded,
        "loader, to float32": converted,
        ".pt file per slide": files("pt", pt),
        ".h5 file per slide": files("h5", h5),
        "loader, 512 tiles": drawn,
        ".pt file, 512 tiles": files("pt", lambda path: pt(path)[first]),
        ".h5 file, 512 tiles": files("h5", lambda path: h5(path)[first]),
    }


def _loader(data: Path) -> tuple[Loader, BagReader, pd.DataFrame]:
    """Make a loader that keeps nothing in memory."""
    config = TrialConfig(
        encoder="one", task=Task(), head=AttentionHead(kind="attention"),
        sampling=Sampling(tiles_per_bag=None), optim=Optim(epochs=1),
        stopping=Stopping(
            validation_share=0, epoch="last", threshold="half"
        ),
        folds=StratifiedFolds(kind="stratified", num_folds=2), fold=0, seed=0,
    )  # fmt: skip
    dataset = index.read(data)
    found, reader = scans.read(dataset, config), BagReader(data)
    loader = Loader(
        reader, found, dtype=torch.float32, device=torch.device("cpu"), resident_bytes=0
    )
    return loader, reader, found.table
