import inspect
import json
import math
import pickle
import shutil

import numpy as np
import pytest
import timm
import torch
from hydra import compose, initialize_config_module
from hydra.utils import get_class, instantiate
from PIL import Image
from safetensors.torch import load_file, save_file
from sklearn.decomposition import PCA as SklearnPCA
from timm.models import save_for_hf

from strata.curation.encoders.backbone import BackboneEncoder, load_backbone
from strata.curation.encoders.base import Encoder, weights_sha256
from strata.curation.encoders.hog_color import HOGColor, color_histogram, oriented_gradients
from strata.curation.encoders.network import pool_tokens
from strata.curation.encoders.pca import PCA
from strata.curation.encoders.pixels_pca import PixelsPCA
from strata.curation.encoders.timm_encoder import TimmEncoder
from strata.curation.encoders.transformers_encoder import TransformersEncoder
from strata.curation.errors import ConfigError, DataError

DESCRIBED = {"name", "model", "weights_sha256", "pooling", "normalization", "transform"}
TRANSFORM = {"size", "interpolation", "crop", "mean", "std"}


class Noise:
    name, labels, label_names, fingerprint = "noise", None, None, "abc"
    ids = [str(row) for row in range(60)]

    def __len__(self):
        return 60

    def __getitem__(self, row):
        return noise(row)

    def describe(self):
        return {}


def noise(seed, height=40, width=52):
    return Image.fromarray(np.random.default_rng(seed).integers(0, 256, (height, width, 3), np.uint8))


def batch(encoder, n=5):
    return torch.stack([encoder.transform(noise(row)) for row in range(n)])


def check_protocol(encoder):
    """What holds of any encoder that is ready; returns the embeddings of five images."""
    assert isinstance(encoder, Encoder) and encoder.to("cpu") is encoder
    described = encoder.describe()
    assert set(described) >= DESCRIBED and set(described["transform"]) >= TRANSFORM
    assert json.loads(json.dumps(described)) == described
    transform = pickle.loads(pickle.dumps(encoder.transform))
    assert torch.equal(transform(noise(1)), encoder.transform(noise(1)))
    features = encoder.encode(batch(encoder))
    assert features.shape == (5, encoder.dim) and features.dtype == torch.float32 and not features.requires_grad
    assert features.std(dim=0).mean() > 0
    return features


# PCA, pixels, HOG


@pytest.mark.parametrize("whiten", [False, True])
def test_pca_agrees_with_sklearn(whiten):
    rng = np.random.default_rng(0)
    X = np.clip(rng.standard_normal((400, 6)) @ rng.standard_normal((6, 20)) * 20 + 128, 0, 255).astype(np.uint8)
    ours = PCA.fit(X, 4, max_value=255, whiten=whiten)
    theirs = SklearnPCA(4, whiten=whiten, svd_solver="full").fit(X / 255)
    expected = theirs.transform(X / 255)
    signs = np.sign((ours.project(X) * expected).sum(axis=0))
    np.testing.assert_allclose(ours.project(X), expected * signs, atol=2e-5)
    np.testing.assert_allclose(ours.explained_variance, theirs.explained_variance_, rtol=1e-6)
    assert (ours.components[np.abs(ours.components).argmax(axis=0), np.arange(4)] > 0).all()


def test_pca_projection_is_exact_in_any_order():
    """Against integer arithmetic with Python's own numbers, for values as large as they may be."""
    rng = np.random.default_rng(1)
    X = rng.integers(0, 32768, (50, 300)).astype(np.int16)
    pca = PCA.fit(X, 3, max_value=32767)
    grid = np.array([[int(c * 2**24) for c in row] for row in pca.components], dtype=object)
    assert all(float(whole) / 2**24 == c for whole, c in zip(grid.ravel(), pca.components.ravel(), strict=True))
    whole = X.astype(object) @ grid
    expected = (np.array([[float(v) / 2**24 for v in row] for row in whole]) - pca.offset) * pca.scale
    assert np.array_equal(pca.project(X), expected)
    assert np.array_equal(np.concatenate([pca.project(X[i : i + 1]) for i in range(50)]), expected)
    order = rng.permutation(50)
    assert np.array_equal(PCA.fit(X[order], 3, max_value=32767).components, pca.components)


def test_pixels_pca(tmp_path):
    encoder = PixelsPCA(size=8, n_components=10, fit_rows=40)
    with pytest.raises(ConfigError, match="not fitted"):
        encoder.encode(batch(encoder))
    described = encoder.describe()
    encoder.fit(Noise(), tmp_path)
    assert encoder.describe() == described
    features = check_protocol(encoder)
    assert encoder.transform(noise(0)).shape == (3, 8, 8)
    reopened = PixelsPCA(size=8, n_components=10, fit_rows=40)
    reopened.fit(Noise(), tmp_path)
    assert torch.equal(reopened.encode(batch(encoder)), features)
    other_rows = PixelsPCA(size=8, n_components=10, fit_rows=40, random_state=1)
    with pytest.raises(DataError, match="other settings"):
        other_rows.fit(Noise(), tmp_path)
    other_rows.fit(Noise(), tmp_path / "other")
    assert not torch.equal(other_rows.encode(batch(encoder)), features)


