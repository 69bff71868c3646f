"""Random predictions of trials, and the same ones as small matrices, made with dictionaries."""

import numpy as np
import pandas as pd

COLUMNS = ["trial", "patient", "slide", "view", "scanner", "held_out", "label", "score"]


def random_rows(draw, trial, num_columns, *, scanners="ABC", most=14):
    """Draw a trial's predictions: patients with 1 or 2 slides, each on some of the scanners."""
    rows, num_classes = [], max(2, num_columns)
    for p in range(draw.integers(1, most)):
        label = draw.integers(0, num_classes)
        held_out = bool(p == 0 or draw.random() < 0.9)
        for s in range(draw.integers(1, 3)):
            present = draw.random(len(scanners)) < 0.7
            present[draw.integers(len(scanners))] = True
            for c in np.flatnonzero(present):
                score = np.round(draw.normal(size=num_columns) * 4) / 4  # ties, and exact sums
                value = score[0] if num_columns == 1 else list(score)
                slide, scanner = f"{trial}p{p}-{s}", scanners[c]
                view = f"{slide}-{scanner}"
                rows.append((trial, f"{trial}p{p}", slide, view, scanner, held_out, label, value))
    return rows


def frame(rows):
    return pd.DataFrame(rows, columns=COLUMNS)


def means(rows, member):
    """Give {member: {scanner: mean score}} of the held-out rows, and {member: label}."""
    found, label = {}, {}
    for _, patient, slide, _, scanner, held_out, y, score in rows:
        if held_out:
            name = patient if member == "patient" else slide
            score = np.atleast_1d(score).astype(float)
            found.setdefault(name, {}).setdefault(scanner, []).append(score)
            label[name] = y
    return {m: {c: np.mean(v, 0) for c, v in d.items()} for m, d in found.items()}, label


def matrix(values, scanners):
    """Lay out {member: {scanner: number}} as [member, scanner]."""
    return np.array([[d.get(c, np.nan) for c in scanners] for d in values.values()], dtype=float)
