"""NT-Xent and MAE's loss against independent formulas in float64: value and gradient."""

import numpy as np
import pytest
import torch

from strata.ssl.losses.mae import MAELoss, mae_loss
from strata.ssl.losses.ntxent import NTXentLoss, nt_xent_loss


def random(*shape, seed=0):
    return np.random.default_rng(seed).normal(size=shape)


def nt_xent_by_hand(a, b, t):
    """Equation 1 of SimCLR, term by term."""
    z = np.concatenate([a, b])
    z = z / np.linalg.norm(z, axis=1, keepdims=True)
    n, total = len(a), 0.0
    for i in range(2 * n):
        j = (i + n) % (2 * n)
        others = [np.exp(z[i] @ z[k] / t) for k in range(2 * n) if k != i]
        total += -np.log(np.exp(z[i] @ z[j] / t) / sum(others))
    return total / (2 * n)


def mae_by_hand(predicted, pixels, normalize):
    total = 0.0
    for p, x in zip(predicted, pixels, strict=True):
        if normalize:
            x = (x - x.mean()) / np.sqrt(x.var(ddof=1) + 1e-6)
        total += ((p - x) ** 2).mean()
    return total / len(predicted)


def slope(function, x, eps=1e-6):
    """Central differences."""
    gradient = np.zeros_like(x)
    for place in np.ndindex(x.shape):
        step = np.zeros_like(x)
        step[place] = eps
        gradient[place] = (function(x + step) - function(x - step)) / (2 * eps)
    return gradient


@pytest.mark.parametrize("temperature", [0.1, 0.5])
def test_nt_xent_value_and_gradient(temperature):
    a, b = random(5, 4), random(5, 4, seed=1)
    x = torch.tensor(a, dtype=torch.float32, requires_grad=True)
    loss = NTXentLoss(temperature)(x, torch.tensor(b, dtype=torch.float32))
    loss.backward()
    assert loss.item() == pytest.approx(nt_xent_by_hand(a, b, temperature), rel=1e-5)
    expected = slope(lambda value: nt_xent_by_hand(value, b, temperature), a)
    np.testing.assert_allclose(x.grad.numpy(), expected, rtol=1e-3, atol=1e-5)


def test_nt_xent_at_its_corners():
    views = torch.eye(6)
    low = nt_xent_loss(views, views, 0.05)
    assert low < 1e-6 < nt_xent_loss(views, views.roll(1, 0), 0.05)
    one = torch.ones(1, 4, requires_grad=True)
    loss = nt_xent_loss(one, one * 2)
    loss.backward()
    assert loss == 0 and torch.isfinite(one.grad).all()
    same = nt_xent_loss(torch.ones(8, 4), torch.ones(8, 4))
    assert same.item() == pytest.approx(np.log(15), rel=1e-5)  # collapsed: a guess among the 15 others


def test_nt_xent_in_bfloat16_is_computed_in_float32():
    a, b = (torch.tensor(random(6, 8, seed=s)).bfloat16() for s in (0, 1))
    with torch.autocast("cpu", torch.bfloat16):
        loss = nt_xent_loss(a, b)
    assert loss.dtype == torch.float32
    torch.testing.assert_close(loss, nt_xent_loss(a.float(), b.float()))


@pytest.mark.parametrize("normalize", [True, False])
def test_mae_value_and_gradient(normalize):
    predicted, pixels = random(3, 12), random(3, 12, seed=1) * 5 + 2
    x = torch.tensor(predicted, dtype=torch.float32, requires_grad=True)
    loss = MAELoss(normalize)(x, torch.tensor(pixels, dtype=torch.float32))
    loss.backward()
    assert loss.item() == pytest.approx(mae_by_hand(predicted, pixels, normalize), rel=1e-5)
    expected = slope(lambda value: mae_by_hand(value, pixels, normalize), predicted)
    np.testing.assert_allclose(x.grad.numpy(), expected, rtol=1e-4, atol=1e-5)


def test_mae_at_its_corners():
    nothing = torch.zeros(0, 12, requires_grad=True)
    loss = mae_loss(nothing, torch.zeros(0, 12))
    loss.backward()
    assert loss == 0
    flat = mae_loss(torch.zeros(2, 12), torch.full((2, 12), 0.3))  # a patch of one color has no variance to divide by
    assert flat.item() == pytest.approx(0.0, abs=1e-6)
