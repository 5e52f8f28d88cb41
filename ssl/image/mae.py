"""MAE: the encoder sees a quarter of the patches; a small decoder predicts the pixels of the others."""

import numpy as np
import torch
from jaxtyping import Float, Int64
from timm.models.vision_transformer import Block, VisionTransformer
from torch import Tensor, nn

from strata.curation.errors import ConfigError
from strata.ssl.image.augment import multi_crop
from strata.ssl.image.backbone import MaskedViT, create_backbone
from strata.ssl.image.config import ImageSSLConfig
from strata.ssl.image.data import mask_rng, step_generator
from strata.ssl.image.health import effective_rank
from strata.ssl.image.learner import HeadedNetwork, Learner
from strata.ssl.image.share import Batch, Share
from strata.ssl.losses.group import all_rows
from strata.ssl.losses.mae import MAELoss


class Decoder(nn.Module):
    """A narrow transformer over all places: encoded patches where they were seen, a learned token elsewhere."""

    def __init__(self, vit: VisionTransformer, config: ImageSSLConfig) -> None:
        super().__init__()
        settings, patch = config.mae, vit.patch_embed.patch_size
        self.embed = nn.Linear(vit.embed_dim, settings.decoder_dim)
        self.mask_token = nn.Parameter(torch.zeros(settings.decoder_dim))
        self.pos_embed = nn.Parameter(
            torch.empty(vit.num_prefix_tokens + vit.patch_embed.num_patches, settings.decoder_dim)
        )
        nn.init.trunc_normal_(self.pos_embed, std=config.pos_embed_std)
        self.blocks = nn.Sequential(
            *[
                Block(settings.decoder_dim, settings.decoder_heads, mlp_ratio=4.0, qkv_bias=True)
                for _ in range(settings.decoder_depth)
            ]
        )
        self.norm = nn.LayerNorm(settings.decoder_dim)
        self.predict = nn.Linear(settings.decoder_dim, patch[0] * patch[1] * config.in_chans)

    def forward(
        self, encoded: Float[Tensor, "b p+v d"], seen: Int64[Tensor, "b v"], hidden: Int64[Tensor, "b h"]
    ) -> Float[Tensor, "b h pixels"]:
        """Pixels of the hidden patches, in the order of ``hidden``."""
        prefix = encoded.shape[1] - seen.shape[1]
        x = self.embed(encoded)
        b, _, d = x.shape
        n = seen.shape[1] + hidden.shape[1]
        places = self.mask_token.to(x.dtype).expand(b, n, d)
        places = places.scatter(1, seen.unsqueeze(-1).expand(-1, -1, d), x[:, prefix:])
        x = self.norm(self.blocks(torch.cat([x[:, :prefix], places], dim=1) + self.pos_embed))
        pixels: Tensor = self.predict(x[:, prefix:].gather(1, hidden.unsqueeze(-1).expand(-1, -1, d)))
        return pixels


class MaskedAutoencoder(HeadedNetwork):
    """Backbone and decoder."""

    def __init__(self, config: ImageSSLConfig) -> None:
        super().__init__()
        self.backbone = MaskedViT(create_backbone(config), recompute=config.recompute)
        self.backbone.mask_token.requires_grad_(False)  # hidden patches are left out, not replaced
        self.heads = nn.ModuleDict({"decoder": Decoder(self.backbone.vit, config)})


class MAE(Learner):
    """Pixels of hidden patches, of both global crops of each image.

    MAE's targets cannot all become the same, and its features share a large offset when all is well: the collapse alarm
    watches none of them.

    Source: He et al., arXiv:2111.06377, Sec. 3.
    """

    watched = ()

    def __init__(self, config: ImageSSLConfig, seed: int) -> None:
        super().__init__(config, seed)
        self.student = MaskedAutoencoder(config)
        self.n_seen = patches_seen(self.backbone.vit.patch_embed.num_patches, config.mae.mask_ratio)
        self.loss = MAELoss(config.mae.normalize_pixels)
        self.compile_networks()

    def loss_weights(self) -> dict[str, float]:
        """One loss."""
        return {"mae": 1.0}

    def batch_losses(self, batch: Batch) -> dict[str, Float[Tensor, ""]]:
        """See Learner."""
        share, vit = self.share(batch), self.backbone.vit
        crops, _ = multi_crop(
            batch.images,
            self.config,
            step_generator(self.seed, batch.step),
            extents=batch.extents,
            rank=share.index,
            world_size=share.count,
        )
        order = self._orders(share, batch.step).to(crops.device)  # 2*b n
        seen, hidden = order[:, : self.n_seen], order[:, self.n_seen :]
        encoded = self.backbone.encode_seen(crops, seen)
        predicted = self.heads["decoder"](encoded, seen, hidden)  # 2*b h pixels
        pixels = patches_of(crops, vit.patch_embed.patch_size)
        pixels = pixels.gather(1, hidden.unsqueeze(-1).expand(-1, -1, pixels.shape[-1]))
        if self.wants_health:
            features = encoded.detach()[: share.images, vit.num_prefix_tokens :].float().mean(dim=1)
            self.report |= self._mean({"effective_rank": effective_rank(all_rows(features))})
        return {"mae": self.loss(predicted.flatten(0, 1), pixels.flatten(0, 1))}

    def _orders(self, share: Share, step: int) -> Int64[Tensor, "2*b n"]:
        """A random order of the patches of each crop, view-major; drawn for the whole step, whoever trains on it."""
        n = self.backbone.vit.patch_embed.num_patches
        keys = mask_rng(self.seed, step).random((2, share.total, n))[:, share.first : share.last]
        return torch.from_numpy(np.argsort(keys, axis=-1).reshape(-1, n))


def patches_seen(patches: int, mask_ratio: float) -> int:
    """How many patches of a crop the encoder reads.

    Raises:
        ConfigError: (``ssl.mae.mask_ratio``) none of them, or all.
    """
    seen = round(patches * (1 - mask_ratio))
    if not 0 < seen < patches:
        raise ConfigError(
            "ssl.mae.mask_ratio",
            f"{mask_ratio:g} {'shows' if seen else 'hides'} all of a crop's {patches} patches",
            "change it, or use larger crops",
        )
    return seen


def patches_of(images: Float[Tensor, "b c h w"], size: tuple[int, int]) -> Float[Tensor, "b n pixels"]:
    """The pixels of each patch, rows before columns before channels, patches in timm's order."""
    b, c, h, w = images.shape
    grid = images.view(b, c, h // size[0], size[0], w // size[1], size[1])
    return grid.permute(0, 2, 4, 3, 5, 1).reshape(b, -1, size[0] * size[1] * c)
