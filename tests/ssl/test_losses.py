"""Each loss against an independent formula in float64 numpy; gradients against central differences."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from strata.ssl.losses.centering import SoftmaxCentering, softmax_center
from strata.ssl.losses.dino import DINOLoss, dino_loss
from strata.ssl.losses.ibot import IBOTLoss, ibot_loss
from strata.ssl.losses.koleo import KoLeoLoss, koleo_loss
from strata.ssl.losses.sinkhorn import SinkhornCentering, sinkhorn_knopp


def softmax(x):
    e = np.exp(x - x.max(-1, keepdims=True))
    return e / e.sum(-1, keepdims=True)


def numeric_gradient(f, x, eps=1e-5):
    gradient = np.zeros_like(x)
    for i in np.ndindex(*x.shape):
        up, down = x.copy(), x.copy()
        up[i] += eps
        down[i] -= eps
        gradient[i] = (f(up) - f(down)) / (2 * eps)
    return gradient


def tensor(x):
    return torch.tensor(x, dtype=torch.float32, requires_grad=True)


@pytest.fixture
def rng():
    return np.random.default_rng(0)


# ---- DINO


def dino_numpy(student, teacher, temperature):
    terms = []
    for t in range(teacher.shape[0]):
        for s in range(student.shape[0]):
            if s != t:
                log_p = np.log(softmax(student[s] / temperature))
                terms.append(-(teacher[t] * log_p).sum(-1).mean())
    return np.mean(terms)


@pytest.mark.parametrize("n_views", [2, 5])
def test_dino_value_and_gradient(rng, n_views):
    student, teacher = rng.normal(size=(n_views, 3, 4)), softmax(rng.normal(size=(2, 3, 4)))
    x = tensor(student)
    loss = DINOLoss(0.3)(x, torch.tensor(teacher))
    loss.backward()
    assert loss.item() == pytest.approx(dino_numpy(student, teacher, 0.3), rel=1e-5)
    expected = numeric_gradient(lambda v: dino_numpy(v, teacher, 0.3), student)
    np.testing.assert_allclose(x.grad.numpy(), expected, atol=1e-5)


def test_dino_known_value():
    """One image, two views, student uniform over 4 prototypes: ln 4, whatever the teacher says."""
    loss = dino_loss(torch.zeros(2, 1, 4), torch.tensor([[[1.0, 0, 0, 0]], [[0, 1.0, 0, 0]]]))
    assert loss.item() == pytest.approx(np.log(4))


def test_dino_does_not_pair_a_view_with_itself():
    """View 0 of the student is compared with view 1 of the teacher only."""
    teacher = torch.eye(2).view(2, 1, 2)
    agree_across = torch.tensor([[[0.0, 9.0]], [[9.0, 0.0]]])
    assert dino_loss(agree_across, teacher, 1.0) < 1e-3
    assert dino_loss(agree_across.flip(0), teacher, 1.0) > 8


def test_dino_no_gradient_to_the_teacher(rng):
    teacher = torch.tensor(softmax(rng.normal(size=(2, 3, 4))), requires_grad=True)
    dino_loss(tensor(rng.normal(size=(4, 3, 4))), teacher).backward()
    assert teacher.grad is None


# ---- iBOT


def test_ibot_value_and_gradient(rng):
    """3 images; the first hides 2 patches, the second 3, the third none."""
    student, teacher = rng.normal(size=(5, 4)), softmax(rng.normal(size=(5, 4)))
    image = np.array([0, 0, 1, 1, 1])

    def reference(x):
        per_patch = -(teacher * np.log(softmax(x / 0.2))).sum(-1)
        return sum(per_patch[image == i].mean() for i in (0, 1)) / 3

    x = tensor(student)
    loss = IBOTLoss(0.2)(x, torch.tensor(teacher), torch.tensor([0.5, 0.5, 1 / 3, 1 / 3, 1 / 3]), 3)
    loss.backward()
    assert loss.item() == pytest.approx(reference(student), rel=1e-5)
    np.testing.assert_allclose(x.grad.numpy(), numeric_gradient(reference, student), atol=1e-5)


def test_ibot_without_masks_is_zero():
    x = torch.zeros(0, 4, requires_grad=True)
    loss = ibot_loss(x, torch.zeros(0, 4), torch.zeros(0), 6)
    loss.backward()
    assert loss.item() == 0.0


# ---- KoLeo


def koleo_numpy(x, eps=1e-8):
    x = x / np.linalg.norm(x, axis=1, keepdims=True)
    total = 0.0
    for i in range(len(x)):
        total += -np.log(min(np.linalg.norm(x[i] - x[j]) for j in range(len(x)) if j != i) + eps)
    return total / len(x)


@pytest.mark.parametrize("n", [2, 7])
def test_koleo_value_and_gradient(rng, n):
    features = rng.normal(size=(n, 5))
    x = tensor(features)
    loss = KoLeoLoss()(x)
    loss.backward()
    assert loss.item() == pytest.approx(koleo_numpy(features), rel=1e-5)
    np.testing.assert_allclose(x.grad.numpy(), numeric_gradient(koleo_numpy, features), atol=1e-4)


def test_koleo_known_value():
    """Two opposite unit vectors are 2 apart."""
    assert koleo_loss(torch.tensor([[3.0, 0.0], [-0.5, 0.0]])).item() == pytest.approx(-np.log(2), rel=1e-6)


@pytest.mark.parametrize("n", [0, 1])
def test_koleo_of_less_than_two_rows_is_zero(n):
    x = torch.ones(n, 4, requires_grad=True)
    loss = koleo_loss(x)
    loss.backward()
    assert loss.item() == 0.0 and not x.grad.any()


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_koleo_of_duplicates_is_finite(dtype):
    x = torch.tensor([[1.0, 2.0], [1.0, 2.0], [0.0, 1.0], [0.0, 0.0]], dtype=dtype, requires_grad=True)
    loss = koleo_loss(x)
    loss.backward()
    assert torch.isfinite(loss) and torch.isfinite(x.grad).all()


def test_koleo_of_twins_has_no_gradient():
    """Each one's nearest neighbor is the other: there is no direction in which to part them."""
    x = torch.tensor([[1.0, 2.0], [1.0, 2.0]], requires_grad=True)
    loss = koleo_loss(x)
    loss.backward()
    assert loss.item() == pytest.approx(-np.log(1e-8), rel=1e-5) and not x.grad.any()


