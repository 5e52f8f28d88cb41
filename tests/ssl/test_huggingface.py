"""The export for transformers computes what timm computes, and refuses what it cannot express."""

from functools import partial

import numpy as np
import pytest
import timm
import torch
from timm.layers import GluMlp, SwiGLU, SwiGLUPacked
from torch import nn

from strata.curation.errors import ConfigError
from strata.curation.pools.rendered import RenderedPool
from strata.ssl.image.config import ImageSSLConfig
from strata.ssl.image.huggingface import export_huggingface, from_huggingface, to_huggingface
from strata.ssl.image.pretrain import pretrain

SMALL = {"patch_size": 8, "embed_dim": 24, "depth": 3, "num_heads": 2, "img_size": 32, "num_classes": 0}


def vit(**changes):
    torch.manual_seed(0)
    model = timm.create_model("vit_tiny_patch16_224", **{**SMALL, **changes}).eval()
    with torch.no_grad():
        for p in model.parameters():
            p.add_(0.2 * torch.randn_like(p))
    return model


EXPRESSIBLE = {
    "plain": {},
    "layer scale": {"init_values": 0.3},
    "registers": {"reg_tokens": 3, "init_values": 0.3},
    "registers without place": {"reg_tokens": 3, "no_embed_class": True},
    "no place for the class token": {"no_embed_class": True},
    "no qkv bias": {"qkv_bias": False},
    "narrow MLP": {"mlp_ratio": 2.0},
    "bands": {"in_chans": 5},
    "packed SwiGLU": {"mlp_layer": SwiGLUPacked, "mlp_ratio": 128 / 24, "act_layer": nn.SiLU, "init_values": 0.3},
    "SwiGLU": {"mlp_layer": SwiGLU, "mlp_ratio": 64 / 24, "act_layer": nn.SiLU},
    "SwiGLU with registers": {"mlp_layer": SwiGLUPacked, "mlp_ratio": 128 / 24, "act_layer": nn.SiLU, "reg_tokens": 2},
}


@pytest.mark.parametrize("changes", EXPRESSIBLE.values(), ids=EXPRESSIBLE)
def test_outputs_are_equal(changes):
    ours = vit(**changes)
    theirs = to_huggingface(ours)
    images = torch.randn(2, changes.get("in_chans", 3), 32, 32)
    with torch.no_grad():
        expected, result = ours.forward_features(images), theirs(images)
    torch.testing.assert_close(result.last_hidden_state, expected, atol=1e-5, rtol=1e-5)
    torch.testing.assert_close(result.pooler_output, ours(images).detach(), atol=1e-5, rtol=1e-5)
    back = from_huggingface(theirs)
    for name in ("cls_token", "blocks.1.attn.qkv.weight", "norm.weight"):
        if name != "cls_token":
            assert torch.equal(back[name], ours.state_dict()[name])


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"qk_norm": True}, "qk_norm"),
        ({"pre_norm": True}, "pre_norm"),
        ({"global_pool": "avg"}, "fc_norm"),
        ({"pos_embed": "none"}, "position embedding is not learned"),
        ({"class_token": False, "global_pool": "avg"}, "no class token"),
        ({"act_layer": partial(nn.GELU, approximate="tanh")}, "neither GELU nor SwiGLU"),
        ({"mlp_ratio": 2.5}, "neither GELU nor SwiGLU of a width"),
        ({"mlp_layer": GluMlp}, "neither GELU nor SwiGLU"),
        ({"mlp_layer": SwiGLUPacked, "act_layer": nn.SiLU, "mlp_ratio": 3.0}, "of a width that transformers knows"),
        ({"scale_mlp_norm": True}, "inside the MLP"),
        ({"proj_bias": False}, "no bias"),
        ({"norm_layer": nn.RMSNorm}, "LayerNorm"),
    ],
)
def test_what_cannot_be_expressed_is_named(changes, words):
    with pytest.raises(ConfigError, match="no Dinov2 model can be this network") as caught:
        to_huggingface(vit(**changes))
    assert words in str(caught.value) and "\n" not in str(caught.value)


def test_a_trained_folder_opens_with_transformers_alone(tmp_path):
    from transformers import AutoImageProcessor, AutoModel

    config = ImageSSLConfig(
        backbone="vit_tiny_patch16_224",
        model_kwargs={"patch_size": 8, "embed_dim": 24, "depth": 2, "num_heads": 2, "reg_tokens": 2, "init_values": 1e-3},
        steps=2, batch_size=8, cache_size=32, global_size=32, local_size=16, n_local=1, n_prototypes=16, ibot_n_prototypes=12,
        head_hidden=16, head_bottleneck=8, ibot_bottleneck=8, warmup_steps=1, teacher_temperature_steps=1,
        freeze_last_layer_steps=1, mean=(0.5, 0.4, 0.3), std=(0.2, 0.2, 0.2),
    )  # fmt: skip
    pool = RenderedPool(40)
    folder = pretrain(config, pool, np.arange(30), tmp_path / "run", seed=0, log_every=1, progress=False, device="cpu")
    images = torch.randn(2, 3, 32, 32)
    for student, name in ((False, "model"), (True, "student")):
        out = export_huggingface(folder, tmp_path / f"hf_{name}", student=student)
        theirs = AutoModel.from_pretrained(out).eval()
        assert type(theirs).__name__ == "Dinov2WithRegistersModel"
        ours = timm.create_model(
            "vit_tiny_patch16_224", **config.model_kwargs, img_size=32, num_classes=0,
            checkpoint_path=str(folder / f"{name}.safetensors"),
        ).eval()  # fmt: skip
        with torch.no_grad():
            torch.testing.assert_close(theirs(images).pooler_output, ours(images), atol=1e-5, rtol=1e-5)
    pixels = AutoImageProcessor.from_pretrained(out)(pool[3].convert("RGB").resize((32, 32)), return_tensors="pt")
    expected = (np.asarray(pool[3].convert("RGB").resize((32, 32))) / 255 - [0.5, 0.4, 0.3]) / 0.2
    np.testing.assert_allclose(pixels["pixel_values"][0].permute(1, 2, 0).numpy(), expected, atol=1e-5)
    with pytest.raises(ConfigError, match="exists already"):
        export_huggingface(folder, out)
    with pytest.raises(ConfigError, match="is not there"):
        export_huggingface(tmp_path, tmp_path / "new")
