"""The LightningModule: one optimizer step of causal language modeling on packed sequences."""

from typing import Any

import pytorch_lightning as pl
import torch
from jaxtyping import Float
from torch import Tensor, nn

from strata.curation.errors import StrataError
from strata.ssl.image.schedules import cosine_schedule
from strata.ssl.text.config import TextSSLConfig
from strata.ssl.text.model import PackedLM, create_model
from strata.ssl.text.packing import Packed


class CausalLM(pl.LightningModule):
    """Next-token prediction. A batch is ``Packed``; nothing random is drawn but the first weights.

    The gradient of a step is that of the mean loss over all its targets, however the batch is cut into devices and
    passes.

    Args:
        config: the recipe.
        vocab_size, bos_id, eos_id: of the tokenizer.
        seed: of the first weights.
        world: devices that share a batch.
    """

    def __init__(
        self, config: TextSSLConfig, *, vocab_size: int, bos_id: int, eos_id: int, seed: int, world: int = 1
    ) -> None:
        super().__init__()
        self.config, self.world = config, world
        self.passes = config.batch_size // (config.micro_batch(world) * world)
        self.lm = PackedLM(create_model(config, vocab_size, bos_id, eos_id, seed))
        self.loss = torch.zeros(())  # mean over this device's targets of the step, scaled to the whole batch
        self.grad_norm = torch.zeros(())

    def configure_model(self) -> None:
        """With FSDP: each layer, then the rest, is sharded over the devices (torch's ``fully_shard``)."""
        if self.config.strategy != "fsdp" or self.world == 1 or hasattr(self.lm, "unshard"):
            return
        from torch.distributed.fsdp import MixedPrecisionPolicy, fully_shard

        mesh = self.device_mesh["data_parallel"]  # type: ignore[index]  # set by Lightning's ModelParallelStrategy
        reduced = self.config.precision != "32-true"
        policy = MixedPrecisionPolicy(torch.bfloat16, torch.float32) if reduced else MixedPrecisionPolicy()
        for layer in self.lm.model.base_model.layers:
            fully_shard(layer, mesh=mesh, mp_policy=policy)
        fully_shard(self.lm, mesh=mesh, mp_policy=policy)

    def configure_optimizers(self) -> torch.optim.Optimizer:
        """AdamW; matrices decay, norms and biases do not. The lr is set before every step."""
        parameters = [p for p in self.lm.parameters() if p.requires_grad]
        groups = [
            {"params": [p for p in parameters if p.ndim >= 2], "weight_decay": self.config.weight_decay},
            {"params": [p for p in parameters if p.ndim < 2], "weight_decay": 0.0},
        ]
        return torch.optim.AdamW(groups, lr=self.config.lr, betas=self.config.betas, eps=self.config.eps, fused=True)

    def transfer_batch_to_device(self, batch: Packed, device: torch.device, dataloader_idx: int) -> Packed:
        """Copy the arrays; the counts stay numbers."""
        return batch.mapped(lambda array: array.to(device, non_blocking=True))

    def training_step(self, batch: Packed, batch_idx: int) -> Float[Tensor, ""]:
        """The share of one pass in the mean loss of the step."""
        self.set_lr(batch.step)
        total = self.lm(batch, self.config.packing == "isolated")
        # DDP and FSDP average over devices and Lightning over passes; the mean over all targets is wanted
        loss: Tensor = total * (self.world * self.passes / batch.n_targets)
        share = loss.detach() / self.passes
        self.loss = share if batch_idx % self.passes == 0 else self.loss + share
        return loss

    def set_lr(self, step: int) -> float:
        """Set and return the learning rate of a step."""
        config = self.config
        lr = cosine_schedule(step, config.steps, config.lr, config.lr * config.min_lr_share, config.warmup_steps)
        for group in self.optimizers().param_groups:  # type: ignore[union-attr]
            group["lr"] = lr
        return lr

    def configure_gradient_clipping(self, optimizer: Any, *_: Any, **__: Any) -> None:
        """Clip the norm over all weights (that of the shards together, with FSDP), and keep it for the log."""
        limit = self.config.clip_grad or float("inf")
        norm = nn.utils.clip_grad_norm_(self.lm.parameters(), limit)
        self.grad_norm = norm.full_tensor() if hasattr(norm, "full_tensor") else norm  # type: ignore[operator]

    def mean_loss(self) -> float:
        """Mean loss of the last step over all devices. Waits for the device; call it on all of them.

        Raises:
            StrataError: it is not finite.
        """
        loss = self.loss.clone()
        if self.world > 1:
            torch.distributed.all_reduce(loss)
            loss /= self.world
        if not torch.isfinite(loss):
            raise StrataError(f"the loss is {loss.item()}; lower ssl.lr or ssl.clip_grad")
        return float(loss)
