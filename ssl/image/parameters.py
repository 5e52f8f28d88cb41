"""Parameter groups: layer-wise learning rates, and no weight decay where it would hurt."""

import re
from collections.abc import Iterator
from typing import Any

from torch import nn
from torch.optim import Optimizer

from strata.ssl.image.backbone import MaskedViT
from strata.ssl.image.config import ImageSSLConfig
from strata.ssl.image.schedules import StepValues

_EMBEDDINGS = ("vit.cls_token", "vit.reg_token", "vit.pos_embed", "vit.patch_embed", "mask_token")


def lr_factor(name: str, depth: int, config: ImageSSLConfig) -> float:
    """Factor on the lr of a backbone parameter, by its name in ``MaskedViT``.

    Block i (from 0) of ``depth`` gets layer_decay^(depth - i), the embeddings layer_decay^(depth + 1), the last norm 1;
    the patch embedding is multiplied by ``patch_embed_lr`` besides. Source: `dinov2#utils/param_groups.py`.
    """
    block = re.match(r"vit\.blocks\.(\d+)\.", name)
    if block:
        return config.layer_decay ** (depth - int(block[1]))
    if name.startswith(_EMBEDDINGS):
        patch = config.patch_embed_lr if name.startswith("vit.patch_embed") else 1.0
        return config.layer_decay ** (depth + 1) * patch
    return 1.0


def is_decayed(name: str, parameter: nn.Parameter) -> bool:
    """Weight decay is for matrices: not for biases, norms, layer scales, tokens and the position embedding.

    dinov2 decays tokens, the position embedding and the prototypes' gains; timm and DeiT do not decay the first two, and
    we follow them.
    """
    return parameter.ndim >= 2 and not name.startswith(("vit.cls_token", "vit.reg_token", "vit.pos_embed"))


def parameter_groups(backbone: MaskedViT, heads: nn.Module, config: ImageSSLConfig) -> list[dict[str, Any]]:
    """Groups for AdamW, each with ``lr_factor``, ``decayed`` and ``is_last_layer``; in a fixed order."""
    depth = len(backbone.vit.blocks)
    groups: dict[tuple[float, bool, bool], list[nn.Parameter]] = {}

    def add(named: Iterator[tuple[str, nn.Parameter]], in_head: bool) -> None:
        for name, parameter in named:
            if parameter.requires_grad:
                factor = 1.0 if in_head else lr_factor(name, depth, config)
                key = (factor, is_decayed(name, parameter), in_head and "last_layer" in name)
                groups.setdefault(key, []).append(parameter)

    add(backbone.named_parameters(), in_head=False)
    add(heads.named_parameters(), in_head=True)
    return [
        {"params": members, "lr_factor": factor, "decayed": decayed, "is_last_layer": last}
        for (factor, decayed, last), members in groups.items()
    ]


def apply_step(optimizer: Optimizer, values: StepValues) -> None:
    """Set lr and weight decay of every group to a step's values."""
    for group in optimizer.param_groups:
        group["lr"] = (values.last_layer_lr if group["is_last_layer"] else values.lr) * group["lr_factor"]
        group["weight_decay"] = values.weight_decay if group["decayed"] else 0.0
