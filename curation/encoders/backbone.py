"""A backbone that our own training wrote: ``config.json`` and ``model.safetensors`` in timm's hub layout.

One that was trained on tiles has the range of each band in ``config.json``, and reads tiles.
"""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any, Literal

import timm
import timm.data
import torch
from jaxtyping import Float
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor, nn

from strata.curation.encoders.network import NetworkEncoder, Precision
from strata.curation.encoders.timm_features import check_pooling, evaluation_transform, pooled_features
from strata.curation.errors import ConfigError
from strata.curation.pools.band_scale import BandScale, TileTransform
from strata.curation.pools.content import Kind


class BackboneEncoder(NetworkEncoder):
    """A strata backbone folder, its weights loaded strictly.

    Args:
        path: the folder. ``config.json`` holds ``architecture``, ``model_args`` and ``pretrained_cfg`` (``input_size``,
            ``mean``, ``std``, ...), and of a network that reads tiles ``bands`` (``low``, ``high``).
        pooling: "cls", "avg" (mean over patches), "cls_avg" (both) or "model" (the network's own pooling).
        normalize: scale embeddings to unit length.
        precision: see NetworkEncoder.

    Raises:
        ConfigError: the folder is incomplete, its weights do not fit its architecture, or it has no such pooling.
    """

    name = "backbone"

    def __init__(
        self,
        path: str | Path,
        pooling: Literal["cls", "avg", "cls_avg", "model"] = "cls",
        normalize: bool = False,
        precision: Precision = "float32",
    ) -> None:
        check_pooling(pooling)
        self.path = Path(path)
        config = _read_config(self.path)
        network = load_backbone(self.path)
        self.architecture: str = config["architecture"]
        self.reads: Kind = "tiles" if "bands" in config else "images"
        if self.reads == "tiles":
            shape = tuple(config["pretrained_cfg"]["input_size"])
            self._transform, self._transform_info = _tile_transform(self.path, config)
        else:
            data_config = timm.data.resolve_data_config(pretrained_cfg=config["pretrained_cfg"])
            shape = data_config["input_size"]
            _check_rgb(self.path, shape)
            self._transform, self._transform_info = evaluation_transform(data_config)
        super().__init__(network, shape, pooling, normalize, precision)

    @property
    def transform(self) -> Callable[[Any], Tensor]:
        """Image, or tile, -> normalized float32 [c, h, w]."""
        return self._transform  # type: ignore[no-any-return]

    def pooled(self, batch: Float[Tensor, "b c h w"]) -> Float[Tensor, "b d"]:
        """See NetworkEncoder."""
        return pooled_features(self.module, batch, self.pooling)

    def identity(self) -> dict[str, Any]:
        """See NetworkEncoder."""
        told = {"model": str(self.path), "architecture": self.architecture, "transform": self._transform_info}
        return told | ({"reads": "tiles"} if self.reads == "tiles" else {})


def _tile_transform(folder: Path, config: dict[str, Any]) -> tuple[TileTransform, dict[str, Any]]:
    """How a network of tiles reads them, and its description."""
    seen, bands = config["pretrained_cfg"], config["bands"]
    try:
        scale = BandScale(tuple(map(float, bands["low"])), tuple(map(float, bands["high"])))
        mean, std = (tuple(map(float, seen[name])) for name in ("mean", "std"))
        channels, size, _ = seen["input_size"]
    except (KeyError, TypeError, ValueError) as error:
        problem = f"{folder}/config.json says too little of its bands ({type(error).__name__}: {error})"
        raise ConfigError("encoder.path", problem, "give a finished backbone folder, as training wrote it") from error
    if not len(scale.low) == len(scale.high) == len(mean) == len(std) == channels:
        problem = f"{folder}/config.json describes other numbers of bands than the {channels} of its network"
        raise ConfigError("encoder.path", problem, "give a finished backbone folder, as training wrote it")
    return TileTransform(scale, size, mean, std), {
        "size": [size, size], "interpolation": "bicubic", "crop": {"mode": "center", "fraction": 1.0},
        "mean": list(mean), "std": list(std), "bands": {"low": list(scale.low), "high": list(scale.high)},
    }  # fmt: skip


def _check_rgb(folder: Path, shape: tuple[int, ...]) -> None:
    if shape[0] != 3:
        problem = f"{folder} reads {shape[0]} bands, and its config.json has no ranges of them"
        raise ConfigError("encoder.path", problem, "add bands: {low: [...], high: [...]}, or give a backbone of strata")


def load_backbone(path: str | Path) -> nn.Module:
    """The network of a backbone folder, without a classifier, on the CPU and in eval mode.

    Raises:
        ConfigError: as BackboneEncoder.
    """
    folder = Path(path)
    config = _read_config(folder)
    arguments = {**config.get("model_args", {}), "num_classes": 0}
    try:
        with torch.random.fork_rng(devices=[]):
            network: nn.Module = timm.create_model(config["architecture"], pretrained=False, **arguments)
    except (RuntimeError, TypeError, ValueError) as error:
        problem = f"timm cannot make {config['architecture']!r} with {arguments} ({' '.join(str(error).split())[:200]})"
        raise ConfigError("encoder.path", problem, "check architecture and model_args in its config.json") from error
    try:
        network.load_state_dict(load_file(folder / "model.safetensors"), strict=True)
    except (OSError, SafetensorError, RuntimeError) as error:
        problem = f"{folder}/model.safetensors cannot be loaded ({' '.join(str(error).split())[:300]})"
        raise ConfigError("encoder.path", problem, "give a finished backbone folder, as training wrote it") from error
    return network.eval()


def _read_config(folder: Path) -> dict[str, Any]:
    file = folder / "config.json"
    try:
        config: dict[str, Any] = json.loads(file.read_text())
    except (OSError, ValueError) as error:
        problem = f"{file} cannot be read ({error})"
        raise ConfigError("encoder.path", problem, "give a finished backbone folder, as training wrote it") from error
    lacking = [name for name in ("architecture", "pretrained_cfg") if name not in config]
    if lacking:
        raise ConfigError("encoder.path", f"{file} has no {' and no '.join(lacking)}", "give a backbone folder")
    return config
