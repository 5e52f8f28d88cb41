"""DINOv2: student, teacher and the losses of one step."""

from typing import Any

import torch
from jaxtyping import Bool, Float
from timm.models.vision_transformer import VisionTransformer
from torch import Tensor, nn

from strata.ssl.image.augment import multi_crop
from strata.ssl.image.backbone import MaskedViT, create_backbone
from strata.ssl.image.config import ImageSSLConfig
from strata.ssl.image.data import drop_generator, step_generator
from strata.ssl.image.heads import PrototypeHead
from strata.ssl.image.health import feature_health, prototype_health
from strata.ssl.image.learner import HeadedNetwork, Learner
from strata.ssl.image.masking import Masks, step_masks
from strata.ssl.image.schedules import StepValues, step_values
from strata.ssl.image.share import Batch, Share
from strata.ssl.image.stochastic_depth import draw_kept
from strata.ssl.losses.centering import NoCentering, SoftmaxCentering
from strata.ssl.losses.dino import DINOLoss
from strata.ssl.losses.group import all_rows
from strata.ssl.losses.ibot import IBOTLoss
from strata.ssl.losses.koleo import KoLeoLoss
from strata.ssl.losses.sinkhorn import SinkhornCentering

N_GLOBAL = 2  # global crops of an image

Kept = Bool[Tensor, "depth 2 crops"] | None  # residuals that stochastic depth keeps; None = all


class Network(HeadedNetwork):
    """Backbone and heads; student and teacher are one each."""

    def __init__(self, config: ImageSSLConfig) -> None:
        super().__init__()
        self.backbone = MaskedViT(
            create_backbone(config),
            drop_path=config.drop_path,
            uniform=config.drop_path_uniform,
            recompute=config.recompute,
        )
        dim, hidden, layers, gain = (
            self.backbone.vit.embed_dim, config.head_hidden, config.head_layers, config.learned_gain
        )  # fmt: skip
        heads = {"dino": PrototypeHead(dim, hidden, config.head_bottleneck, config.n_prototypes, layers, gain)}
        if config.ibot_weight == 0:
            self.backbone.mask_token.requires_grad_(False)  # DDP waits for the gradient of whatever wants one
        elif config.ibot_separate_head:
            heads["ibot"] = PrototypeHead(dim, hidden, config.ibot_bottleneck, config.ibot_n_prototypes, layers, gain)
        self.heads = nn.ModuleDict(heads)

    @property
    def ibot_head(self) -> nn.Module:
        """The head that reads patches."""
        return self.heads["ibot" if "ibot" in self.heads else "dino"]


