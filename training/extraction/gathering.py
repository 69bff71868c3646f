"""Brings staged bags into the data set: shards and index rows, by the writer that imports use."""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from training.data import doubles, joining, shards, tables, user_tables
from training.data.bags import Bag, BagReader
from training.data.joining import Existing
from training.data.shards import View
from training.errors import DataError
from training.extraction import slide_plan, staging, stored
from training.extraction.config_embed import EmbedConfig
from training.extraction.requests import Chosen
from training.extraction.slide_table import Table

_DESCRIBING = ("patient", "slide", *user_tables.DESCRIBING)


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class _Source:
    """Where the bag of a view is: staged, or in the data set already."""

    view: View
    mpp_read: float
    tile_um: float
    staged: Path | None = None
    row: Any = None


def gather(
    data: Path,
    chosen: Chosen,
    table: Table,
    recipes: Mapping[str, str],
    config: EmbedConfig,
    notes: dict[str, None],
    replacing: Collection[str] = (),
) -> list[str]:
    """Bring what is staged of an encoder into the data set; nothing if nothing is new.

    Views of this encoder that the data set has of slides that are not in the table stay there. A
    slide without its routine scan is left out.

    Args:
        data: the data set.
        chosen: the encoder.
        table: of slides.
        recipes: by view.
        config: names the augmented views.
        notes: is added to.
        replacing: encoders that are gathered next.

    Returns:
        What could not be done, a line each.
    """
    name = chosen.encoder.name
    before = joining.existing(data)
    rows = stored.rows(before, name)
    kept = staging.kept(data, name)
    sources = _sources(data, chosen, table, recipes, rows, kept, config, notes)
    staying = [row for row in rows.values() if str(row.slide) not in table.slides]
    gone = [v for v, row in rows.items() if str(row.slide) in table.slides and v not in recipes]
    sources += [_stored(row) for row in staying]
    cases = table.cases[table.cases["patient"].isin({each.view.patient for each in sources})]
    folds = _folds(before, name, table, cases)
    made = {**_of(kept, staying), **_of(recipes, sources)}
    if not sources:
        return []
    if before is not None and not gone and _as_before(before, chosen, sources, cases, folds):
        return _finished(data, name, {**kept, **made}, kept, sources)
    if before is not None and staying:
        old = before.cases[before.cases["patient"].isin({str(row.patient) for row in staying})]
        cases = pd.concat([cases, old[~old["patient"].isin(cases["patient"])]]).fillna("")
    try:
        _write(data, chosen, sources, cases, folds, replacing)
    except (DataError, OSError) as error:
        return [error.told if isinstance(error, DataError) else f"{data}: {error}"]
    lines = _finished(data, name, made, kept, sources)
    written = tables.read(data)[0]
    scans = written[(written["encoder"] == name) & (written["source_scan"] == "")]
    notes |= dict.fromkeys(doubles.notes(scans))
    return lines


def counts(data: Path, encoder: str) -> dict[str, Any]:
    """Count the views of an encoder in a data set, and their tiles; say their licence."""
    before = joining.existing(data)
    if before is None:
        return {"views": 0, "tiles": 0, "licence": ""}
    index = before.index[before.index["encoder"] == encoder]
    licences = ", ".join(sorted(set(index["licence"])))
    return {"views": len(index), "tiles": int(index["num_tiles"].sum()), "licence": licences}


def _folds(
    before: Existing | None, encoder: str, table: Table, cases: pd.DataFrame
) -> pd.DataFrame | None:
    """Give the folds to be: the table's, of patients with bags, and those of others that stay."""
    if table.folds is None:
        return None
    there = set(cases["patient"])
    if before is not None:
        rows = before.index
        staying = (rows["encoder"] != encoder) | ~rows["slide"].isin(set(table.slides))
        there |= set(rows["patient"][staying])
    mine = table.folds[table.folds["patient"].isin(there)]
    if before is not None and before.folds is not None:
        asked = set(table.cases["patient"])
        mine = pd.concat([before.folds[~before.folds["patient"].isin(asked)], mine])
    return mine.sort_values(list(tables.FOLD_TYPES), ignore_index=True).astype(tables.FOLD_TYPES)


def _as_before(
    before: Existing,
    chosen: Chosen,
    sources: Sequence[_Source],
    cases: pd.DataFrame,
    folds: pd.DataFrame | None,
) -> bool:
    """Tell whether the data set has all of this already: bags, descriptions, labels and folds."""
    old = before.cases
    if folds is not None and (before.folds is None or not before.folds.equals(folds)):
        return False
    if any(each.staged or _stored(each.row).view != each.view for each in sources):
        return False
    if any(str(each.row.licence) != chosen.encoder.licence for each in sources):
        return False
    if (
        not set(cases.columns) <= set(old.columns)
        or not cases["patient"].isin(old["patient"]).all()
    ):
        return False
    known = old.set_index("patient").loc[cases["patient"], cases.columns.drop("patient")]
    return bool((known.to_numpy() == cases.drop(columns="patient").to_numpy()).all())


