"""A linear layer over instances, as one matrix product over all rows of a batch.

`nn.Linear` on a three-dimensional input under `vmap` multiplies bag by bag; flattened, each lane is
one product of the same shape whatever the number of lanes, which keeps lanes bit-identical.
"""

import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn

from training.types import Instances


def per_instance(layer: nn.Linear, instances: Instances) -> Float[Tensor, "bag instance out"]:
    """Apply the layer to each instance."""
    rows = F.linear(instances.flatten(0, 1), layer.weight, layer.bias)
    return rows.view(*instances.shape[:2], layer.out_features)
