"""What all methods share: one step of training around their losses, its records, and the guard against bad numbers."""

from abc import abstractmethod
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, ClassVar

import pytorch_lightning as pl
import torch
from jaxtyping import Float
from timm.models.vision_transformer import VisionTransformer
from torch import Tensor, nn

from strata.ssl.image.backbone import MaskedViT
from strata.ssl.image.config import ImageSSLConfig
from strata.ssl.image.data import model_seed
from strata.ssl.image.kernels import choose_kernels
from strata.ssl.image.not_finite import NotFinite, first_bad_forward, first_bad_gradient, save_batch
from strata.ssl.image.parameters import apply_step, parameter_groups
from strata.ssl.image.processes import shard
from strata.ssl.image.schedules import step_values
from strata.ssl.image.share import Batch, Share
from strata.ssl.losses.group import all_max, all_sum, world_size


class HeadedNetwork(nn.Module):
    """A backbone and heads."""

    backbone: MaskedViT
    heads: nn.ModuleDict


class Learner(pl.LightningModule):
    """A method of self-supervised training: ``batch_losses`` over a ``student`` with a backbone and heads.

    Attributes:
        wants_health: set by the recorder before a step that is logged.
        report: what was measured at that step.
        bad_batch: where the batch goes in which a value is not finite; set by ``pretrain``.
    """

    watched: ClassVar[tuple[str, ...]] = (
        "effective_rank",
        "mean_cosine",
        "target_information",
    )  # by the collapse alarm
    student: HeadedNetwork

    def __init__(self, config: ImageSSLConfig, seed: int) -> None:
        super().__init__()
        self.config, self.seed = config, seed
        self.wants_health = False
        self.report: dict[str, float] = {}
        self.bad_batch: Path | None = None
        self._parts: list[tuple[Batch, dict[str, Tensor]]] = []  # of this step, with their losses
        torch.manual_seed(model_seed(seed, 0))

    @abstractmethod
    def batch_losses(self, batch: Batch) -> dict[str, Float[Tensor, ""]]:
        """The unweighted losses of one part of a step."""

    @abstractmethod
    def loss_weights(self) -> Mapping[str, float]:
        """Weight of each loss."""

    def exports(self) -> dict[str, VisionTransformer]:
        """Name of the file -> backbone. "model" is the one that is read by default."""
        return {"model": self.backbone.vit}

    @property
    def backbone(self) -> MaskedViT:
        """The backbone that learns."""
        return self.student.backbone

    @property
    def heads(self) -> nn.ModuleDict:
        """The heads that learn with it."""
        return self.student.heads

    def networks(self) -> Sequence[HeadedNetwork]:
        """All there are."""
        return [self.student]

    def compile_networks(self) -> None:
        """torch.compile of blocks and heads, if the settings ask for it. Last in a method's ``__init__``."""
        if self.config.compile:
            for network in self.networks():
                for part in (*network.backbone.vit.blocks, *network.heads.values()):
                    part.compile()

    def configure_model(self) -> None:
        """Spread the weights over the processes, if the strategy is to."""
        if self.config.strategy == "fsdp" and world_size() > 1:
            for network in self.networks():
                shard(network, [*network.backbone.vit.blocks], [network.backbone, *network.heads.values()])

    def on_fit_start(self) -> None:
        """The kernels of this device."""
        choose_kernels(self, self.device)

    def configure_optimizers(self) -> torch.optim.Optimizer:
        """AdamW over the student's groups; lr and decay are set before every step."""
        groups = parameter_groups(self.backbone, self.heads, self.config)
        return torch.optim.AdamW(groups, lr=0.0, betas=self.config.betas, fused=True)

    def training_step(self, batch: Batch, batch_idx: int) -> Float[Tensor, ""]:
        """Loss of one part of a step."""
        share = self.share(batch)
        torch.manual_seed(model_seed(self.seed, batch.step, share.first))  # of timm's own dropouts, if any
        apply_step(self.optimizers(), step_values(self.config, batch.step))  # type: ignore[arg-type]  # only one optimizer
        losses = self.batch_losses(batch)
        weights = self.loss_weights()
        weighted = {name: weights[name] * loss for name, loss in losses.items()}
        total = torch.stack(list(weighted.values())).sum()
        if batch.part == 0:
            self._parts.clear()
        self._parts.append((batch, {name: loss.detach() for name, loss in losses.items()} | {"total": total.detach()}))
        if self.wants_health:
            self._record({f"loss_{name}": loss for name, loss in losses.items()} | {"loss": total}, batch.part)
            if self.config.log_gradients and batch.part == 0:
                self.report |= self._gradient_norms(weighted)
        return total

    def share(self, batch: Batch) -> Share:
        """Which images of the step these are."""
        return Share.here(self.config.batch_size, part=batch.part, parts=self.config.accumulate)

    def _record(self, losses: dict[str, Tensor], part: int) -> None:
        """Put the mean over processes and parts into the report; complete at the last part."""
        for name, value in self._mean(losses).items():
            before = self.report[name] if part else 0.0
            self.report[name] = before + value / self.config.accumulate

    def _mean(self, values: Mapping[str, Tensor | float]) -> dict[str, float]:
        """Over the processes; one message."""
        local = torch.stack([torch.as_tensor(v, dtype=torch.float32, device=self.device) for v in values.values()])
        return dict(zip(values, (all_sum(local.detach()) / world_size()).tolist(), strict=True))

    def _gradient_norms(self, weighted: Mapping[str, Tensor]) -> dict[str, float]:
        """Norm of the gradient that each weighted loss gives the backbone, on this process; a backward pass for each."""
        parameters = [p for p in self.backbone.parameters() if p.requires_grad]
        norms = {}
        for name, loss in weighted.items():
            gradients = torch.autograd.grad(loss, parameters, retain_graph=True, allow_unused=True)
            norms[f"gradient_{name}"] = float(nn.utils.get_total_norm([g for g in gradients if g is not None]))
        return norms

    def configure_gradient_clipping(self, optimizer: Any, *_: Any, **__: Any) -> None:
        """Clip the backbone and each head apart, as DINOv2 does. Before that, stop if a number is not finite."""
        parts = [list(part.parameters()) for part in (self.backbone, *self.heads.values())]
        norms = [_total_norm(part) for part in parts]
        self._check_finite(norms)
        if self.config.clip_grad > 0:
            for part, norm in zip(parts, norms, strict=True):
                nn.utils.clip_grads_with_norm_(part, self.config.clip_grad, norm)

    def _check_finite(self, norms: list[Tensor]) -> None:
        """One look at the losses of all parts and at the gradients, of all processes together."""
        totals = [losses["total"] for _, losses in self._parts]
        fine = torch.isfinite(torch.stack([*totals, *norms])).all()
        if not all_max((~fine).float()):
            return
        for batch, losses in self._parts:  # every process looks again, as losses may talk to each other
            name = first_bad_forward(self, lambda batch=batch: self.batch_losses(batch))  # type: ignore[misc]
            bad = next((f"loss {key}" for key, loss in losses.items() if not torch.isfinite(loss)), None)
            name = name or bad
            if name:
                break
        else:
            name = first_bad_gradient(self.student) or "number on another process"
        if self.bad_batch is not None:
            save_batch(self.bad_batch, batch.images, batch.step, name)
        raise NotFinite(batch.step, name)


def _total_norm(parameters: list[nn.Parameter]) -> Tensor:
    norm = nn.utils.get_total_norm([p.grad for p in parameters if p.grad is not None])
    whole: Tensor = norm.full_tensor() if hasattr(norm, "full_tensor") else norm
    return whole
