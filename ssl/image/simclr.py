"""SimCLR: two views of an image must find each other among all views of the batch."""

import itertools

import torch
from jaxtyping import Float
from torch import Tensor, nn

from strata.ssl.image.augment import multi_crop
from strata.ssl.image.backbone import MaskedViT, create_backbone
from strata.ssl.image.config import ImageSSLConfig
from strata.ssl.image.data import step_generator
from strata.ssl.image.health import agreement, feature_health
from strata.ssl.image.learner import HeadedNetwork, Learner
from strata.ssl.image.share import Batch
from strata.ssl.losses.group import all_rows
from strata.ssl.losses.ntxent import NTXentLoss


class ProjectionNetwork(HeadedNetwork):
    """Backbone and projection head. The head is an MLP of ``head_layers`` without batch norm, so that the result does not
    depend on how a batch is dealt to processes."""

    def __init__(self, config: ImageSSLConfig) -> None:
        super().__init__()
        self.backbone = MaskedViT(create_backbone(config), recompute=config.recompute)
        self.backbone.mask_token.requires_grad_(False)  # nothing is hidden; DDP waits for what wants a gradient
        widths = (
            [self.backbone.vit.embed_dim] + [config.head_hidden] * (config.head_layers - 1) + [config.head_bottleneck]
        )
        layers: list[nn.Module] = []
        for before, after in itertools.pairwise(widths):
            layers += [nn.Linear(before, after), nn.GELU()]
        self.heads = nn.ModuleDict({"projection": nn.Sequential(*layers[:-1])})


class SimCLR(Learner):
    """NT-Xent between the two global crops. Settings read: ``head_*`` (projection) and ``student_temperature``.

    Source: Chen et al., arXiv:2002.05709.
    """

    def __init__(self, config: ImageSSLConfig, seed: int) -> None:
        super().__init__(config, seed)
        self.student = ProjectionNetwork(config)
        self.loss = NTXentLoss(config.student_temperature)
        self.compile_networks()

    def loss_weights(self) -> dict[str, float]:
        """One loss."""
        return {"nt_xent": 1.0}

    def batch_losses(self, batch: Batch) -> dict[str, Float[Tensor, ""]]:
        """See Learner."""
        share = self.share(batch)
        crops, _ = multi_crop(
            batch.images,
            self.config,
            step_generator(self.seed, batch.step),
            extents=batch.extents,
            rank=share.index,
            world_size=share.count,
        )
        features, _ = self.backbone(crops, None, _NO_PLACES)  # 2*b d
        projected = self.heads["projection"](features)
        first, second = projected.chunk(2)
        if self.wants_health:
            with torch.no_grad():
                cosines = (
                    nn.functional.normalize(first.float(), dim=-1) @ nn.functional.normalize(second.float(), dim=-1).T
                )
                found = agreement(cosines, torch.eye(len(cosines), device=cosines.device))
                measured = feature_health(all_rows(features.detach()[: share.images].float()))
                self.report |= self._mean(measured | {"agreement": found})
        return {"nt_xent": self.loss(first, second)}


_NO_PLACES = torch.empty(0, dtype=torch.int64)  # of patches: only the CLS token is wanted
