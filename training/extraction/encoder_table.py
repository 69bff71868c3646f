"""The encoders that are known by name: what each is, how it is built, what it expects, its terms.

Everything is built by timm; no code from a hub is ever run. Facts are those of the model cards and
of the tools that load them, as of 2026. Nothing here imports torch.
"""

import difflib
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

from training.errors import DataError

Precision = Literal["float32", "float16", "bfloat16"]
Rgb = tuple[float, float, float]

IMAGENET_MEAN: Rgb = (0.485, 0.456, 0.406)
IMAGENET_STD: Rgb = (0.229, 0.224, 0.225)
_BIOPTIMUS_MEAN: Rgb = (0.707223, 0.578729, 0.703617)
_BIOPTIMUS_STD: Rgb = (0.211883, 0.230117, 0.177517)

_NON_COMMERCIAL = "CC-BY-NC-ND-4.0"


@dataclass(frozen=True, slots=True, kw_only=True)
class Encoder:
    """A tile encoder.

    Args:
        name: in the index and on the command line.
        model: timm's name of the architecture.
        arguments: of timm's `create_model`; layers are named by strings.
        hub: repository of the weights; empty: timm's own weights of that model.
        revision: commit of that repository; empty: its newest, which is then recorded.
        dim: width of the embedding; 0: as the model says.
        pooling: "token" takes the class token; "token_and_mean" puts the mean of the patch tokens
            behind it, registers left out; "model" takes what the model pools itself.
        tile_px: side of the tiles that it was made for, pixels at `mpp`.
        mpp: micrometres per pixel of these tiles.
        resize_px: tiles are resized to this side,
        input_px: and cut to this side around their centre.
        interpolation: of that resizing.
        mean: of the channels, taken off pixels between 0 and 1.
        std: of the channels, by which they are divided.
        precision: arithmetic on a GPU: float32, or autocast to the named type.
        licence: terms of the weights, and of what they make.
        gated: whether the hub wants its terms accepted first.
    """

    name: str
    model: str
    arguments: Mapping[str, Any] = field(default_factory=dict)
    hub: str = ""
    revision: str = ""
    dim: int = 0
    pooling: Literal["token", "token_and_mean", "model"] = "token"
    tile_px: int = 224
    mpp: float = 0.5
    resize_px: int = 224
    input_px: int = 224
    interpolation: Literal["bilinear", "bicubic"] = "bicubic"
    mean: Rgb = IMAGENET_MEAN
    std: Rgb = IMAGENET_STD
    precision: Precision = "float16"
    licence: str = ""
    gated: bool = False

    @property
    def page(self) -> str:
        """Where its terms are and its weights can be had."""
        return f"https://huggingface.co/{self.hub}"


_SWIGLU = {"mlp_layer": "SwiGLUPacked", "act_layer": "SiLU"}
_H_OPTIMUS: dict[str, Any] = {
    "img_size": 224, "init_values": 1e-5, "dynamic_img_size": False, "num_classes": 0,
    "global_pool": "token",
}  # fmt: skip

ENCODERS: tuple[Encoder, ...] = (
    Encoder(
        name="uni", model="vit_large_patch16_224", hub="MahmoodLab/UNI", dim=1024,
        arguments={"img_size": 224, "patch_size": 16, "init_values": 1e-5, "num_classes": 0,
                   "dynamic_img_size": True},
        tile_px=256, interpolation="bilinear", licence=_NON_COMMERCIAL, gated=True,
    ),
    Encoder(
        name="uni2_h", model="vit_giant_patch14_224", hub="MahmoodLab/UNI2-h", dim=1536,
        arguments={"img_size": 224, "patch_size": 14, "depth": 24, "num_heads": 24,
                   "init_values": 1e-5, "embed_dim": 1536, "mlp_ratio": 2.66667 * 2,
                   "num_classes": 0, "no_embed_class": True, **_SWIGLU, "reg_tokens": 8,
                   "dynamic_img_size": True},
        tile_px=256, interpolation="bilinear", precision="bfloat16", licence=_NON_COMMERCIAL,
        gated=True,
    ),
    Encoder(
        name="prov_gigapath", model="vit_giant_patch14_dinov2", hub="prov-gigapath/prov-gigapath",
        arguments={"img_size": 224, "patch_size": 16, "embed_dim": 1536, "depth": 40,
                   "num_heads": 24, "mlp_ratio": 5.33334, "init_values": 1e-5, "num_classes": 0},
        dim=1536, tile_px=256, resize_px=256, licence="Apache-2.0 (see the model's page)",
        gated=True,
    ),
    Encoder(
        name="virchow2", model="vit_huge_patch14_224", hub="paige-ai/Virchow2", dim=2560,
        arguments={"img_size": 224, "init_values": 1e-5, "num_classes": 0, "mlp_ratio": 5.3375,
                   "global_pool": "", "dynamic_img_size": True, **_SWIGLU, "reg_tokens": 4},
        pooling="token_and_mean", licence=_NON_COMMERCIAL, gated=True,
    ),
    Encoder(
        name="phikon_v2", model="vit_large_patch16_224", hub="owkin/phikon-v2", dim=1024,
        arguments={"img_size": 224, "init_values": 1.0, "num_classes": 0},
        precision="float32", licence="Owkin non-commercial licence",
    ),
    Encoder(
        name="hibou_l", model="vit_large_patch14_reg4_dinov2", hub="histai/hibou-L", dim=1024,
        arguments={"img_size": 224, "init_values": 1.0, "num_classes": 0},
        mean=(0.7068, 0.5755, 0.7220), std=(0.1950, 0.2316, 0.1816), precision="float32",
        licence="Apache-2.0", gated=True,
    ),
    Encoder(
        name="h_optimus_0", model="vit_giant_patch14_reg4_dinov2", hub="bioptimus/H-optimus-0",
        arguments=_H_OPTIMUS, dim=1536, mean=_BIOPTIMUS_MEAN, std=_BIOPTIMUS_STD,
        licence="Apache-2.0", gated=True,
    ),
    Encoder(
        name="h_optimus_1", model="vit_giant_patch14_reg4_dinov2", hub="bioptimus/H-optimus-1",
        arguments=_H_OPTIMUS, dim=1536, mean=_BIOPTIMUS_MEAN, std=_BIOPTIMUS_STD,
        licence=_NON_COMMERCIAL, gated=True,
    ),
)  # fmt: skip


def find(name: str) -> Encoder:
    """Find an encoder of the table, or take the name for one of timm's models.

    Raises:
        DataError: It is neither.
    """
    known = {encoder.name: encoder for encoder in ENCODERS}
    if name in known:
        return known[name]
    from training.extraction import timm_models  # takes seconds, and only for unknown names

    found = timm_models.describe(name)
    if found is None:
        near = difflib.get_close_matches(name, [*known, *timm_models.names()], 2)
        raise DataError(
            f"encoder {name!r} is not known"
            + (f"; did you mean {' or '.join(near)}?" if near else ""),
            hint=f"encoders: {', '.join(known)}; or the name of a timm model",
        )
    return found


def arithmetic(encoder: Encoder, device: str, chosen: str | None = None) -> str:
    """Choose the arithmetic: the given one, else the encoder's own on a GPU, else float32."""
    return chosen or (encoder.precision if device.startswith("cuda") else "float32")
