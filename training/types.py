"""Names of tensor shapes, used in the signatures of models, losses and data.

Axis names: `lane bag instance feature class embedding pair slide`. A mask is boolean and **True
means a real instance**; padding is False. No NaN or infinity stands for missing data.
"""

from jaxtyping import Bool, Float
from torch import Tensor

Bags = Float[Tensor, "bag instance feature"]
"""Embeddings of a batch of bags, padded along `instance`."""

Mask = Bool[Tensor, "bag instance"]
"""True where an instance is real."""

Instances = Float[Tensor, "bag instance embedding"]
"""Tile embeddings h inside the model."""

Pooled = Float[Tensor, "bag embedding"]
"""One bag embedding z per bag."""

Attention = Float[Tensor, "bag instance"]
"""Weights that sum to one over the real instances of a bag; zero on padding."""

Scores = Float[Tensor, "bag class"]
"""Logits: one column for a binary task, one per class otherwise. A survival task has one log-risk,
or the logits of the hazards of intervals."""
