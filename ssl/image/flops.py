"""The arithmetic of one training step: what its matrix products need, however they are computed."""

import torch
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode

from strata.ssl.image.backbone import create_backbone
from strata.ssl.image.config import ImageSSLConfig
from strata.ssl.image.heads import PrototypeHead


def step_flops(config: ImageSSLConfig) -> float:
    """Floating-point operations of a step over its whole batch: forward of teacher and student, backward of the student.

    Counted by torch on shapes alone (no memory, no random numbers). A backward pass counts as two forward passes;
    augmentation, losses, optimizer and what is computed twice (``recompute``) do not count.
    """
    with torch.random.fork_rng(devices=[]), torch.device("meta"):
        vit = create_backbone(config)
        dims = (config.head_bottleneck, config.n_prototypes), (config.ibot_bottleneck, config.ibot_n_prototypes)
        if not config.ibot_separate_head:
            dims = (dims[0], dims[0])
        heads = [PrototypeHead(vit.embed_dim, config.head_hidden, *dim, config.head_layers) for dim in dims]
        image = [_forward(vit, torch.empty(1, vit.patch_embed.proj.in_channels, side, side))
                 for side in (config.global_size, config.local_size if config.n_local else config.global_size)]  # fmt: skip
        cls, patch = (_forward(head, torch.empty(1, vit.embed_dim)) for head in heads)
    b = config.batch_size
    masked = (
        sum(config.mask_ratio) / 2 * config.mask_probability * vit.patch_embed.num_patches if config.ibot_weight else 0
    )
    globals_, locals_ = 2 * b * (image[0] + cls + masked * patch), config.n_local * b * (image[1] + cls)
    return 4 * globals_ + 3 * locals_


def _forward(module: nn.Module, x: Tensor) -> float:
    counter = FlopCounterMode(display=False)
    with counter, torch.no_grad():
        module(x)
    return float(counter.get_total_flops())
