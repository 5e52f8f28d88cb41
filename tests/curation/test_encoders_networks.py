"""Encoders that run a network of timm or transformers: their embeddings, transforms and descriptions."""

import math

import numpy as np
import pytest
import torch
from encoder_checks import batch, check_protocol, noise
from PIL import Image

from strata.curation.encoders.backbone import BackboneEncoder, load_backbone
from strata.curation.encoders.base import weights_sha256
from strata.curation.encoders.timm_encoder import TimmEncoder
from strata.curation.encoders.transformers_encoder import TransformersEncoder


def test_timm_from_a_local_folder(timm_folder):
    folder, network = timm_folder
    encoder = TimmEncoder(str(folder))
    features = check_protocol(encoder)
    images = batch(encoder)
    with torch.no_grad():
        tokens = network.forward_features(images)
        torch.testing.assert_close(features, tokens[:, 0])
        torch.testing.assert_close(TimmEncoder(f"local-dir:{folder}", pooling="model").encode(images), network(images))
    average = TimmEncoder(str(folder), pooling="avg").encode(images)
    torch.testing.assert_close(average, tokens[:, 3:].mean(dim=1))  # past the class token and two registers
    both = TimmEncoder(str(folder), pooling="cls_avg", normalize=True)
    expected = torch.cat([features, average], dim=1)
    torch.testing.assert_close(both.encode(images), expected / expected.norm(dim=1, keepdim=True))
    assert both.dim == 48 and both.describe()["normalization"] == "l2"


def test_transform_is_resolved_and_applied(timm_folder):
    described = TimmEncoder(str(timm_folder[0])).describe()
    transform = described["transform"]
    assert transform["size"] == [32, 32] and transform["interpolation"] == "bicubic"
    assert transform["crop"] == {"mode": "center", "fraction": 0.9}
    assert transform["mean"] == [0.5] * 3 and transform["std"] == [0.5] * 3
    assert described["weights_sha256"] == weights_sha256(timm_folder[1])
    image = noise(3)
    side = math.floor(32 / 0.9)  # shorter side 35, then the center
    resized = np.asarray(image.resize((int(side * 52 / 40), side), Image.Resampling.BICUBIC), np.float32)
    left, top = round((resized.shape[1] - 32) / 2), round((side - 32) / 2)
    expected = torch.from_numpy(resized[top : top + 32, left : left + 32]).permute(2, 0, 1) / 255 * 2 - 1
    torch.testing.assert_close(TimmEncoder(str(timm_folder[0])).transform(image), expected)


@pytest.mark.parametrize("sizes", [1, 2, 3])
def test_network_embeddings_do_not_depend_on_the_batch(timm_folder, sizes):
    encoder = TimmEncoder(str(timm_folder[0]))
    images = batch(encoder, 7)
    whole, parts = encoder.encode(images), torch.cat([encoder.encode(part) for part in images.split(sizes)])
    torch.testing.assert_close(whole.half(), parts.half(), rtol=2e-3, atol=1e-4)


def test_random_networks_are_seeded_and_said_so():
    def make(seed):
        before = torch.random.get_rng_state()
        encoder = TimmEncoder("resnet10t", pretrained=False, pooling="avg", image_size=32, seed=seed)
        assert torch.equal(torch.random.get_rng_state(), before)
        return encoder

    one, again, other = make(0), make(0), make(1)
    check_protocol(one)
    assert one.describe() == again.describe() and one.describe()["weights"] == "random, seed 0"
    assert one.describe()["weights_sha256"] != other.describe()["weights_sha256"]
    assert one.describe()["transform"]["size"] == [32, 32] and one.dim == 512
    resized = TimmEncoder("vit_tiny_patch16_224", pretrained=False, image_size=32)
    assert resized.transform(noise(0)).shape == (3, 32, 32) and resized.module.patch_embed.num_patches == 4


def test_precision(timm_folder):
    exact, reduced = (TimmEncoder(str(timm_folder[0]), precision=p) for p in ("float32", "bfloat16"))
    images = batch(exact)
    features = reduced.encode(images)
    assert features.dtype == torch.float32 and not torch.equal(features, exact.encode(images))
    torch.testing.assert_close(features, exact.encode(images), rtol=0.1, atol=0.1)
    assert reduced.describe()["precision"] == "bfloat16"


def test_backbone_folder(timm_folder):
    folder, network = timm_folder
    encoder = BackboneEncoder(folder)
    features = check_protocol(encoder)
    with torch.no_grad():
        torch.testing.assert_close(features, network.forward_features(batch(encoder))[:, 0])
    assert encoder.describe()["transform"] == TimmEncoder(str(folder)).describe()["transform"]
    assert BackboneEncoder(folder, pooling="cls_avg").dim == 48
    assert weights_sha256(load_backbone(folder)) == weights_sha256(network)


def test_transformers_from_a_local_folder(vit_folder):
    folder, network = vit_folder
    encoder = TransformersEncoder(str(folder))
    features = check_protocol(encoder)
    images = batch(encoder)
    with torch.no_grad():
        output = network(images)
    torch.testing.assert_close(features, output.last_hidden_state[:, 0])
    pooled = TransformersEncoder(str(folder), pooling="pooler").encode(images)
    torch.testing.assert_close(pooled, output.pooler_output)
    mean = TransformersEncoder(str(folder), pooling="mean").encode(images)
    torch.testing.assert_close(mean, output.last_hidden_state[:, 4:].mean(dim=1))  # past class token and 3 registers
    transform = encoder.describe()["transform"]
    assert transform["size"] == [28, 28] and transform["interpolation"] == "bicubic"
    assert transform["crop"]["mode"] == "center" and len(transform["mean"]) == 3


def test_transformers_takes_the_vision_half(tmp_path):
    from transformers import CLIPConfig, CLIPImageProcessor, CLIPModel

    small = {"hidden_size": 16, "intermediate_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2}
    config = CLIPConfig(
        vision_config={**small, "image_size": 32, "patch_size": 8}, text_config={**small, "vocab_size": 99}
    )
    network = CLIPModel(config).eval()
    network.save_pretrained(tmp_path)
    CLIPImageProcessor(size={"shortest_edge": 32}, crop_size={"height": 32, "width": 32}).save_pretrained(tmp_path)
    encoder = TransformersEncoder(str(tmp_path), pooling="pooler")
    images = batch(encoder)
    with torch.no_grad():
        expected = network.vision_model(pixel_values=images).pooler_output
    torch.testing.assert_close(check_protocol(encoder), expected)
