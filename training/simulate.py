r"""A simulated paired-scanner cohort with known truth, for the demo and the science checks.

A dataset is fixed to the byte by its configuration: arithmetic is float64, embeddings are stored as
float16, and every draw has its own generator, so that a further slide, scanner or encoder moves no
other number. Not modelled: groups other than the scanner. Sites are a null: each patient's is drawn
alone, whatever the class. In one cohort the two can go together by chance: in that of the demo
(seed 0) Cramér's V over dev patients is .28, as in one cohort of a hundred.

**Patients and slides.** Classes $c$ are equally frequent. A patient has a second slide with
probability `second_slide_share`. Seen scanner number $s$ belongs to class $s \bmod C$. The routine
scanner of a dev slide is, with probability `confounding` = $\rho$, drawn from those of its class,
else from all seen ones; where the classes have equally many scanners, Cramér's V of class and
routine scanner is $\rho$. A `paired_share` of the dev slides is scanned by all seen scanners, the
others by the routine one only. Shares come from an additive recurrence over the slides of a class,
which keeps them closely and nests them: what is paired at 5 % is paired at 20 %. Every test slide
is scanned by all scanners, unseen ones too, and its routine scanner is any seen one, whatever the
class.

**Outcomes**, where asked for: a patient of class $c$ has the event at time

    T = median · (−log U / (log 2 · exp(c · log_hazard_ratio)))^(1/shape),    U ~ Uniform(0, 1)

so that hazards are proportional, and is censored at `followup`, or when lost before: after an
exponential time that ends before `followup` with probability `lost_share`. Patients of a class
differ by chance alone.

**Bags.** `training.simulated_world` has the equations of tissue, encoders and scanners. A scan
lacks `missing_tiles` of the slide's tiles; which ones is drawn per scan, so that tiles of two scans
meet by their number only. Each scan of a dev slide has `augmented_views` views: the same tiles,
without the scanner, in another random style each.
"""

import argparse
import sys
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path

import numpy as np
import pandas as pd
from jaxtyping import Bool, Float
from pydantic import ValidationError

from training.data import bags, shards
from training.simulated_world import Encoder, Tissue, draw_tissue, generator, style, traits
from training.simulation_config import SimulatedSurvival, Simulation

_TILE_UM, _READ_MPP = 112.0, 0.5  # 224 px at 0.5 µm/px; level 0 has 0.25 µm/px
_PLASTIC = 1.324717957244746  # root of x³ = x + 1: two recurrences that fill the square evenly