def test_pixels_pca_options(tmp_path):
    gray = PixelsPCA(size=4, n_components=5, color="gray", normalize=True, whiten=True)
    gray.fit(Noise(), tmp_path)
    features = check_protocol(gray)
    assert gray.transform(noise(0)).shape == (1, 4, 4)
    torch.testing.assert_close(features.norm(dim=1), torch.ones(5))


def test_damaged_state_is_refused(tmp_path):
    (tmp_path / "pca.safetensors").write_bytes(b"half")
    with pytest.raises(DataError, match="cannot be read"):
        PixelsPCA(size=4, n_components=5).fit(Noise(), tmp_path)


@pytest.mark.parametrize(
    ("make", "field"),
    [
        (lambda: PixelsPCA(size=0), "encoder.size"),
        (lambda: PixelsPCA(size=200), "encoder.size"),
        (lambda: PixelsPCA(size=2, n_components=13), "encoder.n_components"),
        (lambda: PixelsPCA(color="hsv"), "encoder.color"),
        (lambda: PixelsPCA(fit_rows=1), "encoder.fit_rows"),
        (lambda: HOGColor(size=60), "encoder.size"),
        (lambda: HOGColor(bins=0), "encoder.bins"),
        (lambda: HOGColor(color_weight=2), "encoder.color_weight"),
    ],
)
def test_bad_pca_settings_name_their_field(make, field):
    with pytest.raises(ConfigError) as caught:
        make()
    assert caught.value.field == field


def test_whitening_beyond_the_rank_is_refused(tmp_path):
    class Same(Noise):
        def __getitem__(self, row):
            return noise(row % 3)

    with pytest.raises(ConfigError, match="rank"):
        PixelsPCA(size=4, n_components=5, whiten=True).fit(Same(), tmp_path)


def test_hog_color(tmp_path):
    encoder = HOGColor(size=32, n_components=12)
    encoder.fit(Noise(), tmp_path)
    torch.testing.assert_close(check_protocol(encoder).norm(dim=1), torch.ones(5))
    descriptor = encoder.transform(noise(0)).double() / 32767
    assert descriptor.norm() == pytest.approx(1, abs=0.02)  # every block and every quadrant holds something
    assert encoder.transform(Image.new("RGB", (9, 9))).count_nonzero() == 4  # a black image has color and no gradients


def test_oriented_gradients_of_a_ramp_lie_in_one_orientation():
    """Brightness rising to the right: gradients point along 0, the border of the first and the last of 9 bins."""
    hog = oriented_gradients(np.tile(np.linspace(0, 1, 32), (32, 1)), cell=8, bins=9)
    assert hog.shape == (3, 3, 36)
    per_bin = hog.reshape(3, 3, 4, 9).sum(axis=(0, 1, 2))
    assert per_bin[0] == pytest.approx(per_bin[8]) and per_bin[1:8].max() == pytest.approx(0, abs=1e-12)
    assert np.sqrt((hog**2).sum()) == pytest.approx(1, abs=0.01)
    turned = oriented_gradients(np.tile(np.linspace(0, 1, 32)[:, None], (1, 32)), cell=8, bins=9)
    assert turned.reshape(-1, 9).sum(axis=0).argmax() == 4  # 90 degrees: the middle bin


def test_color_histogram_of_flat_quadrants():
    pixels = np.zeros((8, 8, 3), np.uint8)
    pixels[:4, 4:] = (255, 0, 0)
    pixels[4:, :4, 2] = 64
    histogram = color_histogram(pixels, bins=4)
    expected = np.zeros((4, 64))
    expected[[0, 1, 2, 3], [0, 3 * 16, 1, 0]] = 0.5
    np.testing.assert_allclose(histogram, expected)


# Networks


@pytest.fixture(scope="module")
def timm_folder(tmp_path_factory):
    """A folder as timm and our training write it, and its network."""
    folder = tmp_path_factory.mktemp("timm") / "net"
    arguments = {"img_size": 32, "patch_size": 8, "depth": 2, "embed_dim": 24, "num_heads": 2, "reg_tokens": 2}
    torch.manual_seed(0)
    network = timm.create_model("vit_tiny_patch16_224", num_classes=0, **arguments).eval()
    network.pretrained_cfg["input_size"] = (3, 32, 32)
    save_for_hf(network, folder, safe_serialization=True, model_args=arguments)
    return folder, network


