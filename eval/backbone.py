"""A frozen backbone: the network under test, with its own transform, giving the tokens that the probes read."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from jaxtyping import Float
from PIL import Image
from torch import Tensor, nn

from strata.curation.artifact import read_manifest
from strata.curation.device import resolve_device
from strata.curation.encoders.backbone import BackboneEncoder
from strata.curation.encoders.timm_encoder import TimmEncoder
from strata.curation.errors import ConfigError
from strata.eval.backbones.base import Network, Tokens
from strata.eval.backbones.source import Source, source_of


class FrozenBackbone:
    """A network in eval mode, without gradients, in float32.

    The curation side opens it: the network sees the same pixels there and here.

    Attributes:
        key: what identifies the weights: the content key of the backbone folder, or a digest of the parameters.
        name: the folder or name it came from.
        n_blocks: blocks that ``features`` returns (the last 4, or all if there are fewer; 1 for pooled features).
        dim: width of a token.
        grid: rows and columns of the patch tokens, or None for a network without.
        transform: decoded image -> tensor [3, h, w], or tile -> [bands, h, w]: resize, center crop, normalization. Picklable.
        items: "images", or "tiles" for a network that was trained on those.
    """

    def __init__(self, network: Network, name: str, key: str = "") -> None:
        self.network, self.name = network, name
        self._described = network.describe()
        self.key = key or f"sha256:{self._described['weights_sha256']}"
        self.transform: Callable[[Image.Image], Tensor] = network.transform
        self.n_blocks, self.dim, self.grid = network.n_blocks, network.dim, network.grid
        self.items = network.items

    @property
    def model(self) -> nn.Module:
        """The network itself."""
        return self.network.module

    @property
    def device(self) -> torch.device:
        """Where the weights are."""
        return next(self.model.parameters()).device

    def to(self, device: str | torch.device) -> "FrozenBackbone":
        """Move the weights."""
        self.model.to(device)
        return self

    @torch.inference_mode()
    def read(self, batch: Float[Tensor, "b 3 h w"]) -> Tokens:
        """Class and patch tokens of the last L blocks (the last one at the end), each after the final norm."""
        return self.network.read(batch.to(self.device, non_blocking=True))

    def features(self, batch: Float[Tensor, "b 3 h w"]) -> tuple[Float[Tensor, "b L d"], Float[Tensor, "b L d"]]:
        """Class token and mean patch token of the last L blocks; register tokens belong to neither.

        Where there are no tokens both are the pooled features.
        """
        return pooled_pair(self.read(batch))

    def describe(self) -> dict[str, Any]:
        """What the manifest of the features says about the network and its input. JSON-able."""
        known = {name: self._described[name] for name in ("weights_sha256", "transform")}
        shape = {"n_blocks": self.n_blocks, "dim": self.dim, "grid": self.grid, "reads": self.network.reads}
        return {"name": self.name, "key": self.key, **shape, **known}


def pooled_pair(tokens: Tokens) -> tuple[Float[Tensor, "b L d"], Float[Tensor, "b L d"]]:
    """Class tokens, and mean patch tokens (the class tokens again where there are no patches)."""
    return tokens.cls, tokens.cls if tokens.patches is None else tokens.patches.mean(dim=2)


def load_backbone(
    path_or_name: str | Path,
    device: str = "auto",
    *,
    pretrained: bool = True,
    seed: int = 0,
    image_size: int | None = None,
) -> FrozenBackbone:
    """Open a backbone for evaluation.

    Args:
        path_or_name: a folder: of strata or timm (``model.safetensors``, ``config.json`` in the layout of timm on the
            hub), of transformers (``save_pretrained``), of torchvision (see ``backbones/torchvision_network.py``); or a
            name: ``timm:NAME``, ``hf:OWNER/NAME`` (``@REVISION``), ``torchvision:NAME``; a bare timm name or hub id. With
            ``untrained:`` before it, of timm or torchvision: the same network with random weights, as a control.
        device: "auto" takes a GPU if there is one.
        pretrained: False is the same as ``untrained:``.
        seed: of the random weights.
        image_size: side in pixels that images are brought to; default: the one of the weights. Networks of timm only.

    Raises:
        ConfigError: no such network, its folder is incomplete or damaged, or the image size does not fit its patches.
    """
    source = source_of(path_or_name)
    pretrained = pretrained and not source.untrained
    key = ""
    if pretrained and source.folder is not None and (source.folder / "manifest.json").is_file():
        key = read_manifest(source.folder, "backbone")["key"]
    try:
        network = _open(source, pretrained, seed, image_size)
    except ConfigError as error:
        field = "image_size" if error.field == "image_size" else "backbone"
        raise ConfigError(field, error.problem, error.fix) from error
    return FrozenBackbone(network, str(path_or_name), key).to(resolve_device(device))


def _open(source: Source, pretrained: bool, seed: int, image_size: int | None) -> Network:
    if image_size is not None and source.library != "timm":
        raise ConfigError("image_size", f"{image_size}, and only networks of timm take one", "leave it out")
    if source.library == "torchvision":
        from strata.eval.backbones.torchvision_network import open_folder, open_name

        return (
            open_folder(source.folder, pretrained, seed) if source.folder else open_name(source.name, pretrained, seed)
        )
    if source.library == "transformers":
        return _open_transformers(source, pretrained)
    return _open_timm(source, pretrained, seed, image_size)


def _open_transformers(source: Source, pretrained: bool) -> Network:
    from strata.curation.encoders.transformers_encoder import TransformersEncoder
    from strata.eval.backbones.transformers_network import TransformersNetwork

    if not pretrained:
        raise ConfigError("backbone", "a model of transformers cannot be left untrained", "use untrained:timm:NAME")
    model, _, revision = (str(source.folder), "", "") if source.folder else source.name.partition("@")
    encoder = TransformersEncoder(model, revision=revision or None, pooling="mean")
    size = encoder.describe()["transform"]["size"]
    return TransformersNetwork(encoder, (size[0], size[1]))


def _open_timm(source: Source, pretrained: bool, seed: int, image_size: int | None) -> Network:
    from strata.eval.backbones.timm_network import TimmNetwork

    encoder: BackboneEncoder | TimmEncoder
    name = str(source.folder) if source.folder else source.name
    try:
        ours = source.folder is not None and (source.folder / "manifest.json").is_file()
        if source.folder is not None and ours and pretrained and image_size is None:
            encoder = BackboneEncoder(source.folder, pooling="model")
        else:
            _check_reads_images(source)
            encoder = TimmEncoder(name, pretrained=pretrained, pooling="model", seed=seed, image_size=image_size)
    except AssertionError as error:  # timm's own word on an input that its patches do not divide
        field = "backbone" if image_size is None else "image_size"
        raise ConfigError(
            field, f"{name}: {' '.join(str(error).split())}", "use a multiple of the patch size"
        ) from error
    described = encoder.describe()
    height, width = described["transform"]["size"]
    _check_patches(encoder.module, name, (height, width), image_size)
    return TimmNetwork(encoder.module, encoder.transform, described, (height, width))


def _check_reads_images(source: Source) -> None:
    """Raise a ConfigError for a folder of ours that reads tiles: it is opened as it was trained, or not at all."""
    file = None if source.folder is None else source.folder / "config.json"
    if file is not None and file.is_file() and "bands" in json.loads(file.read_text()):
        problem = f"{source.folder} reads tiles, which is known only of the network as it was trained"
        raise ConfigError("backbone", problem, "leave out image_size and untrained:")


def _check_patches(module: nn.Module, name: str, size: tuple[int, int], image_size: int | None) -> None:
    patch = getattr(getattr(module, "patch_embed", None), "patch_size", None)
    if isinstance(patch, tuple) and any(side % one for side, one in zip(size, patch, strict=True)):
        problem = f"{name} reads {size[0]} x {size[1]} px, which its patches of {patch[0]} x {patch[1]} do not divide"
        raise ConfigError(
            "backbone" if image_size is None else "image_size", problem, "use a multiple of the patch size"
        )


def probed_blocks(path_or_name: str | Path) -> tuple[int, bool]:
    """How many blocks of a backbone the probes read, and whether it has patch tokens.

    A name of timm is made without weights, so nothing is downloaded.

    Raises:
        ConfigError: as ``load_backbone``, except that weights cannot be had.
    """
    source = source_of(path_or_name)
    if source.library == "timm" and source.folder is None and "hf-hub:" not in source.name:
        from strata.eval.backbones.timm_network import probed_by_name

        return probed_by_name(source.name)
    backbone = load_backbone(path_or_name, "cpu")
    return backbone.n_blocks, backbone.grid is not None