def test_koleo_is_float32_under_autocast(rng):
    """Rows 1e-3 apart cannot be told apart in bfloat16."""
    features = np.array([[1.0, 0.0], [1.0, 1e-3], [0.0, 1.0]])
    with torch.autocast("cpu", torch.bfloat16):
        loss = koleo_loss(torch.tensor(features, dtype=torch.float32))
    assert loss.dtype == torch.float32
    assert loss.item() == pytest.approx(koleo_numpy(features), rel=1e-4)


# ---- Sinkhorn-Knopp and softmax centering


def sinkhorn_numpy(logits, temperature, n_iterations):
    q = np.exp((logits / temperature).T)  # k n
    q /= q.sum()
    k, n = q.shape
    for _ in range(n_iterations):
        q /= q.sum(1, keepdims=True) * k
        q /= q.sum(0, keepdims=True) * n
    return (q * n).T


def test_sinkhorn_value(rng):
    logits = rng.normal(size=(6, 4))
    actual = SinkhornCentering(3)(torch.tensor(logits), 0.5)
    np.testing.assert_allclose(actual.numpy(), sinkhorn_numpy(logits, 0.5, 3), rtol=1e-4)


@given(st.integers(1, 20), st.integers(2, 9), st.floats(0.02, 2.0), st.integers(0, 99))
@settings(max_examples=30, deadline=None)
def test_sinkhorn_marginals(n, k, temperature, seed):
    logits = torch.rand(n, k, generator=torch.Generator().manual_seed(seed)) * 2 - 1
    q = sinkhorn_knopp(logits, temperature, 3)
    torch.testing.assert_close(q.sum(1), torch.ones(n), rtol=1e-4, atol=1e-5)
    assert (q >= 0).all()


def test_sinkhorn_converges_to_equal_use(rng):
    """All prefer prototype 0; after many rounds, each prototype still has n / k."""
    logits = torch.tensor(rng.normal(size=(8, 4)), dtype=torch.float32)
    logits[:, 0] += 3
    torch.testing.assert_close(sinkhorn_knopp(logits, 0.5, 200).sum(0), torch.full((4,), 2.0), rtol=1e-3, atol=1e-3)


def test_sinkhorn_survives_a_tiny_temperature_and_an_empty_batch():
    assert torch.isfinite(sinkhorn_knopp(torch.tensor([[1.0, -1.0], [0.9, -1.0]]), 1e-3)).all()
    assert sinkhorn_knopp(torch.zeros(0, 5), 0.1).shape == (0, 5)


def test_softmax_centering_value_and_running_mean(rng):
    first, second = rng.normal(size=(4, 3)), rng.normal(size=(4, 3))
    centering = SoftmaxCentering(3, momentum=0.9)
    np.testing.assert_allclose(centering(torch.tensor(first), 0.1).numpy(), softmax(first / 0.1), rtol=1e-4)
    center = 0.1 * first.mean(0)
    np.testing.assert_allclose(
        centering(torch.tensor(second), 0.1).numpy(), softmax((second - center) / 0.1), rtol=1e-4
    )
    np.testing.assert_allclose(centering.center.numpy(), 0.9 * center + 0.1 * second.mean(0), rtol=1e-4)
    centering(torch.zeros(0, 3), 0.1)
    centering.eval()(torch.ones(2, 3), 0.1)
    np.testing.assert_allclose(centering.center.numpy(), 0.9 * center + 0.1 * second.mean(0), rtol=1e-4)


def test_softmax_center_removes_what_is_common():
    q = softmax_center(torch.tensor([[5.0, 1.0]]), torch.tensor([5.0, 1.0]), 0.04)
    torch.testing.assert_close(q, torch.full((1, 2), 0.5))
