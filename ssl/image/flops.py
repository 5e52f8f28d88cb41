"""Floating-point operations of one training step, counted from the settings: what MFU (FLOPs per second / peak) divides.

Counted are the products of matrices, 2 operations for each multiply-add, as ``torch.utils.flop_counter`` counts them:
patch embedding, linear layers, attention scores and their use, prototypes, the position embedding's resizing left out.
Norms, activations, softmax, losses, Sinkhorn-Knopp, augmentation and the optimizer are not model FLOPs. Recomputed
activations are not counted either (MFU, not HFU). Stochastic depth and masks are at their means.
"""

import itertools
from dataclasses import dataclass

import torch
from timm.models.vision_transformer import VisionTransformer
from torch import Tensor, nn

from strata.ssl.image.backbone import create_backbone
from strata.ssl.image.config import ImageSSLConfig
from strata.ssl.image.stochastic_depth import drop_rates


@dataclass(frozen=True)
class StepFlops:
    """Operations of one optimizer step, all processes together."""

    teacher: float
    student_forward: float
    student_backward: float

    @property
    def total(self) -> float:
        """All three."""
        return self.teacher + self.student_forward + self.student_backward


def step_flops(config: ImageSSLConfig, masked_patches: float | None = None) -> StepFlops:
    """FLOPs of one step of ``config.batch_size`` images.

    Args:
        config: the recipe.
        masked_patches: patches that iBOT predicts in the step; their mean by default.
    """
    with torch.device("meta"):
        vit = create_backbone(config)
    n_global, n_local = 2 * config.batch_size, config.n_local * config.batch_size
    per_crop = vit.patch_embed.num_patches
    masked = mean_masked_patches(config, per_crop) if masked_patches is None else masked_patches
    masked = masked if config.ibot_weight > 0 else 0.0
    local_patches = (config.local_size // vit.patch_embed.patch_size[0]) ** 2

    cls_heads = _head(config, vit.embed_dim, separate=False)
    patch_heads = masked * _head(config, vit.embed_dim, separate=config.ibot_separate_head)
    teacher = _backbone(vit, n_global, per_crop, n_global + masked, 0.0) + n_global * cls_heads + patch_heads

    embed = _patch_embed(vit) * (n_global * per_crop + n_local * local_patches)
    student = _backbone(vit, n_global, per_crop, n_global + masked, config.drop_path, config.drop_path_uniform)
    student += _backbone(vit, n_local, local_patches, n_local, config.drop_path, config.drop_path_uniform)
    student += (n_global + n_local) * cls_heads + patch_heads
    # Backward: one product for the weights and one for the inputs; images need no gradient, so embedding has one only
    return StepFlops(teacher, student, 2.0 * student - embed)


def mean_masked_patches(config: ImageSSLConfig, patches: int) -> float:
    """Expected number of masked patches in a step, up to the rounding down in each crop (see ``masking``)."""
    crops = round(2 * config.batch_size * config.mask_probability)
    return crops * max(1.0, patches * sum(config.mask_ratio) / 2 - 0.5)


def _patch_embed(vit: VisionTransformer) -> float:
    """Of one patch."""
    return 2.0 * vit.patch_embed.proj.weight.numel()


def _backbone(
    vit: VisionTransformer, crops: float, patches: int, read: float, drop: float, uniform: bool = True
) -> float:
    """Forward pass of ``crops`` crops; the last MLP runs on ``read`` tokens, and dropped residuals cost nothing."""
    depth, tokens = len(vit.blocks), crops * (patches + vit.num_prefix_tokens)
    total = crops * patches * _patch_embed(vit)
    for i, (block, rate) in enumerate(zip(vit.blocks, drop_rates(drop, depth, uniform), strict=True)):
        attention = _weights(block.attn) + 2.0 * (patches + vit.num_prefix_tokens) * _width(block.attn)
        fed = read if i == depth - 1 else tokens
        total += (1.0 - rate) * 2.0 * (tokens * attention + fed * _weights(block.mlp))
    return total


def _weights(layer: Tensor | nn.Module) -> int:
    """Multiply-adds of one token in the linear layers."""
    assert isinstance(layer, nn.Module)  # what torch says of a block's attributes
    return sum(part.weight.numel() for part in layer.modules() if isinstance(part, nn.Linear))


def _width(attention: Tensor | nn.Module) -> int:
    """Of queries, keys and values: each score, and each use of one, is that many multiply-adds over all heads."""
    assert isinstance(attention, nn.Module)
    qkv = attention.qkv
    assert isinstance(qkv, nn.Linear)
    return qkv.out_features // 3


def _head(config: ImageSSLConfig, dim: int, *, separate: bool) -> float:
    """Of one row."""
    bottleneck, prototypes = (
        (config.ibot_bottleneck, config.ibot_n_prototypes)
        if separate
        else (config.head_bottleneck, config.n_prototypes)
    )
    widths = [dim] + [config.head_hidden] * (config.head_layers - 1) + [bottleneck, prototypes]
    return sum(2.0 * a * b for a, b in itertools.pairwise(widths))
