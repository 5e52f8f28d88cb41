"""Every kind of backbone through ``load_backbone``: folders written here, nothing is fetched."""

import json
import shutil

import pytest
import timm
import torch
import torchvision
from safetensors.torch import save_file

from strata.curation.errors import ConfigError
from strata.eval.backbone import load_backbone, probed_blocks
from strata.eval.backbones.source import source_of


@pytest.fixture(scope="module")
def timm_vit(tmp_path_factory):
    """A checkpoint folder as timm writes it."""
    torch.manual_seed(0)
    model = timm.create_model("test_vit", num_classes=7)
    folder = tmp_path_factory.mktemp("timm") / "vit"
    timm.models.save_for_hf(model, str(folder), safe_serialization=True)
    return folder, model.eval()


@pytest.fixture(scope="module")
def torchvision_folders(tmp_path_factory):
    """A ResNet as .pth and a vision transformer as safetensors, each beside its config."""
    root = tmp_path_factory.mktemp("torchvision")
    torch.manual_seed(0)
    resnet = torchvision.models.resnet18(num_classes=5).eval()
    (root / "resnet").mkdir()
    torch.save(resnet.state_dict(), root / "resnet" / "model.pth")
    config = {
        "torchvision": "resnet18",
        "model_args": {"num_classes": 5},
        "transform": {"crop_size": 64, "resize_size": 72},
    }
    (root / "resnet" / "config.json").write_text(json.dumps(config))
    arguments = {"image_size": 32, "patch_size": 8, "num_layers": 3, "num_heads": 2, "hidden_dim": 16, "mlp_dim": 32}
    vit = torchvision.models.VisionTransformer(**arguments, num_classes=5).eval()
    return root, resnet, vit


@pytest.fixture(scope="module")
def transformers_folders(tmp_path_factory):
    import transformers as hf

    root = tmp_path_factory.mktemp("transformers")
    sizes = {"hidden_size": 16, "num_hidden_layers": 5, "num_attention_heads": 2}
    models = {
        "dinov2": hf.Dinov2Model(hf.Dinov2Config(**sizes, image_size=28, patch_size=14)),
        "registers": hf.Dinov2WithRegistersModel(
            hf.Dinov2WithRegistersConfig(**sizes, image_size=28, patch_size=14, num_register_tokens=3)
        ),
        "vit": hf.ViTModel(hf.ViTConfig(**sizes, image_size=28, patch_size=14, intermediate_size=32)),
        "clip": hf.CLIPVisionModel(
            hf.CLIPVisionConfig(**sizes, image_size=28, patch_size=14, intermediate_size=32, projection_dim=8)
        ),
        "resnet": hf.ResNetModel(
            hf.ResNetConfig(embedding_size=8, hidden_sizes=[8, 16], depths=[1, 1], num_channels=3)
        ),
    }
    for name, model in models.items():
        model.eval().save_pretrained(root / name)
        hf.ViTImageProcessor(size={"height": 28, "width": 28}).save_pretrained(root / name)
    return root, models


def test_timm_folder(timm_vit):
    folder, model = timm_vit
    backbone = load_backbone(folder, "cpu")
    assert (backbone.n_blocks, backbone.dim, backbone.grid) == (4, 64, (10, 10))
    images = torch.randn(2, 3, 160, 160)
    tokens = backbone.read(images)
    with torch.no_grad():
        expected = model.forward_features(images)
    torch.testing.assert_close(tokens.cls[:, -1], expected[:, 0])
    torch.testing.assert_close(tokens.patches[:, -1], expected[:, model.num_prefix_tokens :])
    assert backbone.describe()["reads"] == "class token"


def test_torchvision_resnet_is_read_by_its_pooled_features(torchvision_folders):
    root, resnet, _ = torchvision_folders
    backbone = load_backbone(root / "resnet", "cpu")
    assert (backbone.n_blocks, backbone.dim, backbone.grid) == (1, 512, None)
    images = torch.randn(2, 3, 64, 64)
    cls, avg = backbone.features(images)
    with torch.no_grad():
        torch.testing.assert_close(resnet.fc(cls[:, 0]), resnet(images))
    assert torch.equal(cls, avg)
    assert backbone.read(images).patches is None
    assert backbone.describe()["transform"]["size"] == [64, 64]
    assert probed_blocks(root / "resnet") == (1, False)


def test_torchvision_vit_tokens(torchvision_folders, tmp_path, monkeypatch):
    _, _, vit = torchvision_folders
    sizes = {"patch_size": 8, "num_layers": 3, "num_heads": 2, "hidden_dim": 16, "mlp_dim": 32}

    def tiny(*, weights=None, image_size=32):
        return torchvision.models.VisionTransformer(image_size=image_size, **sizes, num_classes=5)

    monkeypatch.setattr(torchvision.models, "get_model", lambda name, **options: tiny(**options))
    save_file(vit.state_dict(), tmp_path / "model.safetensors")
    config = {"torchvision": "vit_b_16", "transform": {"crop_size": 32, "resize_size": 32}}
    (tmp_path / "config.json").write_text(json.dumps(config))
    backbone = load_backbone(tmp_path, "cpu")
    images = torch.randn(2, 3, 32, 32)
    tokens = backbone.read(images)
    assert (backbone.n_blocks, backbone.grid, tokens.patches.shape) == (3, (4, 4), (2, 3, 16, 16))
    with torch.no_grad():
        torch.testing.assert_close(vit.heads(tokens.cls[:, -1]), vit(images))
    (tmp_path / "config.json").write_text(json.dumps({**config, "transform": {"crop_size": 40}}))
    with pytest.raises(ConfigError, match=r"backbone: .*cropped to 40 px.*reads 32"):
        load_backbone(tmp_path, "cpu")


