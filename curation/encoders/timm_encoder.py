"""Any network of timm: by name, from the Hugging Face hub, or from a local folder."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any, Literal

import timm
import timm.data
import torch
from jaxtyping import Float
from PIL import Image
from safetensors import SafetensorError, safe_open
from torch import Tensor, nn

from strata.curation.encoders.network import NetworkEncoder, Precision
from strata.curation.encoders.timm_features import check_pooling, evaluation_transform, pooled_features
from strata.curation.errors import ConfigError


class TimmEncoder(NetworkEncoder):
    """A timm network with the transform that its weights ask for.

    Args:
        model: a timm name ("vit_small_patch14_dinov2.lvd142m"), "hf-hub:owner/repo", or a local folder with
            ``config.json`` and ``model.safetensors`` (also "local-dir:FOLDER").
        pretrained: load weights. False gives a random network, seeded by ``seed``, and the manifest says so.
        pooling: "cls", "avg" (mean over patches), "cls_avg" (both) or "model" (the network's own pooling).
        normalize: scale embeddings to unit length.
        image_size: side in pixels that images are brought to; default: the one of the weights (518 for DINOv2).
        seed: of the random weights.
        precision: see NetworkEncoder.

    Raises:
        ConfigError: no such network, weights cannot be had or do not fit, or it has no such pooling.
    """

    name = "timm"

    def __init__(
        self,
        model: str = "vit_small_patch14_dinov2.lvd142m",
        pretrained: bool = True,
        pooling: Literal["cls", "avg", "cls_avg", "model"] = "cls",
        normalize: bool = False,
        image_size: int | None = None,
        seed: int = 0,
        precision: Precision = "float32",
    ) -> None:
        check_pooling(pooling)
        self.model, self.pretrained, self.seed = model, pretrained, seed
        network = _create(model, pretrained, image_size, seed)
        data_config = timm.data.resolve_model_data_config(network)
        if image_size is not None:
            data_config["input_size"] = (data_config["input_size"][0], image_size, image_size)
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
        weights = "pretrained" if self.pretrained else f"random, seed {self.seed}"
        return {"model": self.model, "weights": weights, "transform": self._transform_info}


def _create(model: str, pretrained: bool, image_size: int | None, seed: int) -> nn.Module:
    folder = _local_folder(model)
    if folder is not None:
        _check_folder(folder, pretrained)
    source = model if folder is None else f"local-dir:{folder}"
    size: dict[str, Any] = {} if image_size is None else {"img_size": image_size}
    with torch.random.fork_rng(devices=[]):
        try:
            network = _seeded(source, pretrained, seed, size)
        except OSError as error:  # huggingface_hub and urllib raise its children when there is no connection
            fix = "check the name and the connection, or give a local folder with config.json and model.safetensors"
            raise ConfigError("encoder.model", f"{model!r} cannot be downloaded ({_line(error)})", fix) from error
        except (RuntimeError, ValueError, KeyError, SafetensorError) as error:
            fix = "see timm.list_models(pretrained=True), or give a local folder"
            raise ConfigError("encoder.model", f"timm cannot open {model!r} ({_line(error)})", fix) from error
    if folder is not None and pretrained:
        _check_keys(folder, network)
    return network


def _seeded(source: str, pretrained: bool, seed: int, size: dict[str, Any]) -> nn.Module:
    torch.random.default_generator.manual_seed(seed)  # of the CPU only: GPUs keep their state
    try:
        network: nn.Module = timm.create_model(source, pretrained=pretrained, num_classes=0, **size)
    except TypeError as error:
        if "img_size" not in size or "img_size" not in str(error):
            raise
        return _seeded(source, pretrained, seed, {})  # convolutional networks take any size and no such argument
    return network


def _local_folder(model: str) -> Path | None:
    folder = Path(model.removeprefix("local-dir:")).expanduser()
    said = model.startswith(("local-dir:", "/", "./", "../", "~"))
    return folder if said or (folder / "config.json").is_file() else None


def _check_folder(folder: Path, pretrained: bool) -> None:
    for file in ("config.json", "model.safetensors")[: 2 if pretrained else 1]:
        if not (folder / file).is_file():
            fix = "give a folder in timm's layout (timm.models.save_for_hf(..., safe_serialization=True))"
            raise ConfigError("encoder.model", f"{folder} has no {file}", fix)
    try:
        json.loads((folder / "config.json").read_text())["architecture"]
    except (ValueError, KeyError, TypeError) as error:
        fix = "it must be timm's, with an 'architecture'; for a transformers folder use encoder=transformers"
        raise ConfigError("encoder.model", f"{folder}/config.json is no timm config", fix) from error


def _check_keys(folder: Path, network: nn.Module) -> None:
    """Refuse weights that lack part of the network: timm only logs that it left those at random."""
    with safe_open(folder / "model.safetensors", framework="pt") as file:
        lacking = sorted(set(network.state_dict()) - set(file.keys()))
    if lacking:
        problem = f"{folder}/model.safetensors lacks {len(lacking)} tensors of the network, first {lacking[0]!r}"
        raise ConfigError("encoder.model", problem, "give the weights of this architecture, in timm's own names")


def _line(error: BaseException) -> str:
    return f"{type(error).__name__}: {' '.join(str(error).split())[:200]}"
