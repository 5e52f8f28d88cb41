"""Multinomial logistic regression with an L2 penalty, for many strengths of it: preconditioned L-BFGS, warm-started.

The problem is scikit-learn's: minimize ``C * sum_i CE_i + |W|^2 / 2`` with a bias that is not penalized.
"""

from collections import deque
from dataclasses import dataclass

import torch
from jaxtyping import Float, Int
from torch import Tensor

from strata.eval.products import product

_MEMORY = 12  # pairs of L-BFGS
_ARMIJO = 1e-4


@dataclass(frozen=True)
class Fitted:
    """One solution, in the coordinates of the inputs.

    Attributes:
        weight: of each class.
        bias: of each class.
        n_iter: steps taken.
        converged: False where ``max_iter`` came first.
    """

    weight: Float[Tensor, "K d"]
    bias: Float[Tensor, " K"]
    n_iter: int
    converged: bool

    def logits(self, x: Float[Tensor, "b d"]) -> Float[Tensor, "b K"]:
        """Of some inputs, float32."""
        return product(x, self.weight) + self.bias


class LogisticPath:
    """Fits for one strength after the other, each starting where the last one ended.

    Inputs are centered (the bias takes that up) and turned to the axes of their covariance, which leaves penalty and
    solutions as they are, but makes the Hessian nearly diagonal: of class k along axis j it is about
    ``variance_j * mean(p_k (1 - p_k)) + penalty``. Its inverse is what L-BFGS starts every step from, so that a fit takes
    tens of steps where features have axes of very different length, and plain L-BFGS takes hundreds.

    Args:
        x: inputs, float32, on the device to compute on.
        y: classes, in [0, K); each has an item.
        n_classes: K.

    Source: Nocedal, Wright, Numerical Optimization (2006), algorithms 7.4 and 7.5 (L-BFGS with its own H0).
    """

    def __init__(self, x: Float[Tensor, "n d"], y: Int[Tensor, " n"], n_classes: int) -> None:
        self._center = x.mean(dim=0)
        centered = x - self._center
        covariance = sum(part.double().T @ part.double() for part in centered.split(8192)) / len(x)
        variance, axes = torch.linalg.eigh(covariance)  # type: ignore[arg-type]
        self._axes = axes.float()
        self._variance = variance.clamp_min(0).float()
        self._z = product(centered, self._axes.T.contiguous())  # n d
        self._zt = self._z.T.contiguous()
        self._y, self._n_classes = y, n_classes
        self._w = torch.zeros(n_classes, x.shape[1] + 1, device=x.device)  # the last column is the bias

    def start_at(self, other: Fitted) -> None:
        """Start the next fit from a solution of a like problem."""
        self._w[:, :-1] = other.weight @ self._axes
        self._w[:, -1] = other.bias + other.weight @ self._center

    def fit(self, strength: float, max_iter: int, tol: float) -> Fitted:
        """Solve for one C.

        Args:
            strength: C, the inverse of the penalty.
            max_iter: most steps.
            tol: stop when the quadratic model says that the objective, in nats per item, can fall by less than this.
        """
        n = len(self._y)
        # With two classes softmax has two opposite weights w / 2 where the logistic loss has one, w: a quarter of its
        # penalty twice. Twice the penalty gives scikit-learn's solution.
        penalty = (2.0 if self._n_classes == 2 else 1.0) / (strength * n)
        w, pairs = self._w, deque[tuple[Tensor, Tensor, float]](maxlen=_MEMORY)
        value, gradient, spread = self._evaluate(w, penalty)
        inverse = self._preconditioner(spread, penalty)
        step, converged = 0, False
        while step < max_iter:
            direction = -_apply(pairs, inverse, gradient)
            slope = _dot(gradient, direction)
            if -slope / 2 <= tol:
                converged = True
                break
            found = self._search(w, direction, value, slope, penalty)
            if found is None:
                converged = not pairs  # float32 can tell no lower value: from the diagonal alone this is the end
                if converged:
                    break
                pairs.clear()
                inverse = self._preconditioner(spread, penalty)
                continue
            new_w, value, new_gradient, spread = found
            moved, changed = new_w - w, new_gradient - gradient
            curvature = _dot(moved, changed)
            if curvature > 1e-8 * _dot(changed, changed * inverse) ** 0.5 * _dot(moved, moved / inverse) ** 0.5:
                pairs.append((moved, changed, curvature))
            w, gradient, step = new_w, new_gradient, step + 1
        self._w = w
        weight = w[:, :-1] @ self._axes.T
        return Fitted(weight, w[:, -1] - weight @ self._center, step, converged)

    def _search(
        self, w: Tensor, direction: Tensor, value: float, slope: float, penalty: float
    ) -> tuple[Tensor, float, Tensor, Tensor] | None:
        """Backtrack to a point of sufficient decrease; None if there is none that float32 can tell."""
        length, noise = 1.0, 1e-7 * max(abs(value), 1e-3)
        for _ in range(12):
            new = w + length * direction
            found, gradient, spread = self._evaluate(new, penalty)
            if found <= value + _ARMIJO * length * slope + noise and abs(_dot(gradient, direction)) <= abs(slope):
                return new, found, gradient, spread
            curve = found - value - length * slope
            length = min(max(-slope * length**2 / (2 * curve), 0.1 * length), 0.5 * length) if curve > 0 else length / 2
        return None

    def _evaluate(self, w: Float[Tensor, "K e"], penalty: float) -> tuple[float, Tensor, Tensor]:
        """Objective per item, its gradient, and the mean of p (1 - p) of each class."""
        logits = product(self._z, w[:, :-1].contiguous()).add_(w[:, -1])
        right = logits.gather(1, self._y[:, None])[:, 0]
        top = logits.amax(dim=1)
        logits.sub_(top[:, None]).exp_()
        total = logits.sum(dim=1)
        loss = (total.log() + top - right).double().mean()
        p = logits.div_(total[:, None])
        average = p.mean(dim=0)
        spread = average - p.square().mean(dim=0)
        p[torch.arange(len(p), device=p.device), self._y] -= 1
        gradient = torch.empty_like(w)
        gradient[:, :-1] = product(p.T.contiguous(), self._zt) / len(p) + penalty * w[:, :-1]
        gradient[:, -1] = p.mean(dim=0)
        return float(loss + penalty / 2 * w[:, :-1].double().square().sum()), gradient, spread

    def _preconditioner(self, spread: Float[Tensor, " K"], penalty: float) -> Float[Tensor, "K e"]:
        variance = torch.cat([self._variance + 1e-12, torch.ones_like(self._variance[:1])])
        curvature = spread.clamp_min(1e-8)[:, None] * variance
        curvature[:, :-1] += penalty
        return 1 / curvature


def _apply(pairs: "deque[tuple[Tensor, Tensor, float]]", inverse: Tensor, gradient: Tensor) -> Tensor:
    """The two-loop recursion: the inverse Hessian of L-BFGS times the gradient."""
    q, shares = gradient.clone(), []
    for moved, changed, curvature in reversed(pairs):
        share = _dot(moved, q) / curvature
        q.sub_(changed, alpha=share)
        shares.append(share)
    q *= inverse
    if pairs:
        moved, changed, curvature = pairs[-1]
        q *= curvature / _dot(changed, changed * inverse)
    for (moved, changed, curvature), share in zip(pairs, reversed(shares), strict=True):
        q.add_(moved, alpha=share - _dot(changed, q) / curvature)
    return q


def _dot(a: Tensor, b: Tensor) -> float:
    return float((a * b).sum(dtype=torch.float64))