@dataclass(frozen=True, slots=True, kw_only=True)
class Slide:
    """One simulated slide; `scanners` made a scan of it, `routine` is one of them."""

    cohort: str
    patient: str
    name: str
    site: str
    label: int
    paired: bool
    routine: str
    scanners: tuple[str, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Truth:
    """What a method cannot see; names as in the module's equations.

    Args:
        slides: one row per slide, columns as in `Slide`.
        bearing: slide → which tile numbers bear the label.
        traits: scanner → $u_s$.
        offsets: (encoder, scanner) → the offset part as it is added, strength included.
        subspace: encoder → $E_e$, an orthonormal basis of the offset directions.
    """

    slides: pd.DataFrame
    bearing: dict[str, Bool[np.ndarray, "tile"]]
    traits: dict[str, Float[np.ndarray, "trait"]]
    offsets: dict[tuple[str, str], Float[np.ndarray, "dim"]]
    subspace: dict[str, Float[np.ndarray, "dim trait"]]


def slides(config: Simulation) -> list[Slide]:
    """List all slides, in order of cohort and patient."""
    return [
        slide
        for cohort, num_patients in (("dev", config.dev_patients), ("test", config.test_patients))
        for slide in _cohort(config, cohort, num_patients)
    ]


def bag(encoder: Encoder, slide: Slide, scanner: str | None, *, view: str = "") -> bags.Bag:
    """Make one bag; without a scanner, the oracle's: all tiles, no shift.

    With a view's name, the scan's tiles in the view's style in place of the scanner's.
    """
    config = encoder.config
    glass = _tissue(config, slide)
    embeddings = encoder.clean(glass.latent)
    kept = np.arange(len(embeddings))
    if scanner is not None:
        scan = _scan(slide, scanner)
        if view:
            embeddings = encoder.restyled(embeddings, style=style(config, view))
        else:
            rng = generator(config, f"noise/{encoder.name}/{scan}")
            embeddings = encoder.shifted(embeddings, scanner=traits(config, scanner), rng=rng)
        order = generator(config, f"missing/{scan}").permutation(len(kept))
        kept = np.sort(order[: _num_kept(config, len(kept))])
    return bags.Bag(
        embeddings=embeddings[kept].astype(np.float16),
        tile=kept.astype(np.int32),
        coords=glass.coords[kept],
    )


def write(config: Simulation, root: Path) -> None:
    """Write the dataset under `root`: shards, index.parquet, cases.parquet.

    The label column of cases.parquet holds the class number as text.
    """
    rows = slides(config)
    cases = pd.DataFrame(
        [(slide.patient, str(slide.label), slide.cohort) for slide in rows],
        columns=["patient", "label", "cohort"],
    ).drop_duplicates(ignore_index=True)
    if config.survival is not None:
        told = [
            outcome(config, config.survival, patient, int(label))
            for patient, label in zip(cases["patient"], cases["label"], strict=True)
        ]
        cases = cases.assign(time=[time for time, _ in told], event=[int(died) for _, died in told])
    for name in config.encoders:
        _write_encoder(Encoder(config, name), root, rows=rows, cases=cases)


def outcome(
    config: Simulation, survival: SimulatedSurvival, patient: str, label: int
) -> tuple[float, bool]:
    """Draw a patient's time and whether it is that of the event."""
    rng = generator(config, f"patient/{patient}/outcome")
    hazard = np.log(2) * np.exp(label * survival.log_hazard_ratio)
    event = survival.median * (rng.exponential() / hazard) ** (1 / survival.shape)
    lost = rng.exponential()
    if survival.lost_share > 0:
        lost *= survival.followup / -np.log1p(-survival.lost_share)
    else:
        lost = np.inf
    time = min(event, lost, survival.followup)
    if survival.step:
        time = survival.step * np.ceil(time / survival.step)
    return float(time), bool(event <= min(lost, survival.followup))


def truth(config: Simulation) -> Truth:
    """Give the truth behind the dataset that `write` makes of the same configuration."""
    rows = slides(config)
    encoders = [Encoder(config, name) for name in config.encoders]
    by_scanner = {s: traits(config, s) for s in config.scanners + config.unseen_scanners}
    return Truth(
        slides=pd.DataFrame([asdict(slide) for slide in rows]).rename(columns={"name": "slide"}),
        bearing={slide.name: _tissue(config, slide).bearing for slide in rows},
        traits=by_scanner,
        offsets={(e.name, s): e.offset(u) for e in encoders for s, u in by_scanner.items()},
        subspace={encoder.name: encoder.subspace for encoder in encoders},
    )


def _cohort(config: Simulation, cohort: str, num_patients: int) -> list[Slide]:
    seen = config.scanners
    start = generator(config, f"shares/{cohort}").random((config.num_classes + 1, 2))
    num_slides = [0] * config.num_classes
    found = []
    for number in range(num_patients):
        patient = f"{cohort}-{number + 1:04d}"
        rng = generator(config, f"patient/{patient}/plan")
        label = int(config.num_classes * ((start[-1, 0] + number * (np.sqrt(5) - 1) / 2) % 1))
        second = rng.random() < config.second_slide_share
        site = f"site-{rng.integers(config.num_sites) + 1}"
        for part in range(1 + second):
            name = f"{patient}-{part + 1}"
            step = num_slides[label] * np.array([_PLASTIC**-1, _PLASTIC**-2])
            to_pair, to_confound = (start[label] + step) % 1
            num_slides[label] += 1
            paired = cohort == "test" or bool(to_pair < config.paired_share)
            confounded = cohort == "dev" and to_confound < config.confounding
            choice = seen[label :: config.num_classes] if confounded else seen
            routine = choice[generator(config, f"routine/{name}").integers(len(choice))]
            others = seen + config.unseen_scanners if cohort == "test" else seen
            found.append(
                Slide(
                    cohort=cohort,
                    patient=patient,
                    name=name,
                    site=site,
                    label=label,
                    paired=paired,
                    routine=routine,
                    scanners=others if paired else (routine,),
                )
            )
    return found


def _write_encoder(
    encoder: Encoder, root: Path, *, rows: Sequence[Slide], cases: pd.DataFrame
) -> None:
    config = encoder.config
    views: list[shards.View] = []
    made_from: dict[str, tuple[Slide, str]] = {}
    for slide in rows:
        num_tiles = _num_kept(config, len(_tissue(config, slide).bearing))
        for scanner in slide.scanners:
            scan = _scan(slide, scanner)
            made_from[scan] = (slide, scanner)
            view = shards.View(
                patient=slide.patient,
                slide=slide.name,
                scan=scan,
                view=scan,
                scanner=scanner,
                site=slide.site,
                stain="H&E",
                cohort=slide.cohort,
                routine=scanner == slide.routine,
                num_tiles=num_tiles,
                dim=encoder.dim,
            )
            views.append(view)
            number = config.augmented_views if slide.cohort == "dev" else 0
            views += [
                replace(view, view=f"{scan}-view{each + 1}", source_scan=scan, routine=False)
                for each in range(number)
            ]
    shards.write(
        root,
        encoder=encoder.name,
        views=views,
        load=lambda view: bag(
            encoder, *made_from[view.scan], view=view.view if view.source_scan else ""
        ),
        cases=cases,
        tile_um=_TILE_UM,
        mpp_read=_READ_MPP,
    )


def _tissue(config: Simulation, slide: Slide) -> Tissue:
    return draw_tissue(config, patient=slide.patient, slide=slide.name, label=slide.label)


def _scan(slide: Slide, scanner: str) -> str:
    return f"{slide.name}-{scanner}"


def _num_kept(config: Simulation, num_tiles: int) -> int:
    return max(1, round(num_tiles * (1 - config.shift.missing_tiles)))


def main(arguments: Sequence[str] | None = None) -> None:
    """Write a simulated dataset from the command line."""
    parser = argparse.ArgumentParser(prog="python -m training.simulate", description=main.__doc__)
    parser.add_argument("out", type=Path, help="folder of the dataset")
    parser.add_argument("--json", default="{}", help="configuration, as in a spec's data.simulate")
    given = parser.parse_args(arguments)
    try:
        config = Simulation.model_validate_json(given.json)
    except ValidationError as error:
        parser.error(str(error))
    write(config, given.out)
    sys.stdout.write(f"{given.out}\n")


if __name__ == "__main__":
    main()
