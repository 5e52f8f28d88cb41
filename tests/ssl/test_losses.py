"""Each loss, forward and gradient, against independent formulas in float64 numpy.

Gradients twice: the formula derived by hand, and central differences of the loss's formula.
"""

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


def test_dino_gradient_is_student_minus_teacher(rng):
    """d/dz of -sum_k t_k log softmax(z / T)_k is (softmax(z / T) - t) / T, averaged over pairs and images."""
    student, teacher = rng.normal(size=(4, 3, 6)), softmax(3 * rng.normal(size=(2, 3, 6)))
    x = tensor(student)
    dino_loss(x, torch.tensor(teacher), 0.1).backward()
    p, expected = softmax(student / 0.1), np.zeros_like(student)
    for t, s in [(0, 1), (0, 2), (0, 3), (1, 0), (1, 2), (1, 3)]:
        expected[s] += (p[s] - teacher[t]) / 0.1 / (6 * 3)
    np.testing.assert_allclose(x.grad.numpy(), expected, rtol=1e-4, atol=1e-6)


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


def test_ibot_gradient_is_student_minus_teacher(rng):
    student, teacher, weights = rng.normal(size=(5, 4)), softmax(rng.normal(size=(5, 4))), rng.uniform(0.1, 1, size=5)
    x = tensor(student)
    ibot_loss(x, torch.tensor(teacher), torch.tensor(weights), 3, 0.1).backward()
    expected = (softmax(student / 0.1) - teacher) / 0.1 * weights[:, None] / 3
    np.testing.assert_allclose(x.grad.numpy(), expected, rtol=1e-4, atol=1e-6)


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


def koleo_gradient_numpy(x, eps=1e-8):
    """By hand: each row pulls on its nearest one and is pulled; then through the normalization."""
    norm = np.linalg.norm(x, axis=1, keepdims=True)
    u, n = x / norm, len(x)
    g = np.zeros_like(u)
    for i in range(n):
        distances = np.array([np.inf if j == i else np.linalg.norm(u[i] - u[j]) for j in range(n)])
        j = distances.argmin()
        pull = -(u[i] - u[j]) / distances[j] / (distances[j] + eps) / n
        g[i] += pull
        g[j] -= pull
    return (g - (g * u).sum(1, keepdims=True) * u) / norm


@pytest.mark.parametrize(("n", "d"), [(2, 3), (9, 4), (40, 16)])
def test_koleo_gradient_by_hand(rng, n, d):
    features = rng.normal(size=(n, d))
    x = tensor(features)
    koleo_loss(x).backward()
    np.testing.assert_allclose(x.grad.numpy(), koleo_gradient_numpy(features), rtol=1e-3, atol=1e-5)


def test_koleo_of_two_rows_has_no_gradient_when_they_are_opposite():
    """Nothing is further apart on the sphere."""
    x = tensor([[1.0, 2.0], [-2.0, -4.0]])
    koleo_loss(x).backward()
    np.testing.assert_allclose(x.grad.numpy(), 0.0, atol=1e-6)


@pytest.mark.parametrize("group", [2, 3, 6, 12])
def test_koleo_in_groups(rng, group):
    features = rng.normal(size=(12, 5))
    x = tensor(features)
    loss = KoLeoLoss(group)(x)
    loss.backward()
    parts = [features[i : i + group] for i in range(0, 12, group)]
    assert loss.item() == pytest.approx(np.mean([koleo_numpy(part) for part in parts]), rel=1e-5)
    expected = np.concatenate([koleo_gradient_numpy(part) for part in parts]) * group / 12
    np.testing.assert_allclose(x.grad.numpy(), expected, rtol=1e-3, atol=1e-5)


def test_koleo_of_bfloat16_features_is_that_of_their_values(rng):
    x = torch.tensor(rng.normal(size=(9, 6)), dtype=torch.bfloat16, requires_grad=True)
    loss = koleo_loss(x)
    loss.backward()
    values = x.detach().double().numpy()
    assert loss.dtype == torch.float32 and loss.item() == pytest.approx(koleo_numpy(values), rel=1e-5)
    np.testing.assert_allclose(x.grad.float().numpy(), koleo_gradient_numpy(values), rtol=1e-2, atol=1e-3)


def test_koleo_gradient_of_duplicates_among_others(rng):
    """Twins do not push each other, but a row whose nearest is one of them still feels it."""
    features = rng.normal(size=(5, 4))
    features[1] = features[0]
    x = tensor(features)
    loss = koleo_loss(x)
    loss.backward()
    assert loss.item() == pytest.approx(koleo_numpy(features), rel=1e-4)
    only = koleo_gradient_numpy_without(features, {0, 1})
    np.testing.assert_allclose(x.grad.numpy(), only, rtol=1e-3, atol=1e-5)


