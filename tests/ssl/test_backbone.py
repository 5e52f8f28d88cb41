"""The backbone: timm's own function when nothing is masked or left out, and what it leaves out changes nothing."""

import numpy as np
import pytest
import timm
import torch

from strata.curation.errors import ConfigError
from strata.ssl.image.backbone import MaskedViT, create_backbone, model_args
from strata.ssl.image.config import ImageSSLConfig
from strata.ssl.image.share import Share
from strata.ssl.image.stochastic_depth import draw_kept, drop_rates

KWARGS = {"patch_size": 8, "embed_dim": 24, "depth": 3, "num_heads": 2, "reg_tokens": 1, "init_values": 0.5}
SWIGLU = {"embed_dim": 24, "depth": 2, "num_heads": 2, "patch_size": 8}


def settings(**changes):
    values = {
        "backbone": "vit_tiny_patch16_224", "model_kwargs": KWARGS, "batch_size": 8, "cache_size": 32, "global_size": 32,
        "local_size": 16, "n_local": 2, "steps": 10, "warmup_steps": 0, "teacher_temperature_steps": 0,
        "freeze_last_layer_steps": 0,
    }  # fmt: skip
    return ImageSSLConfig(**{**values, **changes})


def wrapped(drop_path=0.0, recompute=False, **changes):
    torch.manual_seed(0)
    vit = MaskedViT(create_backbone(settings(**changes)), drop_path=drop_path, recompute=recompute)
    with torch.no_grad():
        for p in vit.parameters():
            p.add_(0.1 * torch.randn_like(p))  # away from zeros and ones: every parameter matters
    return vit


IMAGES = torch.randn(3, 3, 32, 32, generator=torch.Generator().manual_seed(0))


@pytest.mark.parametrize(
    "changes", [{}, {"backbone": "vit_giant_patch14_reg4_dinov2", "model_kwargs": SWIGLU}], ids=["gelu", "swiglu"]
)
def test_without_a_mask_it_is_timm(changes):
    config = settings(**changes)
    model = timm.create_model(config.backbone, **model_args(config), num_classes=0)
    ours = MaskedViT(create_backbone(config))
    model.load_state_dict(ours.vit.state_dict(), strict=True)
    cls, patches = ours(IMAGES)
    expected = model.forward_features(IMAGES)
    torch.testing.assert_close(cls, model(IMAGES), rtol=0, atol=0)
    torch.testing.assert_close(patches, expected[:, model.num_prefix_tokens :], rtol=0, atol=0)
    torch.testing.assert_close(ours.vit(IMAGES), model(IMAGES), rtol=0, atol=0)  # the blocks still serve timm's forward


def test_masked_patches_are_not_seen():
    vit = wrapped()
    masks = torch.zeros(1, 16, dtype=torch.bool)
    masks[0, 0] = True
    one, other = torch.randn(1, 3, 32, 32), torch.randn(1, 3, 32, 32)
    other[..., 8:, :], other[..., :8, 8:] = one[..., 8:, :], one[..., :8, 8:]  # differ in patch 0 only
    torch.testing.assert_close(vit(one, masks)[0], vit(other, masks)[0])
    assert not torch.allclose(vit(one)[0], vit(other)[0])


@pytest.mark.parametrize("places", [[], [5], [0, 15, 16, 20, 47]])
@pytest.mark.parametrize("drop_path", [0.0, 0.4])
def test_only_wanted_tokens_are_those_of_all_tokens(places, drop_path):
    """Values and gradients of the pass that skips the last MLP elsewhere."""
    vit, places = wrapped(drop_path), torch.tensor(places, dtype=torch.int64)
    kept = draw_kept(vit.rates, 1, Share(3), torch.Generator().manual_seed(1))
    masks = torch.zeros(3, 16, dtype=torch.bool).index_fill_(1, torch.tensor([2, 3]), True)
    results = []
    for wanted in (None, places):
        vit.zero_grad()
        cls, patches = vit(IMAGES, masks, wanted, kept)
        if wanted is None:
            patches = patches.flatten(0, 1)[places]
        (cls.square().sum() + patches.pow(3).sum()).backward()
        results.append((cls, patches, [p.grad.clone() for p in vit.parameters()]))
    torch.testing.assert_close(*results, rtol=1e-4, atol=1e-5)


def reference(vit, images, kept):
    """Stochastic depth as a formula: x + mask / (1 - rate) * f(x), every image computed."""
    x = vit.vit._pos_embed(vit.vit.patch_embed(images))
    for i, block in enumerate(vit.vit.blocks):
        factors = kept[i].float() / (1 - vit.rates[i])
        x = x + factors[0].view(-1, 1, 1) * block.ls1(block.attn(block.norm1(x)))
        x = x + factors[1].view(-1, 1, 1) * block.ls2(block.mlp(block.norm2(x)))
    return vit.vit.norm(x)


def test_stochastic_depth_is_the_formula():
    vit = wrapped(0.5)
    kept = draw_kept(vit.rates, 1, Share(3), torch.Generator().manual_seed(2))
    assert kept.any() and not kept.all()
    results = []
    for forward in (lambda: vit(IMAGES, None, None, kept)[1], lambda: reference(vit, IMAGES, kept)[:, 2:]):
        vit.zero_grad()
        out = forward()
        out.pow(3).sum().backward()
        results.append((out, [p.grad.clone() for name, p in vit.named_parameters() if name != "mask_token"]))
    torch.testing.assert_close(*results, rtol=1e-4, atol=1e-5)


