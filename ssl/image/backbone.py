"""The backbone: a timm VisionTransformer, and a wrapper that gives it a mask token."""

from collections.abc import Sequence
from typing import Any

import timm
import torch
from jaxtyping import Bool, Float, Int64
from timm.models import is_model_in_modules
from timm.models.vision_transformer import Block, VisionTransformer
from torch import Tensor, nn
from torch.nn.init import trunc_normal_
from torch.utils.checkpoint import checkpoint

from strata.curation.errors import ConfigError
from strata.ssl.image.config import ImageSSLConfig
from strata.ssl.image.stochastic_depth import SparseBlock, drop_rates, make_plan

_OWN_SETTINGS = {  # timm keywords that this trainer sets itself
    "drop_path_rate": "set ssl.drop_path instead",
    "in_chans": "set ssl.in_chans instead",
    "img_size": "leave it out: it is ssl.global_size",
    "patch_drop_rate": "leave it out: masks take its place",
}


def model_args(config: ImageSSLConfig) -> dict[str, Any]:
    """timm keywords: `timm.create_model(config.backbone, **model_args(config), num_classes=0)` makes the backbone."""
    bands = {} if config.in_chans == 3 else {"in_chans": config.in_chans}
    return {"img_size": config.global_size, "dynamic_img_size": True, **bands, **config.model_kwargs}


def create_backbone(config: ImageSSLConfig) -> VisionTransformer:
    """Make the ViT with fresh weights, drawn from torch's global generator.

    Raises:
        ConfigError: timm does not know the name or a keyword, the model is not a ViT with a CLS token, its patch
            size does not divide a crop, or the masks would hide a whole crop.
    """
    if not is_model_in_modules(config.backbone, {"vision_transformer"}):
        raise ConfigError(
            "ssl.backbone",
            f"timm has no VisionTransformer named {config.backbone!r}",
            "pick one of timm.list_models(module='vision_transformer')",
        )
    for name, fix in _OWN_SETTINGS.items():
        if name in config.model_kwargs:
            raise ConfigError(f"ssl.model_kwargs.{name}", "is not read", fix)
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
    if config.drop_path > 0 and any(type(block) is not Block for block in model.blocks):
        raise ConfigError("ssl.drop_path", f"the blocks of {config.backbone} are not timm's plain ones", "set it to 0")
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
    patches = model.patch_embed.num_patches
    if config.ibot_weight > 0 and max(1, int(patches * config.mask_ratio[1])) >= patches:
        raise ConfigError(
            "ssl.mask_ratio",
            f"{config.mask_ratio[1]:g} hides all of a crop's {patches} patches: nothing is left to predict from",
            "lower it, or use larger crops",
        )


class MaskedViT(nn.Module):
    """A ViT whose masked patches are replaced by a learned token before the position embedding is added.

    The one place that touches timm's inner parts (``patch_embed``, ``_pos_embed``, ``blocks``).

    Args:
        vit: plain blocks of it become ``SparseBlock``, in place: same parameters and, called as timm does, same result.
        drop_path: see ``stochastic_depth``; drawn by the caller, who alone knows when to drop.
        uniform: see ``drop_rates``.
        recompute: keep a block's input instead of its activations, and compute them again in the backward pass.
    """

    def __init__(
        self, vit: VisionTransformer, *, drop_path: float = 0.0, uniform: bool = True, recompute: bool = False
    ) -> None:
        super().__init__()
        self.vit = vit
        self.mask_token = nn.Parameter(torch.zeros(vit.embed_dim))
        self.rates: Sequence[float] = drop_rates(drop_path, len(vit.blocks), uniform)
        self.recompute = recompute
        self.sparse = all(type(block) in (Block, SparseBlock) for block in vit.blocks)
        if self.sparse:
            for block in vit.blocks:
                block.__class__ = SparseBlock

    @property
    def grid(self) -> tuple[int, int]:
        """Patches of a global crop, (rows, columns)."""
        rows, columns = self.vit.patch_embed.grid_size
        return int(rows), int(columns)

    def forward(
        self,
        images: Float[Tensor, "b c size size"],
        masks: Bool[Tensor, "b n"] | None = None,
        places: Int64[Tensor, " m"] | None = None,
        kept: Bool[Tensor, "depth 2 b"] | None = None,
    ) -> tuple[Float[Tensor, "b d"], Float[Tensor, "b n d"] | Float[Tensor, "m d"]]:
        """CLS token and patch tokens after the last norm; register tokens are dropped.

        Args:
            images: normalized crops.
            masks: True = hidden.
            places: positions in [b * n] of the patches that are wanted, on the CPU; all of them by default. The last MLP
                is not computed for the others.
            kept: residuals that are not dropped, from ``draw_kept``; all by default.
        """
        vit, batch, prefix = self.vit, len(images), self.vit.num_prefix_tokens
        x = vit.patch_embed(images)  # b h w d: dynamic_img_size keeps the grid
        if masks is not None:
            hidden = masks.view(x.shape[:3]).unsqueeze(-1)  # b h w 1
            x = torch.where(hidden, self.mask_token.to(x.dtype), x)
        x = vit.norm_pre(vit.patch_drop(vit._pos_embed(x)))  # b prefix+n d
        tokens = x.shape[1]
        if places is None:
            x = vit.norm(self._blocks(x, None, kept))
            return x[:, 0], x[:, prefix:]
        n = tokens - prefix
        read = torch.cat([torch.arange(batch) * tokens, places // n * tokens + prefix + places % n])
        x = vit.norm(self._blocks(x, read, kept))
        return x[:batch], x[batch:]

    def encode_seen(
        self, images: Float[Tensor, "b c size size"], seen: Int64[Tensor, "b v"]
    ) -> Float[Tensor, "b prefix+v d"]:
        """Prefix tokens and the patches at the places ``seen``, after the last norm; the network reads no others (MAE)."""
        vit, prefix = self.vit, self.vit.num_prefix_tokens
        x = vit._pos_embed(vit.patch_embed(images))  # b prefix+n d
        patches = x[:, prefix:].gather(1, seen.unsqueeze(-1).expand(-1, -1, x.shape[-1]))
        x = vit.norm_pre(torch.cat([x[:, :prefix], patches], dim=1))
        tokens: Tensor = vit.norm(self._blocks(x, None, None))
        return tokens

    def _blocks(
        self, x: Float[Tensor, "b n d"], read: Int64[Tensor, " r"] | None, kept: Tensor | None
    ) -> Float[Tensor, "b n d"] | Float[Tensor, "r d"]:
        plan = make_plan(self.rates, kept, read, x.shape[1], x.device)
        last = len(self.rates) - 1
        for i, block in enumerate(self.vit.blocks):
            sparse = (plan.attend[i], plan.feed[i], plan.scales[i], plan.read if i == last else None)
            arguments = (x, *sparse) if self.sparse else (x,)
            if self.recompute and torch.is_grad_enabled():
                x = checkpoint(block, *arguments, use_reentrant=False)
            else:
                x = block(*arguments)
        return x if self.sparse or plan.read is None else x.flatten(0, 1)[plan.read]