def koleo_gradient_numpy_without(x, silent):
    """``koleo_gradient_numpy`` where the terms of the rows ``silent`` are constants."""
    norm = np.linalg.norm(x, axis=1, keepdims=True)
    u, n = x / norm, len(x)
    g = np.zeros_like(u)
    for i in set(range(n)) - silent:
        cosine = np.where(np.arange(n) == i, -2.0, u @ u[i])
        j = cosine.argmax()
        distance = np.linalg.norm(u[i] - u[j])
        g[i] -= (u[i] - u[j]) / distance**2 / n
        g[j] += (u[i] - u[j]) / distance**2 / n
    return (g - (g * u).sum(1, keepdims=True) * u) / norm


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


@given(st.integers(1, 20), st.integers(2, 9), st.floats(0.02, 2.0), st.integers(1, 5), st.integers(0, 99))
@settings(max_examples=40, deadline=None)
def test_sinkhorn_is_the_formula(n, k, temperature, rounds, seed):
    """The scales per row and column give the matrix that scaling the matrix gives (in float64, shifted against overflow)."""
    logits = np.random.default_rng(seed).uniform(-1, 1, size=(n, k))
    expected = sinkhorn_numpy(logits - logits.max(), temperature, rounds)
    actual = sinkhorn_knopp(torch.tensor(logits), temperature, rounds)
    np.testing.assert_allclose(actual.numpy(), expected, rtol=2e-4, atol=1e-7)


@given(st.integers(1, 20), st.integers(2, 9), st.floats(0.01, 2.0), st.integers(0, 99))
@settings(max_examples=40, deadline=None)
def test_sinkhorn_marginals(n, k, temperature, seed):
    """Every row sums to 1; in the limit every column to n / k, whatever the temperature."""
    logits = torch.rand(n, k, generator=torch.Generator().manual_seed(seed)) * 2 - 1
    q = sinkhorn_knopp(logits, temperature, 3)
    torch.testing.assert_close(q.sum(1), torch.ones(n), rtol=1e-5, atol=1e-5)
    assert (q >= 0).all()
    warm = sinkhorn_knopp(logits, max(temperature, 0.5), 200)
    torch.testing.assert_close(warm.sum(0), torch.full((k,), n / k), rtol=1e-3, atol=1e-3)
    torch.testing.assert_close(warm.sum(1), torch.ones(n), rtol=1e-5, atol=1e-5)


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


def test_softmax_center_gives_distributions(rng):
    q = softmax_center(torch.tensor(rng.normal(size=(5, 7))), torch.tensor(rng.normal(size=7)), 0.04)
    torch.testing.assert_close(q.sum(1), torch.ones(5, dtype=q.dtype))


# ---- float32, whatever surrounds


def in_bfloat16(function, *arguments):
    with torch.autocast("cpu", torch.bfloat16):
        return function(*arguments)


def test_losses_and_centering_are_float32_under_autocast(rng):
    """einsum and products of matrices would run in bfloat16 there, three digits."""
    student, teacher = (torch.tensor(rng.normal(size=(4, 8, 50)), dtype=torch.float32) for _ in range(2))
    probabilities = torch.softmax(teacher, dim=-1)
    calls = {
        "dino": (dino_loss, student, probabilities[:2], 0.1),
        "ibot": (ibot_loss, student[0], probabilities[0], torch.ones(8), 4, 0.1),
        "koleo": (koleo_loss, student[0]),
        "sinkhorn": (sinkhorn_knopp, teacher[0], 0.05),
        "softmax": (softmax_center, teacher[0], torch.zeros(50), 0.05),
    }
    for name, (function, *arguments) in calls.items():
        inside, outside = in_bfloat16(function, *arguments), function(*arguments)
        assert inside.dtype == torch.float32, name
        assert torch.equal(inside, outside), name


def test_gradients_are_float32_under_autocast(rng):
    teacher = torch.softmax(torch.tensor(rng.normal(size=(2, 8, 50)), dtype=torch.float32), dim=-1)
    student = rng.normal(size=(4, 8, 50))
    gradients = []
    for run in (lambda *a: dino_loss(*a), lambda *a: in_bfloat16(dino_loss, *a)):
        x = tensor(student)
        run(x, teacher).backward()
        gradients.append(x.grad)
    torch.testing.assert_close(*gradients, rtol=0, atol=0)
