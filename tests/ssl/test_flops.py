"""The count of operations against torch's own counter, on the real step."""

import re

import pytest
import torch
from torch.utils.flop_counter import FlopCounterMode

from strata.ssl.image.augment import multi_crop
from strata.ssl.image.config import ImageSSLConfig
from strata.ssl.image.data import step_generator
from strata.ssl.image.flops import mean_masked_patches, step_flops
from strata.ssl.image.masking import step_masks
from strata.ssl.image.module import DINOv2
from strata.ssl.image.schedules import step_values
from strata.ssl.image.share import Share

SETTINGS = {
    "backbone": "vit_tiny_patch16_224",
    "model_kwargs": {"patch_size": 8, "embed_dim": 48, "depth": 3, "num_heads": 4, "reg_tokens": 2},
    "steps": 12, "batch_size": 6, "cache_size": 48, "global_size": 48, "local_size": 24, "n_local": 3,
    "n_prototypes": 64, "ibot_n_prototypes": 32, "head_hidden": 40, "head_bottleneck": 16, "ibot_bottleneck": 8,
    "warmup_steps": 4, "teacher_temperature_steps": 4, "freeze_last_layer_steps": 2, "koleo_weight": 0.0,
}  # fmt: skip
SWIGLU = {"embed_dim": 48, "depth": 2, "num_heads": 4, "patch_size": 8}


def counted(module, phase):
    config = module.config
    images = torch.zeros(config.batch_size, 3, 48, 48, dtype=torch.uint8)
    crops = multi_crop(images, config, step_generator(0, 0))
    masks = module._masks(Share(config.batch_size), 0)
    with FlopCounterMode(display=False) as counter:
        if phase == "teacher":
            with torch.no_grad():
                places = torch.empty(0, dtype=torch.int64) if masks is None else masks.places
                cls, patches = module.teacher.backbone(crops[0], None, places)
                module.teacher.heads["dino"](cls)
                if masks is not None:
                    module.teacher.ibot_head(patches)
        else:
            losses = module.losses(*crops, masks, step_values(config, 0))
            if phase == "all":
                sum(losses.values()).backward()
    # Fused attention computes the scores anew in its backward pass: 5 products where the model needs 4
    by_operator = counter.get_flop_counts()["Global"]
    again = sum(n / 5 for name, n in by_operator.items() if re.search("attention.*backward", str(name)))
    return counter.get_total_flops() - again, 0 if masks is None else len(masks.places)


@pytest.mark.parametrize(
    "changes",
    [
        {},
        {"ibot_separate_head": False},
        {"ibot_weight": 0.0},
        {"n_local": 0, "head_layers": 1},
        {"backbone": "vit_giant_patch14_reg4_dinov2", "model_kwargs": SWIGLU},
    ],
    ids=["separate", "tied", "no iBOT", "one layer", "swiglu"],
)
def test_count_is_that_of_torch(changes):
    config = ImageSSLConfig(**{**SETTINGS, "centering": "softmax", **changes})
    module = DINOv2(config, seed=0).train()
    teacher, masked = counted(module, "teacher")
    forward, _ = counted(module, "forward")
    everything, _ = counted(module, "all")
    flops = step_flops(config, masked)
    assert flops.teacher == teacher
    # What torch counts besides: the products in DINO's loss
    views = 2 + config.n_local
    pairs = 2 * 2 * views * config.batch_size * config.n_prototypes
    assert flops.teacher + flops.student_forward == forward - pairs
    assert flops.total == everything - 2 * pairs


def test_mean_of_masked_patches():
    config = ImageSSLConfig(**SETTINGS)
    drawn = [
        len(step_masks((6, 6), 0.5, config.mask_ratio, seed=0, step=step, share=Share(6)).places) for step in range(400)
    ]
    assert mean_masked_patches(config, 36) == pytest.approx(sum(drawn) / 400, rel=0.02)


def test_stochastic_depth_and_batch_scale_the_count():
    config = ImageSSLConfig(**SETTINGS)
    twice = ImageSSLConfig(**{**SETTINGS, "batch_size": 12})
    assert step_flops(twice).total == pytest.approx(2 * step_flops(config).total)
    half = step_flops(ImageSSLConfig(**{**SETTINGS, "drop_path": 0.5}))
    rising = step_flops(ImageSSLConfig(**{**SETTINGS, "drop_path": 0.5, "drop_path_uniform": False}))
    assert half.teacher == step_flops(config).teacher
    assert half.student_forward < rising.student_forward < step_flops(config).student_forward


def test_vit_large_paper_step_is_of_the_known_size():
    """ViT-L/14 at 224 px is 2 x 81 GFLOP a forward pass of one image (timm's table: 81 GMACs)."""
    from test_ssl_configs import recipe

    config = ImageSSLConfig(**recipe("dinov2_vitl_paper"))
    per_crop = step_flops(config).teacher / (2 * config.batch_size)
    assert 1.3e11 < per_crop < 1.9e11
