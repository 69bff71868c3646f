"""Translates weights that are published under other names into timm's.

Three namings are known: timm's own, DINOv2's of transformers (Phikon-v2, Hibou), and that of the
EfficientNet ports that follow TensorFlow. Which one a file has is told by its keys.
"""

import re
from collections.abc import Collection, Mapping
from typing import Any

import torch
from torch import Tensor

State = dict[str, Tensor]

_DINO_MARK = "embeddings.patch_embeddings.projection.weight"
_DINO = {
    "embeddings.cls_token": "cls_token",
    "embeddings.position_embeddings": "pos_embed",
    "embeddings.register_tokens": "reg_token",
    "embeddings.patch_embeddings.projection": "patch_embed.proj",
    "attention.output.dense": "attn.proj",
    "layer_scale1.lambda1": "ls1.gamma",
    "layer_scale2.lambda1": "ls2.gamma",
    "mlp.weights_in": "mlp.fc1",
    "mlp.weights_out": "mlp.fc2",
    "encoder.layer.": "blocks.",
    "layernorm.": "norm.",
}
_DINO_UNUSED = ("embeddings.mask_token", "pooler.")
_PARTS = ("query", "key", "value")

_EFFICIENT_MARK = "_conv_stem.weight"
_EFFICIENT = {
    "_conv_stem.": "conv_stem.", "_bn0.": "bn1.", "_conv_head.": "conv_head.", "_bn1.": "bn2.",
    "_fc.": "classifier.",
}  # fmt: skip
_EXPANDING = {
    "_expand_conv.": "conv_pw.", "_bn0.": "bn1.", "_depthwise_conv.": "conv_dw.", "_bn1.": "bn2.",
    "_project_conv.": "conv_pwl.", "_bn2.": "bn3.", "_se_reduce.": "se.conv_reduce.",
    "_se_expand.": "se.conv_expand.",
}  # fmt: skip
_PLAIN = {
    "_depthwise_conv.": "conv_dw.", "_bn1.": "bn1.", "_project_conv.": "conv_pw.", "_bn2.": "bn2.",
    "_se_reduce.": "se.conv_reduce.", "_se_expand.": "se.conv_expand.",
}  # fmt: skip


def arguments(state: Mapping[str, Tensor]) -> dict[str, Any]:
    """Read from the weights what the architecture must be: DINOv2 has two kinds of MLP."""
    gated = next((state[key] for key in state if key.endswith("mlp.weights_in.weight")), None)
    if gated is None:
        return {}
    return {
        "mlp_layer": "SwiGLUPacked",
        "act_layer": "SiLU",
        "mlp_ratio": gated.shape[0] / gated.shape[1],
    }


def to_timm(state: State, wanted: Collection[str]) -> State:
    """Give weights timm's names.

    Args:
        state: weights under any of the known namings.
        wanted: names of the network that they are for.
    """
    if any(key.endswith(_DINO_MARK) for key in state):
        return _from_dino(state, wanted)
    if _EFFICIENT_MARK in state:
        return _from_efficient(state, wanted)
    return state


def _from_dino(state: State, wanted: Collection[str]) -> State:
    prefix = next(key for key in state if key.endswith(_DINO_MARK)).removesuffix(_DINO_MARK)
    found = {}
    for key, value in state.items():
        name = key.removeprefix(prefix)
        if name.startswith(_DINO_UNUSED) or ".attention.attention." in name:
            continue
        for old, new in _DINO.items():
            name = name.replace(old, new)
        found[name] = value
    for key in state:
        if key.endswith("attention.attention.query.weight"):
            layer = key.removesuffix("query.weight")
            block = re.sub(r".*encoder\.layer\.(\d+)\.attention\.attention\.", r"blocks.\1.", layer)
            for kind in ("weight", "bias"):
                parts = [state[f"{layer}{part}.{kind}"] for part in _PARTS]
                found[f"{block}attn.qkv.{kind}"] = torch.cat(parts)
    if "reg_token" in wanted and "pos_embed" in found:
        # timm adds positions to patches only; that of the class token goes into the token itself.
        found["cls_token"] = found["cls_token"] + found["pos_embed"][:, :1]
        found["pos_embed"] = found["pos_embed"][:, 1:]
    return found


def _from_efficient(state: State, wanted: Collection[str]) -> State:
    """Rename; the other naming counts blocks through, timm counts them in stages."""
    places = sorted(
        {
            (int(found[1]), int(found[2]))
            for name in wanted
            if (found := re.match(r"blocks\.(\d+)\.(\d+)\.", name))
        }
    )
    renamed = {}
    for key, value in state.items():
        within = re.match(r"_blocks\.(\d+)\.(.*)", key)
        if within is None:
            renamed[_swap(key, _EFFICIENT)] = value
        elif int(within[1]) < len(places):
            stage, block = places[int(within[1])]
            expands = f"_blocks.{within[1]}._expand_conv.weight" in state
            name = _swap(within[2], _EXPANDING if expands else _PLAIN)
            renamed[f"blocks.{stage}.{block}.{name}"] = value
        else:
            renamed[key] = value
    return renamed


def _swap(name: str, table: Mapping[str, str]) -> str:
    for old, new in table.items():
        if name.startswith(old):
            return new + name.removeprefix(old)
    return name
