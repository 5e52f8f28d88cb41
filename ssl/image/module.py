"""The LightningModule: student, teacher, losses and one training step of DINOv2."""

from typing import Any

import numpy as np
import pytorch_lightning as pl
import torch
from jaxtyping import Float
from torch import Tensor, nn

from strata.curation.errors import StrataError
from strata.ssl.image.attention import choose_attention
from strata.ssl.image.augment import multi_crop
from strata.ssl.image.backbone import MaskedViT, create_backbone
from strata.ssl.image.config import ImageSSLConfig
from strata.ssl.image.data import mask_rng, model_seed, step_generator
from strata.ssl.image.heads import PrototypeHead
from strata.ssl.image.health import health
from strata.ssl.image.masking import batch_masks
from strata.ssl.image.parameters import apply_step, parameter_groups
from strata.ssl.image.schedules import StepValues, step_values
from strata.ssl.image.share import Batch
from strata.ssl.losses.centering import SoftmaxCentering
from strata.ssl.losses.dino import DINOLoss
from strata.ssl.losses.ibot import IBOTLoss
from strata.ssl.losses.koleo import KoLeoLoss
from strata.ssl.losses.sinkhorn import SinkhornCentering


class Network(nn.Module):
    """Backbone and heads; student and teacher are one each."""

    def __init__(self, config: ImageSSLConfig) -> None:
        super().__init__()
        self.backbone = MaskedViT(create_backbone(config))
        dim, hidden, layers = self.backbone.vit.embed_dim, config.head_hidden, config.head_layers
        heads = {"dino": PrototypeHead(dim, hidden, config.head_bottleneck, config.n_prototypes, layers)}
        if config.ibot_separate_head and config.ibot_weight > 0:
            heads["ibot"] = PrototypeHead(dim, hidden, config.ibot_bottleneck, config.ibot_n_prototypes, layers)
        self.heads = nn.ModuleDict(heads)

    @property
    def ibot_head(self) -> nn.Module:
        """The head that reads patches."""
        return self.heads["ibot" if "ibot" in self.heads else "dino"]


