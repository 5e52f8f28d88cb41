"""Numbers that are not finite: the first bad tensor is named, the batch is kept, and the weights are not stepped on."""

import numpy as np
import pytest
import safetensors
import torch
from torch import nn

from strata.curation.pools.rendered import RenderedPool
from strata.ssl.image.config import ImageSSLConfig
from strata.ssl.image.learner import Learner
from strata.ssl.image.not_finite import NotFinite, first_bad_forward, first_bad_gradient
from strata.ssl.image.pretrain import pretrain

SETTINGS = {
    "backbone": "vit_tiny_patch16_224",
    "model_kwargs": {"patch_size": 8, "embed_dim": 24, "depth": 2, "num_heads": 2},
    "steps": 4, "batch_size": 8, "cache_size": 32, "global_size": 32, "local_size": 16, "n_local": 2,
    "n_prototypes": 16, "ibot_n_prototypes": 12, "head_hidden": 16, "head_bottleneck": 8, "ibot_bottleneck": 8,
    "warmup_steps": 1, "teacher_temperature_steps": 1, "freeze_last_layer_steps": 1, "checkpoint_every": 2,
}  # fmt: skip


def run(out, **settings):
    config = ImageSSLConfig(**{**SETTINGS, **settings})
    return pretrain(
        config, RenderedPool(40), np.arange(30), out, seed=0, num_threads=1, log_every=1, progress=False, device="cpu"
    )


class Net(nn.Module):
    def __init__(self):
        super().__init__()
        self.first, self.second = nn.Linear(3, 3), nn.Linear(3, 1)

    def losses(self, x):
        return {"one": self.second(self.first(x)).mean(), "two": self.first(x).sum()}


def test_the_first_bad_tensor_of_a_forward_pass():
    net, x = Net(), torch.ones(2, 3)
    assert first_bad_forward(net, lambda: net.losses(x)) is None
    assert first_bad_forward(net, lambda: net.losses(x * torch.inf)) == "activation first"
    assert first_bad_forward(net, lambda: {"one": torch.tensor(1.0), "two": torch.tensor(torch.nan)}) == "loss two"
    with torch.no_grad():
        net.second.weight[0, 1] = torch.nan
    assert first_bad_forward(net, lambda: net.losses(x)) == "weight second.weight"
    assert not net.first._forward_hooks  # nothing stays behind


def test_the_gradient_that_was_computed_first():
    net = Net()
    for p in net.parameters():
        p.grad = torch.zeros_like(p)
    assert first_bad_gradient(net) is None
    net.first.bias.grad[0] = net.second.weight.grad[0, 0] = torch.nan
    assert first_bad_gradient(net) == "gradient second.weight"


def check(failed, caught, step, tensor):
    assert caught.value.step == step and tensor in caught.value.tensor
    assert f"not finite at step {step}: first {caught.value.tensor}" in str(caught.value) and "\n" not in str(
        caught.value
    )
    assert str(failed) in str(caught.value)
    with safetensors.safe_open(failed / "bad_batch.safetensors", "pt") as file:
        images = file.get_tensor("images")
        assert file.metadata() == {"step": str(step), "tensor": caught.value.tensor}
    assert images.shape == (8, 3, 32, 32) and images.dtype == torch.uint8
    assert (failed / "metrics.jsonl").is_file()


def test_a_bad_loss_names_itself(tmp_path, monkeypatch):
    monkeypatch.setattr(
        "strata.ssl.losses.ibot.ibot_loss", lambda *args: torch.tensor(float("nan"), requires_grad=True)
    )
    with pytest.raises(NotFinite) as caught:
        run(tmp_path / "run")
    check(tmp_path / "run.failed", caught, 0, "ibot")
    assert not (tmp_path / "run").exists() and not (tmp_path / "run.partial").exists()


def test_a_bad_activation_names_its_layer(tmp_path, monkeypatch):
    fine = Learner.training_step

    def poisoned(self, batch, batch_idx):
        if batch.step == 2:
            block = self.student.backbone.vit.blocks[1].mlp.fc1
            block.register_forward_hook(lambda module, args, output: output * torch.inf)
        return fine(self, batch, batch_idx)

    monkeypatch.setattr(Learner, "training_step", poisoned)
    with pytest.raises(NotFinite) as caught:
        run(tmp_path / "run")
    check(tmp_path / "run.failed", caught, 2, "activation student.backbone.vit.blocks.1.mlp.fc1")
    state = torch.load(tmp_path / "run.failed" / "checkpoints" / "last.ckpt", weights_only=True)
    assert all(torch.isfinite(value).all() for value in state["state_dict"].values())


def test_a_bad_gradient_is_named_before_it_reaches_the_weights(tmp_path, monkeypatch):
    kept = []

    class Poison(torch.autograd.Function):
        @staticmethod
        def forward(ctx, x):
            return x.clone()

        @staticmethod
        def backward(ctx, g):
            return g * torch.nan

    fine = Learner.training_step

    def poisoned(self, batch, batch_idx):
        kept[:] = [self, [p.detach().clone() for p in self.student.parameters()]]
        loss = fine(self, batch, batch_idx)
        return Poison.apply(loss) if batch.step == 1 else loss

    monkeypatch.setattr(Learner, "training_step", poisoned)
    with pytest.raises(NotFinite) as caught:
        run(tmp_path / "run")
    check(tmp_path / "run.failed", caught, 1, "gradient ")
    module, before = kept
    assert all(torch.equal(a, b) for a, b in zip(module.student.parameters(), before, strict=True))
