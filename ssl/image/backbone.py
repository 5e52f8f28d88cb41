"""The backbone: a timm VisionTransformer, and a wrapper that gives it a mask token."""

from typing import Any

import timm
import torch
from jaxtyping import Bool, Float
from timm.models import is_model_in_modules
from timm.models.vision_transformer import VisionTransformer
from torch import Tensor, nn
from torch.nn.init import trunc_normal_

from strata.curation.errors import ConfigError
from strata.ssl.image.config import ImageSSLConfig


def model_args(config: ImageSSLConfig) -> dict[str, Any]:
    """timm keywords: `timm.create_model(config.backbone, **model_args(config), num_classes=0)` makes the backbone."""
    return {"img_size": config.global_size, "dynamic_img_size": True, **config.model_kwargs}


def create_backbone(config: ImageSSLConfig) -> VisionTransformer:
    """Make the ViT with fresh weights, drawn from torch's global generator.

    Raises:
        ConfigError: timm does not know the name or a keyword, the model is not a ViT with a CLS token that reads
            RGB, or its patch size does not divide a crop.
    """
    if not is_model_in_modules(config.backbone, {"vision_transformer"}):
        raise ConfigError(
            "ssl.backbone",
            f"timm has no VisionTransformer named {config.backbone!r}",
            "pick one of timm.list_models(module='vision_transformer')",
        )
    try:
        model = timm.create_model(config.backbone, pretrained=False, num_classes=0, **model_args(config))
    except (TypeError, AssertionError, ValueError, RuntimeError, ArithmeticError) as error:
        raise ConfigError(
            "ssl.model_kwargs",
            f"{config.backbone} refuses them ({' '.join(str(error).split())})",
            "see timm's VisionTransformer for the keywords",
        ) from error
    if not isinstance(model, VisionTransformer) or model.cls_token is None or model.global_pool != "token":
        raise ConfigError(
            "ssl.backbone",
            f"{config.backbone!r} is not a timm VisionTransformer read through its CLS token",
            "pick e.g. vit_small_patch16_224, without global_pool or class_token in ssl.model_kwargs",
        )
    if model.patch_embed.proj.weight.shape[1] != 3:
        raise ConfigError("ssl.model_kwargs", "in_chans is not 3", "leave it out: this trainer reads RGB")
    _check_patches(config, model)
    if model.pos_embed is not None:
        trunc_normal_(model.pos_embed, std=config.pos_embed_std)
    return model


def _check_patches(config: ImageSSLConfig, model: VisionTransformer) -> None:
    patch = model.patch_embed.patch_size
    for name in ("global_size", "local_size") if config.n_local else ("global_size",):
        size = getattr(config, name)
        if size % patch[0] or size % patch[1]:
            raise ConfigError(
                f"ssl.{name}",
                f"{size} px is not a multiple of the patch size {patch[0]}",
                "change the crop or the patch",
            )
    if model.patch_embed.img_size != (config.global_size, config.global_size):
        raise ConfigError(
            "ssl.model_kwargs", f"img_size differs from global_size={config.global_size}", "leave img_size out"
        )


class MaskedViT(nn.Module):
    """A ViT whose masked patches are replaced by a learned token before the position embedding is added.

    The one place that touches timm's inner parts (``patch_embed``, ``_pos_embed``, ``blocks``).
    """

    def __init__(self, vit: VisionTransformer) -> None:
        super().__init__()
        self.vit = vit
        self.mask_token = nn.Parameter(torch.zeros(vit.embed_dim))

    @property
    def grid(self) -> tuple[int, int]:
        """Patches of a global crop, (rows, columns)."""
        rows, columns = self.vit.patch_embed.grid_size
        return int(rows), int(columns)

    def forward(
        self, images: Float[Tensor, "b 3 size size"], masks: Bool[Tensor, "b n"] | None = None
    ) -> tuple[Float[Tensor, "b d"], Float[Tensor, "b n d"]]:
        """CLS token and patch tokens after the last norm; register tokens are dropped."""
        vit = self.vit
        x = vit.patch_embed(images)  # b h w d: dynamic_img_size keeps the grid
        if masks is not None:
            hidden = masks.view(x.shape[:3]).unsqueeze(-1)  # b h w 1
            x = torch.where(hidden, self.mask_token.to(x.dtype), x)
        x = vit.norm_pre(vit.patch_drop(vit._pos_embed(x)))
        x = vit.norm(vit.blocks(x))
        return x[:, 0], x[:, vit.num_prefix_tokens :]