class DINOv2(Learner):
    """DINO + iBOT + KoLeo with an averaged teacher.

    All randomness of a step (crops, masks, stochastic depth) is drawn from generators that depend on (seed, step) only,
    for all images of the step; each process and each part uses what belongs to its images (see ``share``).

    Source: Oquab et al., arXiv:2304.07193, Sec. 4; `dinov2#train/ssl_meta_arch.py`.
    """

    student: Network

    def __init__(self, config: ImageSSLConfig, seed: int) -> None:
        super().__init__(config, seed)
        self.student = Network(config)
        self.teacher = Network(config)
        self.teacher.load_state_dict(self.student.state_dict())
        self.teacher.requires_grad_(False).eval()
        self.dino_centering = self._centering(config.n_prototypes)
        separate = "ibot" in self.student.heads
        self.ibot_centering = self._centering(config.ibot_n_prototypes if separate else config.n_prototypes)
        self.dino_loss, self.ibot_loss = DINOLoss(config.student_temperature), IBOTLoss(config.student_temperature)
        self.koleo_loss = KoLeoLoss(config.koleo_group)
        self.compile_networks()

    def networks(self) -> list[Network]:
        """Both."""
        return [self.student, self.teacher]

    def exports(self) -> dict[str, VisionTransformer]:
        """The teacher, which is better, and the student."""
        return {"model": self.teacher.backbone.vit, "student": self.student.backbone.vit}

    def loss_weights(self) -> dict[str, float]:
        """As the settings say."""
        return {name: getattr(self.config, f"{name}_weight") for name in ("dino", "ibot", "koleo")}

    def _centering(self, n_prototypes: int) -> nn.Module:
        if self.config.centering == "sinkhorn":
            return SinkhornCentering(self.config.sinkhorn_iterations)
        if self.config.centering == "none":
            return NoCentering()
        return SoftmaxCentering(n_prototypes, self.config.center_momentum)

    def train(self, mode: bool = True) -> "DINOv2":
        """The teacher stays in eval mode: no drop path."""
        super().train(mode)
        self.teacher.eval()
        return self

    def batch_losses(self, batch: Batch) -> dict[str, Float[Tensor, ""]]:
        """See Learner."""
        config, step, share = self.config, batch.step, self.share(batch)
        crops = multi_crop(
            batch.images,
            config,
            step_generator(self.seed, step),
            extents=batch.extents,
            rank=share.index,
            world_size=share.count,
        )
        kept = self._kept(N_GLOBAL, share, step), self._kept(config.n_local, share, step)
        return self.losses(*crops, self._masks(share, step), step_values(config, step), *kept)

    def losses(
        self,
        global_crops: Float[Tensor, "2*b c g g"],
        local_crops: Float[Tensor, "v*b c l l"],
        masks: Masks | None,
        values: StepValues,
        global_kept: Kept = None,
        local_kept: Kept = None,
    ) -> dict[str, Float[Tensor, ""]]:
        """The unweighted losses of a batch of crops."""
        batch = len(global_crops) // N_GLOBAL
        features, cls_logits, cls_probs, patch_probs = self._targets(global_crops, masks, values.teacher_temperature)

        student, places, hidden = self.student, _NO_PLACES, None
        if masks is not None:
            places, hidden = masks.places, masks.hidden.to(self.device, non_blocking=True)
        cls, patches = student.backbone(global_crops, hidden, places, global_kept)  # 2*b d, m d
        all_cls = cls
        if len(local_crops):
            all_cls = torch.cat([cls, student.backbone(local_crops, None, _NO_PLACES, local_kept)[0]])
        logits = student.heads["dino"](all_cls).unflatten(0, (-1, batch))  # views b k
        losses = {"dino": self.dino_loss(logits, cls_probs.unflatten(0, (N_GLOBAL, batch)))}
        if masks is not None:
            weights = masks.weights.to(self.device, non_blocking=True)
            losses["ibot"] = self.ibot_loss(student.ibot_head(patches), patch_probs, weights, len(global_crops))
        if self.config.koleo_weight > 0:
            # One view at a time: two views of an image must not repel each other
            losses["koleo"] = self.koleo_loss(cls[:batch]) + self.koleo_loss(cls[batch:])
        if self.wants_health:  # averaged, so that all processes stop or none
            measured = feature_health(all_rows(features[:batch])) | prototype_health(cls_logits, cls_probs, logits[0])
            self.report |= self._mean(measured)
        return losses

    @torch.no_grad()
    def _targets(
        self, global_crops: Float[Tensor, "2*b c g g"], masks: Masks | None, temperature: float
    ) -> tuple[Float[Tensor, "2*b d"], Float[Tensor, "2*b k"], Float[Tensor, "2*b k"], Float[Tensor, "m k"]]:
        """The teacher's one pass: features, scores and targets of the CLS tokens, and targets of the masked patches."""
        teacher = self.teacher
        cls, patches = teacher.backbone(global_crops, None, _NO_PLACES if masks is None else masks.places)
        cls_logits = teacher.heads["dino"](cls)
        cls_probs = self.dino_centering(cls_logits, temperature)
        patch_probs = cls_probs[:0]
        if masks is not None:
            patch_probs = self.ibot_centering(teacher.ibot_head(patches), temperature)
        return cls, cls_logits, cls_probs, patch_probs

    def _masks(self, share: Share, step: int) -> Masks | None:
        config, grid = self.config, self.student.backbone.grid
        if config.ibot_weight == 0:
            return None
        return step_masks(
            grid, config.mask_probability, config.mask_ratio, seed=self.seed, step=step, share=share, views=N_GLOBAL
        )

    def _kept(self, views: int, share: Share, step: int) -> Kept:
        generator = drop_generator(self.seed, step, local=views != N_GLOBAL)
        return draw_kept(self.student.backbone.rates, views, share, generator)

    def optimizer_step(self, *args: Any, **kwargs: Any) -> None:
        """Step the student, then move the teacher: here, so that a callback at the batch's end sees (and saves) both."""
        step = self.trainer.global_step  # the optimizer raises it
        super().optimizer_step(*args, **kwargs)
        self.update_teacher(step_values(self.config, step).momentum)

    @torch.no_grad()
    def update_teacher(self, momentum: float) -> None:
        """t <- momentum * t + (1 - momentum) * s, for every parameter."""
        torch._foreach_lerp_(list(self.teacher.parameters()), list(self.student.parameters()), 1.0 - momentum)


_NO_PLACES = torch.empty(0, dtype=torch.int64)  # of patches: only the CLS token is wanted