def test_all_residuals_dropped_leaves_the_embedding():
    vit = wrapped(0.5)
    kept = torch.zeros(3, 2, 3, dtype=torch.bool)
    expected = vit.vit.norm(vit.vit._pos_embed(vit.vit.patch_embed(IMAGES)))
    torch.testing.assert_close(vit(IMAGES, None, None, kept)[0], expected[:, 0])


def test_draws_are_of_the_right_rate_and_do_not_depend_on_the_split():
    rates = [0.0, 0.4, 0.8]
    whole = draw_kept(rates, 2, Share(600), torch.Generator().manual_seed(0))
    assert whole.shape == (3, 2, 1200)
    np.testing.assert_allclose(whole.float().mean((1, 2)).numpy(), [1.0, 0.6, 0.2], atol=0.03)
    parts = [
        draw_kept(rates, 2, Share(600, i, 3), torch.Generator().manual_seed(0)).unflatten(2, (2, 200)) for i in range(3)
    ]
    assert torch.equal(torch.cat(parts, dim=3).flatten(2), whole)
    assert draw_kept([0.0, 0.0], 2, Share(4), torch.Generator()) is None


def test_drop_rates():
    assert drop_rates(0.4, 3, uniform=True) == [0.4, 0.4, 0.4]
    assert drop_rates(0.4, 3, uniform=False) == [0.0, 0.2, 0.4]
    assert drop_rates(0.4, 1, uniform=False) == [0.4]


def test_recomputed_activations_give_the_same_gradients():
    results = []
    for recompute in (False, True):
        vit = wrapped(0.4, recompute)
        kept = draw_kept(vit.rates, 1, Share(3), torch.Generator().manual_seed(1))
        vit(IMAGES, None, torch.tensor([3]), kept)[0].square().sum().backward()
        results.append([p.grad for name, p in vit.named_parameters() if name != "mask_token"])
    torch.testing.assert_close(*results, rtol=0, atol=0)


@pytest.mark.slow
def test_compiled_blocks_give_the_same_values():
    vit = wrapped(0.4)
    kept = draw_kept(vit.rates, 1, Share(3), torch.Generator().manual_seed(1))
    expected = vit(IMAGES, None, torch.tensor([3]), kept)
    for block in vit.vit.blocks:
        block.compile()
    for actual, wanted in zip(vit(IMAGES, None, torch.tensor([3]), kept), expected, strict=True):
        torch.testing.assert_close(actual, wanted, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize(
    "name",
    ["vit_small_patch14_dinov2", "vit_base_patch14_reg4_dinov2", "vit_large_patch16_224", "vit_giant_patch14_dinov2"],
)
def test_sizes_up_to_giant_by_name(name):
    with torch.device("meta"):
        vit = create_backbone(settings(backbone=name, model_kwargs={}, global_size=224, local_size=112, cache_size=224))
    assert sum(p.numel() for p in vit.parameters()) > 2e7


def test_any_input_size_and_any_number_of_bands():
    config = settings(
        in_chans=5, mean=[0.1] * 5, std=[0.2] * 5, saturation=0, hue=0, gray=0, solarize=(0, 0, 0), global_size=24
    )
    vit = MaskedViT(create_backbone(config))
    assert vit.grid == (3, 3) and vit(torch.randn(2, 5, 24, 24))[1].shape == (2, 9, 24)
    assert vit(torch.randn(2, 5, 16, 40))[1].shape == (2, 10, 24)
    assert model_args(config)["in_chans"] == 5 and "in_chans" not in model_args(settings())


@pytest.mark.parametrize(
    ("field", "changes"),
    [
        ("ssl.backbone", {"backbone": "vit_of_nowhere"}),
        ("ssl.backbone", {"backbone": "resnet18", "model_kwargs": {}}),
        ("ssl.local_size", {"local_size": 12}),
        ("ssl.global_size", {"global_size": 20}),
        ("ssl.model_kwargs", {"model_kwargs": {"patch_size": 8, "embed_dim": 25, "num_heads": 2}}),
        ("ssl.model_kwargs", {"model_kwargs": {"patch_sice": 8}}),
        ("ssl.model_kwargs.in_chans", {"model_kwargs": {**KWARGS, "in_chans": 1}}),
        ("ssl.model_kwargs.drop_path_rate", {"model_kwargs": {**KWARGS, "drop_path_rate": 0.1}}),
        ("ssl.model_kwargs.patch_drop_rate", {"model_kwargs": {**KWARGS, "patch_drop_rate": 0.1}}),
        ("ssl.mask_ratio", {"mask_ratio": (0.5, 1.0)}),
        ("ssl.mask_ratio", {"global_size": 8, "local_size": 8, "model_kwargs": KWARGS}),  # one patch: hidden, nothing is left
        ("ssl.drop_path", {"backbone": "vit_base_patch16_xp_224", "model_kwargs": {"depth": 1}, "drop_path": 0.1}),
    ],
)  # fmt: skip
def test_bad_model_names_its_field(field, changes):
    with pytest.raises(ConfigError) as caught:
        create_backbone(settings(**changes))
    assert caught.value.field == field
