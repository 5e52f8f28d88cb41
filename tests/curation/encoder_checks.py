"""What the tests of encoders share: a pool of noise, the checks that hold of any encoder."""

import json
import pickle

import numpy as np
import torch
from PIL import Image

from strata.curation.encoders.base import Encoder

DESCRIBED = {"name", "model", "weights_sha256", "pooling", "normalization", "transform"}
TRANSFORM = {"size", "interpolation", "crop", "mean", "std"}


class Noise:
    name, labels, label_names, fingerprint = "noise", None, None, "abc"
    ids = [str(row) for row in range(60)]

    def __len__(self):
        return 60

    def __getitem__(self, row):
        return noise(row)

    def describe(self):
        return {}


def noise(seed, height=40, width=52):
    return Image.fromarray(np.random.default_rng(seed).integers(0, 256, (height, width, 3), np.uint8))


def batch(encoder, n=5):
    return torch.stack([encoder.transform(noise(row)) for row in range(n)])


def check_protocol(encoder):
    """What holds of any encoder that is ready; returns the embeddings of five images."""
    assert isinstance(encoder, Encoder) and encoder.to("cpu") is encoder
    described = encoder.describe()
    assert set(described) >= DESCRIBED and set(described["transform"]) >= TRANSFORM
    assert json.loads(json.dumps(described)) == described
    transform = pickle.loads(pickle.dumps(encoder.transform))
    assert torch.equal(transform(noise(1)), encoder.transform(noise(1)))
    features = encoder.encode(batch(encoder))
    assert features.shape == (5, encoder.dim) and features.dtype == torch.float32 and not features.requires_grad
    assert features.std(dim=0).mean() > 0
    return features