@pytest.mark.parametrize("name", ["dinov2", "registers", "vit", "clip"])
def test_transformers_tokens(transformers_folders, name):
    root, models = transformers_folders
    model = getattr(models[name], "vision_model", models[name])
    backbone = load_backbone(root / name, "cpu")
    images = torch.randn(2, 3, 28, 28)
    tokens = backbone.read(images)
    prefix = 4 if name == "registers" else 1
    assert tokens.cls.shape == (2, 4, 16) and tokens.patches.shape == (2, 4, 4, 16)
    with torch.no_grad():
        output = model(pixel_values=images, output_hidden_states=True)
    norm = model.post_layernorm if name == "clip" else model.layernorm
    last = norm(output.last_hidden_state) if name == "clip" else output.last_hidden_state
    torch.testing.assert_close(tokens.cls[:, -1], last[:, 0])
    torch.testing.assert_close(tokens.patches[:, -1], last[:, prefix:])
    torch.testing.assert_close(tokens.cls[:, 0], norm(output.hidden_states[2])[:, 0])  # the last 4 of 5 blocks


def test_transformers_resnet_is_pooled(transformers_folders):
    root, models = transformers_folders
    backbone = load_backbone(root / "resnet", "cpu")
    images = torch.randn(2, 3, 28, 28)
    with torch.no_grad():
        expected = models["resnet"](images).pooler_output.flatten(1)
    torch.testing.assert_close(backbone.features(images)[0][:, 0], expected)
    assert backbone.grid is None


def test_timm_networks_that_are_pooled_and_without_a_class_token():
    resnet = load_backbone("untrained:timm:test_resnet", "cpu")
    side = resnet.describe()["transform"]["size"]
    images = torch.randn(2, 3, *side)
    with torch.no_grad():
        torch.testing.assert_close(resnet.features(images)[0][:, 0], resnet.model(images))
    averaged = load_backbone("untrained:timm:vit_tiny_patch16_224", "cpu", image_size=32)
    assert averaged.grid == (2, 2)
    assert averaged.describe()["reads"] == "class token"


def test_untrained_weights_are_those_of_the_seed(timm_vit):
    folder, _ = timm_vit
    trained, untrained = load_backbone(folder, "cpu"), load_backbone(f"untrained:{folder}", "cpu")
    assert trained.key != untrained.key == load_backbone(folder, "cpu", pretrained=False).key
    assert untrained.key != load_backbone(folder, "cpu", pretrained=False, seed=1).key
    assert trained.describe()["transform"] == untrained.describe()["transform"]


@pytest.mark.parametrize(
    ("name", "library"),
    [
        ("timm:test_vit", "timm"),
        ("test_vit", "timm"),
        ("timm/test_vit.r160_in1k", "timm"),
        ("hf:facebook/dinov2-small", "transformers"),
        ("facebook/dinov2-small", "transformers"),
        ("untrained:torchvision:resnet18", "torchvision"),
    ],
)
def test_names(name, library):
    assert source_of(name).library == library


def test_what_a_folder_is(timm_vit, torchvision_folders, transformers_folders, tmp_path):
    assert source_of(timm_vit[0]).library == "timm"
    assert source_of(torchvision_folders[0] / "resnet").library == "torchvision"
    assert source_of(transformers_folders[0] / "vit").library == "transformers"
    for text, match in (("{}", "none of architecture"), ("[1", "cannot be read"), ("[]", "none of architecture")):
        (tmp_path / "config.json").write_text(text)
        with pytest.raises(ConfigError, match=f"backbone: .*{match}"):
            source_of(tmp_path)
    with pytest.raises(ConfigError, match=r"backbone: 'no such thing' is no folder"):
        source_of("no such thing")


def test_patches_that_do_not_divide_the_image(timm_vit, tmp_path):
    with pytest.raises(ConfigError, match=r"image_size: .*90"):
        load_backbone("untrained:timm:test_vit", "cpu", image_size=90)
    folder = tmp_path / "vit"
    shutil.copytree(timm_vit[0], folder)
    config = json.loads((folder / "config.json").read_text())
    config["pretrained_cfg"]["input_size"] = [3, 100, 100]
    (folder / "config.json").write_text(json.dumps(config))
    with pytest.raises(ConfigError, match=r"backbone: "):
        load_backbone(folder, "cpu")


def test_another_image_size_is_another_grid(timm_vit):
    backbone = load_backbone(timm_vit[0], "cpu", image_size=64)
    assert backbone.grid == (4, 4)
    assert backbone.read(torch.randn(1, 3, 64, 64)).patches.shape[2] == 16
    with pytest.raises(ConfigError, match="image_size"):
        load_backbone("untrained:torchvision:resnet18", "cpu", image_size=64)


def test_damaged_torchvision_folders(torchvision_folders, tmp_path):
    folder = tmp_path / "resnet"
    shutil.copytree(torchvision_folders[0] / "resnet", folder)
    config = json.loads((folder / "config.json").read_text())

    def refused(match):
        with pytest.raises(ConfigError, match=f"backbone: .*{match}"):
            load_backbone(folder, "cpu")

    (folder / "config.json").write_text(json.dumps(config | {"model_args": {"num_classes": 6}}))
    refused("size mismatch")
    (folder / "config.json").write_text(json.dumps(config | {"torchvision": "resnet1"}))
    refused("resnet1")
    (folder / "config.json").write_text(json.dumps(config | {"transform": {"size": 3}}))
    refused("size")
    (folder / "config.json").write_text(json.dumps(config))
    (folder / "model.pth").write_bytes(b"cos\nsystem\n(S'true'\ntR.")  # a pickle that would run a command
    refused("model.pth")
    (folder / "model.pth").unlink()
    refused("model.pth")
