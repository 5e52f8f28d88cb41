"""The kernels chosen for the CPU: the same numbers as torch's own, forward and backward."""

import pytest
import timm
import torch
from torch import nn

from strata.ssl.image import kernels
from strata.ssl.image.kernels import OneDNNLinear, choose_kernels

needs_onednn = pytest.mark.skipif(
    not torch.backends.mkldnn.is_available() or not hasattr(torch.ops.mkldnn, "_linear_pointwise"),
    reason="torch without oneDNN",
)


def loss_and_gradients(layer, x):
    layer.zero_grad()
    y = layer(x)
    (y * torch.linspace(-1, 1, y.numel()).view_as(y)).sum().backward()
    return y, x.grad, *(p.grad for p in layer.parameters())


@needs_onednn
@pytest.mark.parametrize(
    ("shape", "bias"), [((7, 40), True), ((3, 5, 40), False), ((2, 300, 40), True), ((0, 40), True)]
)
def test_linear_against_float64(shape, bias):
    torch.manual_seed(0)
    layer = nn.Linear(40, 24, bias=bias)
    x = torch.randn(shape)
    exact = nn.Linear(40, 24, bias=bias).double()
    exact.load_state_dict(layer.state_dict())
    layer.__class__ = OneDNNLinear
    ours = loss_and_gradients(layer, x.clone().requires_grad_())
    expected = loss_and_gradients(exact, x.double().requires_grad_())
    for a, b in zip(ours, expected, strict=True):
        torch.testing.assert_close(a.double(), b, rtol=2e-5, atol=2e-5)


@needs_onednn
def test_other_types_are_left_to_torch():
    layer = nn.Linear(8, 4)
    x = torch.randn(3, 8)
    with torch.autocast("cpu", torch.bfloat16):
        expected = layer(x)
        layer.__class__ = OneDNNLinear
        assert torch.equal(layer(x), expected) and expected.dtype == torch.bfloat16
    assert layer.double()(x.double()).dtype == torch.float64


@pytest.mark.parametrize("slow", [True, False])
def test_a_network_computes_the_same(slow, monkeypatch):
    if slow and (not torch.backends.mkldnn.is_available() or not hasattr(torch.ops.mkldnn, "_linear_pointwise")):
        pytest.skip("torch without oneDNN")
    monkeypatch.setattr(kernels, "blas_is_slow", lambda: slow)
    torch.manual_seed(0)
    vit = timm.create_model(
        "vit_tiny_patch16_224", img_size=32, patch_size=8, embed_dim=32, depth=2, num_heads=2, num_classes=0
    )
    names, x = list(vit.state_dict()), torch.randn(3, 3, 32, 32)
    before = vit(x)
    before.square().sum().backward()
    expected = [p.grad.clone() for p in vit.parameters()]
    vit.zero_grad()
    choose_kernels(vit, torch.device("cpu"))
    after = vit(x)
    after.square().sum().backward()
    torch.testing.assert_close(after, before, rtol=1e-5, atol=1e-5)
    for p, gradient in zip(vit.parameters(), expected, strict=True):
        torch.testing.assert_close(p.grad, gradient, rtol=1e-4, atol=1e-4)
    assert list(vit.state_dict()) == names
    assert {block.attn.fused_attn for block in vit.blocks} == {False}
    assert any(isinstance(module, OneDNNLinear) for module in vit.modules()) == slow
    choose_kernels(vit, torch.device("cuda"))
    assert {block.attn.fused_attn for block in vit.blocks} == {True}
