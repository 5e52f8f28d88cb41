"""Classifiers of torchvision, by name or from a folder with a state dict: the vision transformer by its tokens."""

import json
from pathlib import Path
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torchvision import models
from torchvision.models.vision_transformer import VisionTransformer
from torchvision.transforms._presets import ImageClassification

from strata.curation.encoders.base import weights_sha256
from strata.curation.errors import ConfigError
from strata.eval.backbones.base import MAX_BLOCKS, Network, Tokens

HEADS = ("fc", "classifier", "head", "heads")  # what torchvision's models call their classifier
WEIGHT_FILES = ("model.safetensors", "model.pth")
IMAGENET = {"crop_size": 224, "resize_size": 256, "mean": [0.485, 0.456, 0.406], "std": [0.229, 0.224, 0.225]}
_LAYOUT = (
    'a torchvision folder holds config.json, {"torchvision": "resnet50", "model_args": {}, "transform": {"crop_size": 224, '
    '"resize_size": 256}}, and the state dict as model.safetensors or model.pth'
)


class TorchvisionNetwork(Network):
    """A classifier of ``torchvision.models`` without the last linear layer of its head.

    Its ``VisionTransformer`` is read by tokens, after the final norm of its encoder; other networks by what goes into the
    last linear layer.

    Args:
        name: as ``torchvision.models.get_model`` takes it.
        module: the network, weights loaded.
        transform: ``ImageClassification`` preset: resize, center crop, normalization.
    """

    def __init__(self, name: str, module: nn.Module, transform: ImageClassification) -> None:
        self._name = name
        self.module, self.transform, self._preset = module.eval().requires_grad_(False), transform, transform
        side = int(transform.crop_size[0])
        if isinstance(module, VisionTransformer):
            self.n_blocks, self.reads = min(MAX_BLOCKS, len(module.encoder.layers)), "class token"
            self.grid: tuple[int, int] | None = (side // module.patch_size, side // module.patch_size)
        else:
            _cut(name, module)
            self.n_blocks, self.reads, self.grid = 1, "pooled features", None
        self._sha256 = weights_sha256(module)
        with torch.no_grad():
            self.dim = int(self.read(torch.zeros(1, 3, side, side)).cls.shape[2])

    def read(self, batch: Float[Tensor, "b 3 h w"]) -> Tokens:
        """See Network."""
        if self.grid is None:
            return Tokens(self.module(batch).flatten(1)[:, None], None)
        vit: Any = self.module
        x = vit._process_input(batch)
        x = torch.cat([vit.class_token.expand(len(x), -1, -1), x], dim=1) + vit.encoder.pos_embedding
        blocks = []
        for layer in vit.encoder.layers:
            x = layer(x)
            blocks.append(x)
        tokens = torch.stack([vit.encoder.ln(block) for block in blocks[-self.n_blocks :]], dim=1)
        return Tokens(tokens[:, :, 0], tokens[:, :, 1:])

    def describe(self) -> dict[str, Any]:
        """See Network."""
        preset = self._preset
        transform = {
            "size": list(preset.crop_size) * (2 // len(preset.crop_size)),
            "resize": list(preset.resize_size),
            "interpolation": preset.interpolation.value,
            "mean": list(preset.mean),
            "std": list(preset.std),
        }
        return {"weights_sha256": self._sha256, "transform": transform, "model": self._name}


def open_name(name: str, pretrained: bool, seed: int) -> TorchvisionNetwork:
    """A model of torchvision with its default published weights, or random ones.

    Raises:
        ConfigError: there is no such model, or its weights cannot be fetched.
    """
    if name not in models.list_models(module=models):
        problem = f"torchvision has no classifier {name!r}"
        raise ConfigError("backbone", problem, "see torchvision.models.list_models()")
    weights = models.get_model_weights(name)["DEFAULT"]
    try:
        module = _seeded(name, {"weights": weights if pretrained else None}, seed)
    except (OSError, RuntimeError) as error:
        problem = f"weights of torchvision:{name} cannot be fetched ({' '.join(str(error).split())[:200]})"
        raise ConfigError("backbone", problem, "check the connection, or give a folder with its state dict") from error
    return TorchvisionNetwork(name, module, weights.transforms())


def open_folder(folder: Path, pretrained: bool, seed: int) -> TorchvisionNetwork:
    """A state dict beside a config; see ``_LAYOUT``. A ``.pth`` is read with ``weights_only``: it runs no code.

    Raises:
        ConfigError: the config or the weights cannot be read, or do not fit each other.
    """
    try:
        config: dict[str, Any] = json.loads((folder / "config.json").read_text())
        name, arguments = str(config["torchvision"]), dict(config.get("model_args", {}))
        preset = ImageClassification(**{**IMAGENET, **config.get("transform", {})})
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise ConfigError("backbone", f"{folder}/config.json cannot be used ({error!r})", _LAYOUT) from error
    try:
        module = _seeded(name, {"weights": None, **arguments}, seed)
        if pretrained:
            module.load_state_dict(_state(folder), strict=True)
    except (OSError, RuntimeError, TypeError, ValueError, AssertionError) as error:
        problem = (
            f"{folder}: torchvision's {name} refuses its weights or model_args ({' '.join(str(error).split())[:300]})"
        )
        raise ConfigError("backbone", problem, _LAYOUT) from error
    if isinstance(module, VisionTransformer) and module.image_size != preset.crop_size[0]:
        problem = (
            f"{folder}: images are cropped to {preset.crop_size[0]} px, and the network reads {module.image_size} px"
        )
        raise ConfigError("backbone", problem, "make transform.crop_size and model_args.image_size the same")
    return TorchvisionNetwork(name, module, preset)


def _seeded(name: str, arguments: dict[str, Any], seed: int) -> nn.Module:
    with torch.random.fork_rng(devices=[]):
        torch.random.default_generator.manual_seed(seed)
        module: nn.Module = models.get_model(name, **arguments)
    return module


def _state(folder: Path) -> dict[str, Tensor]:
    from pickle import UnpicklingError

    from safetensors import SafetensorError
    from safetensors.torch import load_file

    safe, plain = (folder / name for name in WEIGHT_FILES)
    try:
        if safe.is_file():
            return load_file(safe)
        found: dict[str, Tensor] = torch.load(plain, map_location="cpu", weights_only=True)
    except (SafetensorError, UnpicklingError) as error:
        raise OSError(f"{safe if safe.is_file() else plain} is damaged: {error}") from error
    return found


def _cut(name: str, module: nn.Module) -> None:
    """Replace the last linear layer of the head by nothing."""
    head = next((attribute for attribute in HEADS if hasattr(module, attribute)), None)
    found: Any = getattr(module, head) if head else None
    if isinstance(found, nn.Linear):
        setattr(module, head, nn.Identity())  # type: ignore[arg-type]
        return
    linear = (
        [i for i, layer in enumerate(found) if isinstance(layer, nn.Linear)] if isinstance(found, nn.Sequential) else []
    )
    if not linear:
        problem = f"torchvision's {name} does not end in a linear layer"
        raise ConfigError("backbone", problem, "use one that does, e.g. resnet50, convnext_tiny or vit_b_16")
    found[linear[-1]] = nn.Identity()
