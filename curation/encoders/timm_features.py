"""What the two encoders that run timm networks share: the transform that the weights ask for, and pooled features."""

from typing import Any

import timm.data
from jaxtyping import Float
from torch import Tensor, nn

from strata.curation.encoders.network import pool_tokens
from strata.curation.errors import ConfigError

POOLINGS = ("cls", "avg", "cls_avg", "model")


def check_pooling(pooling: str, allowed: tuple[str, ...] = POOLINGS) -> None:
    """Raise a ConfigError on an unknown pooling."""
    if pooling not in allowed:
        raise ConfigError("encoder.pooling", f"{pooling!r} is unknown", f"use {', '.join(allowed)}")


def pooled_features(module: nn.Module, batch: Float[Tensor, "b c h w"], pooling: str) -> Float[Tensor, "b d"]:
    """Features of a timm network: tokens of a transformer, or the map of a convolutional network, pooled.

    ``pooling="model"`` is the network's own (class token, average or attention, as its authors evaluated it).

    Raises:
        ConfigError: the network has no class token but one is asked for.
    """
    if pooling == "model":
        pooled: Tensor = module(batch)
        return pooled
    features: Tensor = module.forward_features(batch)  # type: ignore[operator]
    if features.ndim == 3:
        n_prefix = int(getattr(module, "num_prefix_tokens", 0))
        return pool_tokens(features, n_prefix, getattr(module, "cls_token", None) is not None, pooling)  # type: ignore[arg-type]
    if pooling != "avg":
        raise ConfigError("encoder.pooling", f"{pooling!r} but this network has no class token", "use avg or model")
    channels_last = features.shape[-1] == module.num_features and features.shape[1] != module.num_features
    return features.mean(dim=(1, 2) if channels_last else (2, 3))


def evaluation_transform(data_config: dict[str, Any]) -> tuple[Any, dict[str, Any]]:
    """The transform that a timm data config asks for, and its description with all that was resolved.

    Args:
        data_config: from ``timm.data.resolve_model_data_config``.
    """
    data_config = {**data_config, "input_size": tuple(data_config["input_size"])}  # JSON made a list of it
    transform = timm.data.create_transform(**data_config, is_training=False)
    described = {
        "size": list(data_config["input_size"][1:]),
        "interpolation": data_config["interpolation"],
        "crop": {"mode": data_config["crop_mode"], "fraction": data_config["crop_pct"]},
        "mean": list(data_config["mean"]),
        "std": list(data_config["std"]),
        "steps": [" ".join(str(step).split()) for step in transform.transforms],
    }
    return transform, described