def _of(recipes: Mapping[str, str], views: Sequence[Any]) -> dict[str, str]:
    names = [each.view.view if isinstance(each, _Source) else str(each.view) for each in views]
    return {name: recipes[name] for name in names if name in recipes}


def _finished(
    data: Path,
    encoder: str,
    recipes: Mapping[str, str],
    kept: Mapping[str, str],
    sources: Sequence[_Source],
) -> list[str]:
    """Write down by which recipes the bags in the data set were made, and clear up.

    A call that was killed behind the index has left all this.
    """
    try:
        if recipes != kept:
            joining.tidy(data, encoder)
            staging.keep(data, encoder, recipes)
        staging.clear(data, encoder, [each.view.view for each in sources])
    except OSError as error:
        return [f"{data}: {error}"]
    return []


def _sources(
    data: Path,
    chosen: Chosen,
    table: Table,
    recipes: Mapping[str, str],
    rows: Mapping[str, Any],
    kept: Mapping[str, str],
    config: EmbedConfig,
    notes: dict[str, None],
) -> list[_Source]:
    """Find the bags of the table's slides, in its order, augmented views behind their scan."""
    found: list[_Source] = []
    described = table.rows.set_index("scan")
    for slide, scans in table.slides.items():
        mine: dict[str, _Source] = {}
        for scan in scans:
            for name in slide_plan.view_names(scan, config):
                row = described.loc[scan.name]
                source = "" if name == scan.name else scan.name
                each = _source(
                    staging.path(data, chosen.encoder.name, name), _view(row, name, source),
                    recipes.get(name, ""), kept.get(name), rows.get(name), chosen,
                )  # fmt: skip
                if each is not None and each.view.source_scan in ("", *mine):
                    mine[name] = each
        if scans[0].name in mine:
            found += mine.values()
        elif mine:
            notes[
                f"slide {slide!r}: left out until its routine scan {scans[0].name!r} is there"
            ] = None
    return found


def _source(
    file: Path, view: View, recipe: str, kept: str | None, row: Any, chosen: Chosen
) -> _Source | None:
    """Find the bag of a view: staged, or that of its row in the data set."""
    facts = staging.look(file)
    if facts is None or facts.recipe != recipe:
        return _described(view, row) if row is not None and kept == recipe else None
    if row is not None and stored.is_bag(row, chosen, file, facts):
        return _described(view, row)
    sized = replace(view, num_tiles=facts.num_tiles, dim=facts.dim, dtype=facts.dtype)
    return _Source(view=sized, mpp_read=facts.mpp_read, tile_um=facts.tile_um, staged=file)


def _described(view: View, row: Any) -> _Source:
    """A bag that the data set has, of the view as it is described now."""
    size = {name: _plain(getattr(row, name)) for name in ("num_tiles", "dim", "dtype")}
    return replace(_stored(row), view=replace(view, **size))


def _view(row: Any, name: str, source: str) -> View:
    """Describe a view; its size comes later. An augmented one has what its scan has."""
    return View(
        **{column: str(row[column]) for column in _DESCRIBING},
        scan=name,
        view=name,
        source_scan=source or str(row["source_scan"]),
        routine=bool(row["routine"]) and not source,
        num_tiles=0,
        dim=0,
    )


def _stored(row: Any) -> _Source:
    """A view that the data set has."""
    names = ("scan", "view", "source_scan", *_DESCRIBING, "routine", "num_tiles", "dim", "dtype")
    view = View(**{name: _plain(getattr(row, name)) for name in names})
    return _Source(view=view, mpp_read=float(row.mpp_read), tile_um=float(row.tile_um), row=row)


def _plain(value: Any) -> Any:
    return value.item() if isinstance(value, np.generic) else value


def _write(
    data: Path,
    chosen: Chosen,
    sources: Sequence[_Source],
    cases: pd.DataFrame,
    folds: pd.DataFrame | None,
    replacing: Collection[str],
) -> None:
    by_view = {each.view.view: each for each in sources}
    reader = BagReader(data)

    def load(view: View) -> Bag:
        source = by_view[view.view]
        if source.staged is not None:
            return staging.bag(source.staged)
        row = source.row
        return Bag(embeddings=reader.whole(row), tile=reader.tiles(row), coords=reader.coords(row))

    shards.write(
        data,
        encoder=chosen.encoder.name,
        views=[each.view for each in sources],
        load=load,
        cases=cases,
        folds=folds,
        tile_um=[each.tile_um for each in sources],
        mpp_read=[each.mpp_read for each in sources],
        encoder_revision=chosen.weights.revision,
        precision=chosen.precision,
        licence=chosen.encoder.licence,
        replacing=replacing,
    )