class DINOv2(pl.LightningModule):
    """DINO + iBOT + KoLeo with an averaged teacher.

    A batch is (step, uint8 images [b, 3, s, s]). All randomness of a step (crops, masks, drop path) is drawn from
    generators that depend on (seed, step) only.

    Source: Oquab et al., arXiv:2304.07193, Sec. 4; `dinov2#train/ssl_meta_arch.py`.
    """

    def __init__(self, config: ImageSSLConfig, seed: int) -> None:
        super().__init__()
        self.config, self.seed = config, seed
        self.wants_health = False  # set by the recorder before a step that is logged
        self.report: dict[str, float] = {}
        torch.manual_seed(model_seed(seed, 0))
        self.student = Network(config)
        self.teacher = Network(config)
        self.teacher.load_state_dict(self.student.state_dict())
        self.teacher.requires_grad_(False).eval()
        self.dino_centering = self._centering(config.n_prototypes)
        separate = "ibot" in self.student.heads
        self.ibot_centering = self._centering(config.ibot_n_prototypes if separate else config.n_prototypes)
        self.dino_loss, self.ibot_loss = DINOLoss(config.student_temperature), IBOTLoss(config.student_temperature)
        self.koleo_loss = KoLeoLoss()

    def _centering(self, n_prototypes: int) -> nn.Module:
        if self.config.centering == "sinkhorn":
            return SinkhornCentering(self.config.sinkhorn_iterations)
        return SoftmaxCentering(n_prototypes, self.config.center_momentum)

    def train(self, mode: bool = True) -> "DINOv2":
        """The teacher stays in eval mode: no drop path."""
        super().train(mode)
        self.teacher.eval()
        return self

    def on_fit_start(self) -> None:
        """The attention of this device."""
        choose_attention(self, self.device)

    def configure_optimizers(self) -> torch.optim.Optimizer:
        """AdamW over the student's groups; lr and decay are set before every step."""
        groups = parameter_groups(self.student.backbone, self.student.heads, self.config)
        return torch.optim.AdamW(groups, lr=0.0, betas=self.config.betas, fused=True)

    def training_step(self, batch: Batch, batch_idx: int) -> Float[Tensor, ""]:
        """Loss of one batch."""
        step = batch.step
        torch.manual_seed(model_seed(self.seed, step))
        values = step_values(self.config, step)
        apply_step(self.optimizers(), values)  # type: ignore[arg-type]  # one optimizer, wrapped by Lightning
        global_crops, local_crops = multi_crop(
            batch.images, self.config, step_generator(self.seed, step), extents=batch.extents
        )
        losses = self.losses(global_crops, local_crops, self._masks(len(global_crops), step), values)
        return self._total(losses, step)

    def losses(
        self,
        global_crops: Float[Tensor, "2*b 3 g g"],
        local_crops: Float[Tensor, "v*b 3 l l"],
        masks: Tensor | None,
        values: StepValues,
    ) -> dict[str, Float[Tensor, ""]]:
        """The unweighted losses of a batch of crops; ``masks`` is bool [2 * b, patches] or None."""
        batch = len(global_crops) // 2
        places = None if masks is None else masks.flatten().nonzero().flatten()  # m
        _, cls_probs, patch_probs = self._targets(global_crops, places, values.teacher_temperature)

        student = self.student
        cls, patches = student.backbone(global_crops, masks)
        all_cls = cls
        if len(local_crops):
            all_cls = torch.cat([cls, student.backbone(local_crops)[0]])
        logits = student.heads["dino"](all_cls).unflatten(0, (-1, batch))  # views b k
        losses = {"dino": self.dino_loss(logits, cls_probs.unflatten(0, (2, batch)))}
        if masks is not None and places is not None:
            weights = (masks / masks.sum(dim=1, keepdim=True).clamp(min=1)).flatten()[places]
            masked = student.ibot_head(patches.flatten(0, 1)[places])
            losses["ibot"] = self.ibot_loss(masked, patch_probs, weights, len(global_crops))
        if self.config.koleo_weight > 0:
            # One view at a time: two views of an image must not repel each other
            losses["koleo"] = self.koleo_loss(cls[:batch]) + self.koleo_loss(cls[batch:])
        return losses

    @torch.no_grad()
    def _targets(
        self, global_crops: Float[Tensor, "2*b 3 g g"], places: Tensor | None, temperature: float
    ) -> tuple[Float[Tensor, "2*b d"], Float[Tensor, "2*b k"], Float[Tensor, "m k"]]:
        """The teacher's one pass: features, and targets for the CLS tokens and for the masked patches."""
        cls, patches = self.teacher.backbone(global_crops)
        cls_logits = self.teacher.heads["dino"](cls)
        cls_probs = self.dino_centering(cls_logits, temperature)
        patch_probs = cls_probs[:0]
        if places is not None:
            patch_probs = self.ibot_centering(self.teacher.ibot_head(patches.flatten(0, 1)[places]), temperature)
        if self.wants_health:
            self.report = health(cls[: len(cls) // 2], cls_logits, cls_probs)
        return cls, cls_probs, patch_probs

    def _masks(self, n_images: int, step: int) -> Tensor | None:
        config = self.config
        if config.ibot_weight == 0:
            return None
        grid = self.student.backbone.grid
        masks = batch_masks(n_images, grid, config.mask_probability, config.mask_ratio, mask_rng(self.seed, step))
        return torch.from_numpy(np.ascontiguousarray(masks)).to(self.device)

    def _total(self, losses: dict[str, Tensor], step: int) -> Float[Tensor, ""]:
        weights = {name: getattr(self.config, f"{name}_weight") for name in losses}
        total = torch.stack([weights[name] * loss for name, loss in losses.items()]).sum()
        if not torch.isfinite(total):
            bad = ", ".join(f"{name}={loss.item()}" for name, loss in losses.items() if not torch.isfinite(loss))
            raise StrataError(
                f"the loss is not finite at step {step} ({bad or 'sum'}); lower ssl.base_lr or ssl.clip_grad"
            )
        if self.wants_health:
            self.report |= {f"loss_{name}": loss.item() for name, loss in losses.items()} | {"loss": total.item()}
        return total

    def configure_gradient_clipping(self, optimizer: Any, *_: Any, **__: Any) -> None:
        """Clip the backbone and each head apart, as DINOv2 does."""
        if self.config.clip_grad > 0:
            for part in (self.student.backbone, *self.student.heads.values()):
                nn.utils.clip_grad_norm_(part.parameters(), self.config.clip_grad)

    def optimizer_step(self, *args: Any, **kwargs: Any) -> None:
        """Step the student, then move the teacher: here, so that a callback at the batch's end sees (and saves) both."""
        step = self.trainer.global_step  # the optimizer raises it
        super().optimizer_step(*args, **kwargs)
        self.update_teacher(step_values(self.config, step).momentum)

    @torch.no_grad()
    def update_teacher(self, momentum: float) -> None:
        """t <- momentum * t + (1 - momentum) * s, for every parameter."""
        torch._foreach_lerp_(list(self.teacher.parameters()), list(self.student.parameters()), 1.0 - momentum)
