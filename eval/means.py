"""Protocol ``finegrained``: the mean over a list of sets, each by its own metric."""

from collections.abc import Sequence
from statistics import NormalDist

import numpy as np

from strata.eval.scores import Score

FINEGRAINED_ID, FINEGRAINED_VERSION = "finegrained", 1


def mean_over_sets(name: str, scores: Sequence[Score]) -> Score:
    """The unweighted mean of one protocol's scores on several sets, as the paper's "fine-grained" column (section 4.1).

    The sets have no image in common, so that the errors of their scores are independent: the variance of the mean is the
    sum of theirs over the number of sets squared, and a set's standard error is its 95 % interval over 2 x 1.96.

    Args:
        name: of the list.
        scores: one a set, of the metric that is the convention there.

    Returns:
        A score of n = number of sets; ``details`` names each with its metric and value.
    """
    z = NormalDist().inv_cdf(0.975)
    value = float(np.mean([score.value for score in scores]))
    errors = [(score.ci_high - score.ci_low) / (2 * z) for score in scores]
    half = z * float(np.sqrt(np.square(errors).sum())) / len(scores)
    details = {
        "protocol": f"{scores[0].protocol}-v{scores[0].version}",
        "sets": {score.benchmark: {"metric": score.metric, "value": score.value} for score in scores},
    }
    return Score(
        FINEGRAINED_ID,
        FINEGRAINED_VERSION,
        f"{name} by {details['protocol']}",
        "mean",
        value,
        len(scores),
        value - half,
        value + half,
        details,
    )
