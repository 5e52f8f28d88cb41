"""Label-free health of a run: does the teacher still tell images apart? (dinov2#143, #173: a falling loss does not say so)"""

import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn import functional as F

from strata.curation.errors import StrataError

MIN_RANK = 1.5
MAX_COSINE = 0.99
PATIENCE = 3  # checks in a row


class CollapsedRun(StrataError):
    """All images get (nearly) the same features: more steps would be wasted."""


def effective_rank(features: Float[Tensor, "n d"]) -> float:
    """exp of the entropy of the normalized singular values: 1 (all rows parallel) to min(n, d).

    Source: RankMe, Garrido et al., arXiv:2210.02885, eq. 1.
    """
    values = torch.linalg.svdvals(features.float())
    share = values / values.sum().clamp(min=1e-12)
    return float(torch.exp(torch.special.entr(share).sum()))


def mean_cosine(features: Float[Tensor, "n d"]) -> float:
    """Mean cosine over all pairs of different rows; 1 = all features point the same way. 0 for a single row."""
    n = features.shape[0]
    if n < 2:
        return 0.0
    unit = F.normalize(features.float(), dim=-1)
    return float((unit.sum(dim=0).square().sum() - unit.square().sum()) / (n * (n - 1)))


def health(
    features: Float[Tensor, "n d"], teacher_logits: Float[Tensor, "m k"], teacher_probs: Float[Tensor, "... k"]
) -> dict[str, float]:
    """The numbers that are logged.

    Args:
        features: the teacher's CLS tokens of one global crop of each image.
        teacher_logits: the teacher's scores, before centering.
        teacher_probs: after centering: the student's targets.

    Returns:
        ``effective_rank``; ``mean_cosine``; ``prototype_share``: prototypes that are the best of at least one row, as a share
        of min(m, k); ``prototype_perplexity``: exp-entropy of how often each is the best, same unit;
        ``teacher_entropy``: mean entropy of the targets over log k (0 = one prototype each, 1 = uniform).
    """
    m, k = teacher_logits.shape
    counts = torch.bincount(teacher_logits.argmax(dim=-1), minlength=k).float()
    entropy = torch.special.entr(teacher_probs.float()).sum(dim=-1).mean()
    return {
        "effective_rank": effective_rank(features),
        "mean_cosine": mean_cosine(features),
        "prototype_share": float((counts > 0).sum()) / min(m, k),
        "prototype_perplexity": float(torch.special.entr(counts / m).sum().exp()) / min(m, k),
        "teacher_entropy": float(entropy) / float(torch.log(torch.tensor(float(k)))),
    }


class CollapseAlarm:
    """Counts bad checks in a row and stops the run at the third."""

    def __init__(self) -> None:
        self.bad = 0

    def check(self, step: int, values: dict[str, float]) -> None:
        """Look at one set of ``health`` values.

        Raises:
            CollapsedRun: the effective rank was below 1.5, or the mean cosine above 0.99, at three checks in a row.
        """
        rank, cosine = values["effective_rank"], values["mean_cosine"]
        self.bad = self.bad + 1 if rank < MIN_RANK or cosine > MAX_COSINE else 0
        if self.bad >= PATIENCE:
            raise CollapsedRun(
                f"the features collapsed by step {step}: effective rank {rank:.2f} (alarm below {MIN_RANK}), mean cosine "
                f"{cosine:.4f} (alarm above {MAX_COSINE}) at {PATIENCE} checks in a row; lower ssl.base_lr or "
                "ssl.teacher_temperature, raise ssl.momentum or ssl.koleo_weight, or use a larger ssl.batch_size"
            )
