"""Sound inputs, small: a data folder, a spec, and the results of a finished sweep."""

import json
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pandas as pd
import yaml

from orchestrator import events, jobs_left, plan, spec, store, worker
from orchestrator.folder import Folder
from orchestrator.worker import Assignment, Setting
from training.data import index, shards
from training.data.bags import Bag
from training.data.shards import View

SPEC = """\
data: data
task: {kind: binary}
encoders: [one]
head: {kind: mean, embed_dims: [4]}
folds: {kind: stratified, num_folds: 2}
optim: {epochs: 1}
seeds: 1
arms:
  erm: {views: routine}
  score:
    views: all
    losses: {score: {kind: score}}
    grid: {losses.score.weight: [0.1, 1]}
"""


def write_spec(folder: Path, text: str | bytes = SPEC, *, name: str = "small") -> Path:
    path = folder / f"{name}.yaml"
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    return path


def views() -> list[View]:
    """Sixteen patients of one slide each, on two scanners; four tiles a scan."""
    return [
        View(
            patient=f"patient {number}",
            slide=f"slide {number}",
            scan=f"slide {number}/{scanner}",
            view=f"slide {number}/{scanner}",
            scanner=scanner,
            cohort="dev" if number < 12 else "test",
            routine=scanner == "AT2",
            num_tiles=4,
            dim=4,
        )
        for number in range(16)
        for scanner in ("AT2", "GT450")
    ]


def bag(view: View) -> Bag:
    generator = np.random.default_rng(list(view.view.encode()))
    return Bag(
        embeddings=generator.normal(size=(view.num_tiles, view.dim)).astype(view.dtype),
        tile=np.arange(view.num_tiles, dtype=np.int32),
        coords=np.full((view.num_tiles, 2), 7, np.int32),
    )


def cases(given: Sequence[View]) -> pd.DataFrame:
    """Two classes in turn."""
    patients = sorted({view.patient for view in given})
    labels = ["ab"[number % 2] for number in range(len(patients))]
    return pd.DataFrame({"patient": patients, "label": labels})


def write_data(root: Path, *, encoders: Sequence[str] = ("one",)) -> Path:
    given = views()
    for encoder in encoders:
        shards.write(root, encoder=encoder, views=given, load=bag, cases=cases(given))
    return root


def write_results(results: Path, data: Path) -> Path:
    """Train the small sweep in this process, as a worker would, and leave its folder."""
    text = write_spec(results, SPEC.replace("data: data", f"data: {data}"))
    read = spec.read(text)
    text.unlink()
    made = plan.make(spec.expand(read), dataset=index.read(data), lanes_max=16)
    folder = Folder(results / read.name)
    folder.create()
    folder.spec.write_text(yaml.safe_dump(read.document(), sort_keys=False))
    folder.code.write_text(json.dumps({"commit": "0" * 40, "clean": True, "time": 0.0}))
    store.write_plan(folder, made.frame())
    journal = events.Journal(folder, "launch")
    journal.write(
        "planned",
        trials=made.trial_ids,
        cells=made.num_cells,
        packs={pack.id: [trial.id for trial in pack.trials] for pack in made.packs},
        retried=[],
        cluster="local",
    )
    setting = Setting(folder=folder.root, data=data, device="cpu", code="{}")
    for job in jobs_left.read_jobs(folder):
        assignment = Assignment(job=job, attempt=1)
        outcome = worker.train(assignment, setting, on_epoch=_nothing, stop=bool)
        assert outcome.failure is None, outcome
        journal.write(
            "accepted", pack=job.pack, attempt=1, worker="w", failed={}, seconds=outcome.seconds
        )
    return results


def spec_with(text: str = SPEC, **changes: object) -> str:
    """Write the small spec with some top-level keys replaced; None takes a key away."""
    content = yaml.safe_load(text) | changes
    kept = {key: value for key, value in content.items() if value is not None}
    return yaml.safe_dump(kept, sort_keys=False, allow_unicode=True)


def _nothing(_epoch: int, _epochs: int) -> None:
    """Report nowhere."""
