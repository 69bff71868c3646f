"""Affine maps of embeddings, as input methods give them, applied to the padded bags of a batch.

They are fitted in float64, used in the trial's precision and the same for all lanes of a pack.
Embeddings stay in memory as they are stored; each batch is moved anew, which costs two passes over
it and keeps moved values in full precision. Padding stays zero.
"""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import TypeAlias

import numpy as np
import pandas as pd
import torch
from jaxtyping import Float, Int64
from torch import Tensor

from training.data import groups
from training.types import Bags, Mask

Rows = Int64[np.ndarray, " bag"]
"""Row numbers of scans."""


@dataclass(frozen=True, slots=True, kw_only=True)
class GroupMap:
    """Scales and shifts every feature as the scan's group says; a scan without one stays.

    Attributes:
        names: of the groups.
        member: number of each scan's group, by row; -1 for a scan of none of them.
        scale: of each group, and 1.
        shift: of each group, and 0.
    """

    names: tuple[str, ...]
    member: Int64[np.ndarray, " scan"]
    scale: Float[Tensor, "row feature"]
    shift: Float[Tensor, "row feature"]

    def to(self, dtype: torch.dtype, device: torch.device) -> "GroupMap":
        """Give the map in this type and place."""
        scale, shift = (each.to(device, dtype) for each in (self.scale, self.shift))
        return replace(self, scale=scale, shift=shift)

    def apply(self, bags: Bags, mask: Mask, rows: Rows) -> Bags:
        """Move the real instances of bags in place, x → scale x + shift; `rows` names the scans."""
        which = torch.from_numpy(self.member[rows]).to(bags.device)
        bags *= self.scale[which][:, None]
        # A factor of 0 or 1 is exact, so that a fused product and sum has the bits of two steps.
        return bags.addcmul_(self.shift[which][:, None], mask[..., None].to(bags.dtype))

    def weights(self) -> dict[str, np.ndarray]:
        """Give the scale and shift of each group by name, to be kept with a model's weights."""
        found = {}
        for number, name in enumerate(self.names):
            found[f"input.scale.{name}"] = self.scale[number].cpu().numpy()
            found[f"input.shift.{name}"] = self.shift[number].cpu().numpy()
        return found


@dataclass(frozen=True, slots=True, kw_only=True)
class Erasure:
    """Takes directions out of all scans: x → x - left right (x - mean).

    Attributes:
        left: directions that are taken out.
        right: what measures them.
        mean: stays where it is.
    """

    left: Float[Tensor, "feature rank"]
    right: Float[Tensor, "rank feature"]
    mean: Float[Tensor, " feature"]

    def to(self, dtype: torch.dtype, device: torch.device) -> "Erasure":
        """Give the map in this type and place."""
        left, right, mean = (each.to(device, dtype) for each in (self.left, self.right, self.mean))
        return Erasure(left=left, right=right, mean=mean)

    def apply(self, bags: Bags, mask: Mask, rows: Rows) -> Bags:  # noqa: ARG002
        """Move the real instances of bags in place; all scans alike."""
        flat = bags.view(-1, bags.shape[-1])
        found = (flat @ self.right.T - self.right @ self.mean) * mask.view(-1, 1)
        return flat.addmm_(found, self.left.T, alpha=-1).view(bags.shape)

    def weights(self) -> dict[str, np.ndarray]:
        """Give the map by name, to be kept with a model's weights."""
        named = {"left": self.left, "right": self.right, "mean": self.mean}
        return {f"input.{name}": each.cpu().numpy() for name, each in named.items()}


InputMap: TypeAlias = GroupMap | Erasure

_ERASURE = ("left", "right", "mean")


def group_map(
    names: tuple[str, ...],
    member: Int64[np.ndarray, " scan"],
    scale: Float[np.ndarray, "group feature"],
    shift: Float[np.ndarray, "group feature"],
) -> GroupMap:
    """Make the map of these groups, with a last row that moves nothing."""
    alone = np.ones_like(scale[:1])
    return GroupMap(
        names=names,
        member=member,
        scale=torch.from_numpy(np.concatenate([scale, alone])),
        shift=torch.from_numpy(np.concatenate([shift, 0 * alone])),
    )


def restore(weights: Mapping[str, np.ndarray], group: "pd.Series[str] | None") -> InputMap:
    """Make a map from what its `weights` gave, for other scans.

    Args:
        weights: by name.
        group: of each scan, in the column that the map compares; None where it moves all alike.

    Raises:
        KeyError: A part is missing.
    """
    if group is None:
        left, right, mean = (
            torch.from_numpy(np.array(weights[f"input.{name}"])) for name in _ERASURE
        )
        return Erasure(left=left, right=right, mean=mean)
    start = "input.scale."
    names = tuple(sorted(name.removeprefix(start) for name in weights if name.startswith(start)))
    scale, shift = (
        np.stack([weights[f"input.{part}.{name}"] for name in names]) for part in ("scale", "shift")
    )
    return group_map(names, groups.numbers(group, names), scale, shift)
