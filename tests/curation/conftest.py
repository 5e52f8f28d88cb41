"""Small networks on disk, as timm, transformers and our training write them."""

import pytest
import timm
import torch
from timm.models import save_for_hf


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