@pytest.fixture(scope="module")
def vit_folder(tmp_path_factory):
    from transformers import BitImageProcessor, Dinov2WithRegistersConfig, Dinov2WithRegistersModel

    folder = tmp_path_factory.mktemp("transformers") / "net"
    config = Dinov2WithRegistersConfig(
        hidden_size=16, num_hidden_layers=2, num_attention_heads=2, image_size=28, patch_size=14, num_register_tokens=3
    )
    torch.manual_seed(0)
    network = Dinov2WithRegistersModel(config).eval()
    network.save_pretrained(folder)
    BitImageProcessor(size={"shortest_edge": 32}, crop_size={"height": 28, "width": 28}).save_pretrained(folder)
    return folder, network


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


def test_weights_that_lack_a_part_are_refused(timm_folder, vit_folder, tmp_path):
    for name, source, make, lost in [
        ("t", timm_folder[0], lambda p: TimmEncoder(str(p)), "blocks.1.mlp.fc1.weight"),
        ("b", timm_folder[0], BackboneEncoder, "blocks.1.mlp.fc1.weight"),
        ("h", vit_folder[0], lambda p: TransformersEncoder(str(p)), "layernorm.weight"),
    ]:
        shutil.copytree(source, tmp_path / name)
        file = tmp_path / name / "model.safetensors"
        tensors = load_file(file)
        del tensors[lost]
        file.unlink()
        save_file(tensors, file, metadata={"format": "pt"})
        with pytest.raises(ConfigError, match=lost):
            make(tmp_path / name)
        file.write_bytes(b"not weights")
        with pytest.raises(ConfigError):
            make(tmp_path / name)
        file.unlink()
        with pytest.raises(ConfigError):
            make(tmp_path / name)


@pytest.fixture
def offline(monkeypatch):
    import huggingface_hub.constants

    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", True)
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")


@pytest.mark.parametrize(
    ("make", "field"),
    [
        (lambda: TimmEncoder("vit_small_patch14_dinov2.lvd142m"), "encoder.model"),
        (lambda: TimmEncoder("hf-hub:nobody/nothing"), "encoder.model"),
        (lambda: TimmEncoder("no_such_network"), "encoder.model"),
        (lambda: TimmEncoder("no/such/folder"), "encoder.model"),
        (lambda: TimmEncoder("/no/such/folder"), "encoder.model"),
        (lambda: TimmEncoder("resnet10t", pretrained=False), "encoder.pooling"),
        (lambda: TimmEncoder("resnet10t", pretrained=False, pooling="max"), "encoder.pooling"),
        (lambda: TimmEncoder("resnet10t", pretrained=False, pooling="avg", precision="int8"), "encoder.precision"),
        (lambda: TransformersEncoder("facebook/dinov2-small"), "encoder.model"),
        (lambda: TransformersEncoder("/no/such/folder"), "encoder.model"),
        (lambda: TransformersEncoder("x", pooling="avg"), "encoder.pooling"),
        (lambda: BackboneEncoder("/no/such/folder"), "encoder.path"),
    ],
)
def test_what_cannot_be_opened_is_a_config_error(offline, make, field):
    with pytest.raises(ConfigError) as caught:
        make()
    assert caught.value.field == field and "\n" not in str(caught.value)


def test_config_of_another_library_is_refused(vit_folder):
    with pytest.raises(ConfigError, match="encoder=transformers"):
        TimmEncoder(str(vit_folder[0]))
    with pytest.raises(ConfigError, match="no architecture"):
        BackboneEncoder(vit_folder[0])


def test_pool_tokens():
    tokens = torch.arange(24.0).reshape(1, 4, 6)
    assert torch.equal(pool_tokens(tokens, 1, True, "cls"), tokens[:, 0])
    assert torch.equal(pool_tokens(tokens, 2, True, "avg"), (tokens[:, 2] + tokens[:, 3]) / 2)
    with pytest.raises(ConfigError, match="no class token"):
        pool_tokens(tokens, 2, False, "cls_avg")


def test_weights_sha256_sees_names_and_values():
    first, second = torch.nn.Linear(2, 2), torch.nn.Linear(2, 2)
    assert weights_sha256(first) != weights_sha256(second)
    second.load_state_dict(first.state_dict())
    assert weights_sha256(first) == weights_sha256(second) != weights_sha256(torch.nn.Sequential(first))


@pytest.mark.parametrize(
    "name", ["pixels_pca", "hog_color", "timm", "dinov2_vits14", "dinov2_vitl14", "transformers", "backbone"]
)
def test_configs_match_their_encoders(name):
    with initialize_config_module("strata.configs", version_base=None):
        config = compose(overrides=[f"+encoder={name}"]).encoder
    target = get_class(config._target_)
    accepted = inspect.signature(target.__init__).parameters
    assert set(config) - {"_target_"} == set(accepted) - {"self"}
    if name in ("pixels_pca", "hog_color"):
        assert instantiate(config).describe() == target().describe()  # the file states the defaults
