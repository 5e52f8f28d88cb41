"""A test set whose classes are some of those of train, under their own ids: brought to the ids of train, by name."""

import dataclasses

import numpy as np

from strata.curation.errors import DataError
from strata.eval.features import Features


def in_classes_of(train: Features, test: Features, split: str) -> Features:
    """``test`` with the class ids of ``train``; only its own classes may then be predicted.

    With the same class names in the same order nothing changes. Else every class of ``test`` must have the name of one
    of ``train``; those become its ``candidates``, as ImageNet-A and -R have 200 of ImageNet's classes (Hendrycks et al.
    2021, Natural adversarial examples, section 3; The many faces of robustness, section 3).

    Args:
        train: of the head.
        test: labels, ``accepted`` and ``candidates`` in its own class ids.
        split: its name, for messages.

    Raises:
        DataError: a class that train has not, or a name that train has twice; names the first ones.
    """
    if test.label_names == train.label_names:
        return test
    ids = {name: at for at, name in enumerate(train.label_names)}
    unknown = [name for name in test.label_names if name not in ids]
    if unknown:
        shown = ", ".join(repr(name) for name in unknown[:3])
        problem = f"{len(unknown)} of its {test.n_classes} classes are none of train's, e.g. {shown}"
        raise DataError(f"features of {split}: {problem}; give both sets the same class names")
    twice = [name for name in test.label_names if train.label_names.count(name) > 1]
    if twice:
        raise DataError(f"features of {split}: train has several classes {twice[0]!r}; give each a name of its own")
    new = np.array([ids[name] for name in test.label_names], np.int64)
    columns = dict(test.columns)
    if "accepted" in columns:
        columns["accepted"] = [[int(new[label]) for label in right] for right in columns["accepted"]]
    return dataclasses.replace(
        test,
        labels=new[test.labels],
        label_names=train.label_names,
        candidates=np.sort(new if test.candidates is None else new[test.candidates]),
        columns=columns,
    )
