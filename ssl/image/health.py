"""Label-free health of a run: does the network still tell images apart? A falling loss does not say so (dinov2#143, #173).

One function per measure; which of them a method reports is its own business. The alarm on them is in ``alarm.py``.
"""

import math

import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn import functional as F


def effective_rank(features: Float[Tensor, "n d"]) -> float:
    """exp of the entropy of the normalized singular values: 1 (all rows parallel) to min(n, d).

    Source: RankMe, Garrido et al., arXiv:2210.02885, eq. 1.
    """
    values = torch.linalg.svdvals(features.float())
    share = values / values.sum().clamp(min=1e-12)
    return float(torch.exp(torch.special.entr(share).sum()))


def mean_cosine(features: Float[Tensor, "n d"]) -> float:
    """Mean cosine over all pairs of different rows; 1 = all features point the same way. 0 for a single row.

    Source: the "dimensional collapse" of Jing et al., arXiv:2110.09348, in its complete form (Sec. 1).
    """
    n = features.shape[0]
    if n < 2:
        return 0.0
    unit = F.normalize(features.float(), dim=-1)
    return float((unit.sum(dim=0).square().sum() - unit.square().sum()) / (n * (n - 1)))


def prototype_share(logits: Float[Tensor, "m k"]) -> float:
    """Prototypes that are the best of at least one row, as a share of min(m, k), the most there could be."""
    return float((_best_counts(logits) > 0).sum()) / min(logits.shape)


def prototype_perplexity(logits: Float[Tensor, "m k"]) -> float:
    """exp-entropy of how often each prototype is the best, as a share of min(m, k).

    Source: codebook perplexity, as in wav2vec 2.0, Baevski et al., arXiv:2006.11477, eq. 4 (there of soft assignments).
    """
    shares = _best_counts(logits) / logits.shape[0]
    return float(torch.special.entr(shares).sum().exp()) / min(logits.shape)


def target_entropy(probabilities: Float[Tensor, "m k"]) -> float:
    """Mean entropy of the student's targets over log k: 0 = one prototype each, 1 = uniform.

    Source: DINO, Caron et al., arXiv:2104.14294, Sec. 5.3 and Fig. 7 (left).
    """
    return float(_entropies(probabilities).mean()) / math.log(probabilities.shape[1])


def target_information(probabilities: Float[Tensor, "m k"]) -> float:
    """Mutual information of image and prototype over log min(m, k): 0 = every image gets the same target.

    The entropy of the mean target less the mean entropy of a target. Both collapses of DINO bring it to 0: to one prototype
    (centering off) and to uniform targets (sharpening off), which the entropy alone shows at opposite ends.

    Source: Bridle, Heading and MacKay, "Unsupervised classifiers, mutual information and phantom targets", NeurIPS 1991; the
    two collapses: DINO, Caron et al., arXiv:2104.14294, Sec. 5.3.
    """
    if min(probabilities.shape) < 2:
        return 0.0
    p = probabilities.float()
    return float(_entropies(p.mean(dim=0)) - _entropies(p).mean()) / math.log(min(p.shape))


def agreement(ours: Float[Tensor, "b k"], theirs: Float[Tensor, "b k"]) -> float:
    """Share of rows whose best column is the same in both: teacher and student, each of its own view of an image.

    Source: SwAV's and DINO's task put as an accuracy, Caron et al., arXiv:2006.09882, Sec. 3.1 (swapped prediction).
    """
    return float((ours.argmax(dim=-1) == theirs.argmax(dim=-1)).float().mean())


def _best_counts(logits: Float[Tensor, "m k"]) -> Float[Tensor, " k"]:
    return torch.bincount(logits.argmax(dim=-1), minlength=logits.shape[1]).float()


def _entropies(probabilities: Float[Tensor, "... k"]) -> Float[Tensor, "..."]:
    return torch.special.entr(probabilities.float()).sum(dim=-1)


def feature_health(features: Float[Tensor, "n d"]) -> dict[str, float]:
    """What every method reports.

    Args:
        features: of one view of each image, of the network that is exported.
    """
    return {"effective_rank": effective_rank(features), "mean_cosine": mean_cosine(features)}


def prototype_health(
    teacher_logits: Float[Tensor, "2*b k"], teacher_probs: Float[Tensor, "2*b k"], student_logits: Float[Tensor, "b k"]
) -> dict[str, float]:
    """What a method with prototypes reports besides.

    Args:
        teacher_logits: scores of both global views, view-major, before centering.
        teacher_probs: the same after centering: the student's targets.
        student_logits: of the first global view; compared with the teacher's of the second.
    """
    return {
        "prototype_share": prototype_share(teacher_logits),
        "prototype_perplexity": prototype_perplexity(teacher_logits),
        "teacher_entropy": target_entropy(teacher_probs),
        "target_information": target_information(teacher_probs),
        "agreement": agreement(student_logits, teacher_probs[len(teacher_probs) // 2 :]),
    }
