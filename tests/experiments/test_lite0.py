"""The vectors of results/balance_of_subsets_efficientnet can be made again, as far as that goes without the package."""

import numpy as np
import pytest
import timm
import torch

from strata.curation.encoders.timm_encoder import TimmEncoder
from strata.curation.errors import DataError
from strata.experiments.lite0_vectors import ARCHITECTURE, PIXELS, reduced, timm_folder


def test_tensors_get_the_names_of_timm(tmp_path):
    network = timm.create_model(ARCHITECTURE, pretrained=False).eval()
    renamed = {f"other.{number}": value for number, value in enumerate(network.state_dict().values())}
    torch.save(renamed, tmp_path / "weights.pth")
    encoder = TimmEncoder(str(timm_folder(tmp_path / "weights.pth", tmp_path / "folder")), pooling="model")
    batch = torch.rand(2, 3, PIXELS, PIXELS)
    with torch.inference_mode():
        pooled = network.global_pool(network.forward_features(batch))
    torch.testing.assert_close(encoder.encode(batch), pooled, atol=1e-5, rtol=1e-4)
    renamed.popitem()
    torch.save(renamed, tmp_path / "short.pth")
    with pytest.raises(DataError, match="does not hold the tensors"):
        timm_folder(tmp_path / "short.pth", tmp_path / "other")


def test_reduction_keeps_directions():
    rng = np.random.default_rng(0)
    X = rng.normal(size=(300, 3)) @ rng.normal(size=(3, 20)) + 1e-3 * rng.normal(size=(300, 20))
    kept = reduced(X.astype(np.float32), 3)
    np.testing.assert_allclose(np.linalg.norm(kept, axis=1), 1, atol=1e-6)
    unit = X / np.linalg.norm(X, axis=1, keepdims=True)
    centered = unit - unit.mean(0)
    centered /= np.linalg.norm(centered, axis=1, keepdims=True)
    np.testing.assert_allclose(kept @ kept.T, centered @ centered.T, atol=0.02)
