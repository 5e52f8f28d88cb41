"""A frozen backbone: the network under test, with its own transform, giving the tokens that the probes read."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import timm
import torch
from jaxtyping import Float
from PIL import Image
from torch import Tensor, nn

from strata.curation.artifact import read_manifest
from strata.curation.device import resolve_device
from strata.curation.encoders.backbone import BackboneEncoder
from strata.curation.encoders.timm_encoder import TimmEncoder
from strata.curation.errors import ConfigError

MAX_BLOCKS = 4  # DINOv2's linear protocol reads the last 1 or 4


class FrozenBackbone:
    """A timm vision transformer in eval mode, without gradients, in float32.

    The curation side opens it (``BackboneEncoder``, ``TimmEncoder``): the network sees the same pixels there and here.

    Attributes:
        key: what identifies the weights: the content key of the backbone folder, or a digest of the parameters.
        name: the folder or the ``timm:NAME`` it came from.
        n_blocks: transformer blocks that ``features`` returns (the last 4, or all if there are fewer).
        dim: width of a token.
        transform: decoded image -> tensor [3, h, w]: resize, center crop, normalization. Picklable.
    """

    def __init__(self, encoder: BackboneEncoder | TimmEncoder, name: str, key: str) -> None:
        self.model: nn.Module = encoder.module
        self.name, self._described = name, encoder.describe()
        self.key = key or f"sha256:{self._described['weights_sha256']}"
        self.transform: Callable[[Image.Image], Tensor] = encoder.transform
        self.n_blocks = min(MAX_BLOCKS, len(self.model.blocks))  # type: ignore[arg-type]
        self.dim = int(self.model.num_features)  # type: ignore[arg-type]

    @property
    def device(self) -> torch.device:
        """Where the weights are."""
        return next(self.model.parameters()).device

    def to(self, device: str | torch.device) -> "FrozenBackbone":
        """Move the weights."""
        self.model.to(device)
        return self

    @torch.inference_mode()
    def features(self, batch: Float[Tensor, "b 3 h w"]) -> tuple[Float[Tensor, "b L d"], Float[Tensor, "b L d"]]:
        """Class token and mean patch token of the last L blocks (the last one at the end), each after the final norm.

        Register tokens belong to neither. Source: ``get_intermediate_layers`` with norm, as used by
        facebookresearch/dinov2#dinov2/eval/utils.py.
        """
        blocks = self.model.forward_intermediates(  # type: ignore[operator]
            batch.to(self.device),
            indices=self.n_blocks,
            norm=True,
            return_prefix_tokens=True,
            output_fmt="NLC",
            intermediates_only=True,
        )  # per block: patch tokens [b, n, d] and prefix tokens [b, p, d]
        cls = torch.stack([prefix[:, 0] for _, prefix in blocks], dim=1)
        avg = torch.stack([patches.mean(dim=1) for patches, _ in blocks], dim=1)
        return cls, avg

    def describe(self) -> dict[str, Any]:
        """What the manifest of the features says about the network and its input. JSON-able."""
        known = {name: self._described[name] for name in ("weights_sha256", "transform")}
        return {"name": self.name, "key": self.key, "n_blocks": self.n_blocks, "dim": self.dim, **known}


def load_backbone(
    path_or_name: str | Path, device: str = "auto", *, pretrained: bool = True, seed: int = 0
) -> FrozenBackbone:
    """Open a backbone for evaluation.

    Args:
        path_or_name: a backbone folder (``model.safetensors`` and ``config.json`` in the layout of timm on the Hugging
            Face hub: architecture, model_args, pretrained_cfg with mean, std, input_size), or ``timm:NAME``.
        device: "auto" takes a GPU if there is one.
        pretrained: for ``timm:NAME``: published weights, or else random ones (the untrained control).
        seed: of the random weights.

    Raises:
        ConfigError: no such network, its folder is incomplete or damaged, or it is not a vision transformer with a
            class token and a norm after its last block.
    """
    name = str(path_or_name)
    key = ""
    try:
        encoder: BackboneEncoder | TimmEncoder
        if name.startswith("timm:"):
            encoder = TimmEncoder(name.removeprefix("timm:"), pretrained=pretrained, pooling="model", seed=seed)
        else:
            encoder = BackboneEncoder(name, pooling="model")
            if (Path(name) / "manifest.json").is_file():
                key = read_manifest(name, "backbone")["key"]
    except ConfigError as error:
        raise ConfigError("backbone", error.problem, error.fix) from error
    _check(encoder.module, name)
    return FrozenBackbone(encoder, name, key).to(resolve_device(device))


def probed_blocks(path_or_name: str | Path) -> int:
    """How many blocks of a backbone the probes read. ``timm:NAME`` is made without weights, so nothing is downloaded.

    Raises:
        ConfigError: as ``load_backbone``, except that weights cannot be had.
    """
    name = str(path_or_name)
    if not name.startswith("timm:") or Path(name.removeprefix("timm:")).exists() or "hf-hub:" in name:
        return load_backbone(name, "cpu").n_blocks
    try:
        with torch.device("meta"):
            model = timm.create_model(name.removeprefix("timm:"), pretrained=False, num_classes=0)
    except (RuntimeError, ValueError) as error:
        problem = f"timm has no such model ({' '.join(str(error).split())[:200]})"
        raise ConfigError("backbone", f"{name}: {problem}", "see timm.list_models(pretrained=True)") from error
    _check(model, name)
    return min(MAX_BLOCKS, len(model.blocks))  # type: ignore[arg-type]


def _check(model: nn.Module, name: str) -> None:
    if getattr(model, "cls_token", None) is None or not hasattr(model, "forward_intermediates"):
        raise ConfigError("backbone", f"{name} has no class token", "use a vision transformer with one")
    if isinstance(model.norm, nn.Identity):  # global_pool=avg moves it behind the pooling
        raise ConfigError("backbone", f"{name} has no norm after its last block", "use a model with global_pool=token")
