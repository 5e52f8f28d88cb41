"""A backbone that our own training wrote: ``config.json`` and ``model.safetensors`` in timm's hub layout."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any, Literal

import timm
import timm.data
import torch
from jaxtyping import Float
from PIL import Image
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor, nn

from strata.curation.encoders.network import NetworkEncoder, Precision
from strata.curation.encoders.timm_features import check_pooling, evaluation_transform, pooled_features
from strata.curation.errors import ConfigError


class BackboneEncoder(NetworkEncoder):
    """A strata backbone folder, its weights loaded strictly.

    Args:
        path: the folder. ``config.json`` holds ``architecture``, ``model_args`` and ``pretrained_cfg`` (``input_size``,
            ``mean``, ``std``, ...).
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
        data_config = timm.data.resolve_data_config(pretrained_cfg=config["pretrained_cfg"])
        self.architecture: str = config["architecture"]
        self._transform, self._transform_info = evaluation_transform(data_config)
        super().__init__(network, data_config["input_size"], pooling, normalize, precision)

    @property
    def transform(self) -> Callable[[Image.Image], Tensor]:
        """Image -> normalized float32 [c, h, w]."""
        return self._transform  # type: ignore[no-any-return]

    def pooled(self, batch: Float[Tensor, "b c h w"]) -> Float[Tensor, "b d"]:
        """See NetworkEncoder."""
        return pooled_features(self.module, batch, self.pooling)

    def identity(self) -> dict[str, Any]:
        """See NetworkEncoder."""
        return {"model": str(self.path), "architecture": self.architecture, "transform": self._transform_info}


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
