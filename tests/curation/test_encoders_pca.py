"""Encoders without weights: PCA of pixels, and of gradients and colors."""

import numpy as np
import pytest
import torch
from encoder_checks import Noise, batch, check_protocol, noise
from PIL import Image
from sklearn.decomposition import PCA as SklearnPCA

from strata.curation.encoders.hog_color import HOGColor, color_histogram, oriented_gradients
from strata.curation.encoders.pca import PCA
from strata.curation.encoders.pixels_pca import PixelsPCA
from strata.curation.errors import ConfigError, DataError


@pytest.mark.parametrize("whiten", [False, True])
def test_pca_agrees_with_sklearn(whiten):
    rng = np.random.default_rng(0)
    X = np.clip(rng.standard_normal((400, 6)) @ rng.standard_normal((6, 20)) * 20 + 128, 0, 255).astype(np.uint8)
    ours = PCA.fit(X, 4, max_value=255, whiten=whiten)
    theirs = SklearnPCA(4, whiten=whiten, svd_solver="full").fit(X / 255)
    expected = theirs.transform(X / 255)
    signs = np.sign((ours.project(X) * expected).sum(axis=0))
    np.testing.assert_allclose(ours.project(X), expected * signs, atol=2e-5)
    np.testing.assert_allclose(ours.explained_variance, theirs.explained_variance_, rtol=1e-6)
    assert (ours.components[np.abs(ours.components).argmax(axis=0), np.arange(4)] > 0).all()


def test_pca_projection_is_exact_in_any_order():
    """Against integer arithmetic with Python's own numbers, for values as large as they may be."""
    rng = np.random.default_rng(1)
    X = rng.integers(0, 32768, (50, 300)).astype(np.int16)
    pca = PCA.fit(X, 3, max_value=32767)
    grid = np.array([[int(c * 2**24) for c in row] for row in pca.components], dtype=object)
    assert all(float(whole) / 2**24 == c for whole, c in zip(grid.ravel(), pca.components.ravel(), strict=True))
    whole = X.astype(object) @ grid
    expected = (np.array([[float(v) / 2**24 for v in row] for row in whole]) - pca.offset) * pca.scale
    assert np.array_equal(pca.project(X), expected)
    assert np.array_equal(np.concatenate([pca.project(X[i : i + 1]) for i in range(50)]), expected)
    order = rng.permutation(50)
    assert np.array_equal(PCA.fit(X[order], 3, max_value=32767).components, pca.components)


def test_pixels_pca(tmp_path):
    encoder = PixelsPCA(size=8, n_components=10, fit_rows=40)
    with pytest.raises(ConfigError, match="not fitted"):
        encoder.encode(batch(encoder))
    described = encoder.describe()
    encoder.fit(Noise(), tmp_path)
    assert encoder.describe() == described
    features = check_protocol(encoder)
    assert encoder.transform(noise(0)).shape == (3, 8, 8)
    reopened = PixelsPCA(size=8, n_components=10, fit_rows=40)
    reopened.fit(Noise(), tmp_path)
    assert torch.equal(reopened.encode(batch(encoder)), features)
    other_rows = PixelsPCA(size=8, n_components=10, fit_rows=40, random_state=1)
    with pytest.raises(DataError, match="other settings"):
        other_rows.fit(Noise(), tmp_path)
    other_rows.fit(Noise(), tmp_path / "other")
    assert not torch.equal(other_rows.encode(batch(encoder)), features)


def test_pixels_pca_options(tmp_path):
    gray = PixelsPCA(size=4, n_components=5, color="gray", normalize=True, whiten=True)
    gray.fit(Noise(), tmp_path)
    features = check_protocol(gray)
    assert gray.transform(noise(0)).shape == (1, 4, 4)
    torch.testing.assert_close(features.norm(dim=1), torch.ones(5))


def test_damaged_state_is_refused(tmp_path):
    (tmp_path / "pca.safetensors").write_bytes(b"half")
    with pytest.raises(DataError, match="cannot be read"):
        PixelsPCA(size=4, n_components=5).fit(Noise(), tmp_path)


@pytest.mark.parametrize(
    ("make", "field"),
    [
        (lambda: PixelsPCA(size=0), "encoder.size"),
        (lambda: PixelsPCA(size=200), "encoder.size"),
        (lambda: PixelsPCA(size=2, n_components=13), "encoder.n_components"),
        (lambda: PixelsPCA(color="hsv"), "encoder.color"),
        (lambda: PixelsPCA(fit_rows=1), "encoder.fit_rows"),
        (lambda: HOGColor(size=60), "encoder.size"),
        (lambda: HOGColor(bins=0), "encoder.bins"),
        (lambda: HOGColor(color_weight=2), "encoder.color_weight"),
    ],
)
def test_bad_pca_settings_name_their_field(make, field):
    with pytest.raises(ConfigError) as caught:
        make()
    assert caught.value.field == field


def test_whitening_beyond_the_rank_is_refused(tmp_path):
    class Same(Noise):
        def __getitem__(self, row):
            return noise(row % 3)

    with pytest.raises(ConfigError, match="rank"):
        PixelsPCA(size=4, n_components=5, whiten=True).fit(Same(), tmp_path)


def test_hog_color(tmp_path):
    encoder = HOGColor(size=32, n_components=12)
    encoder.fit(Noise(), tmp_path)
    torch.testing.assert_close(check_protocol(encoder).norm(dim=1), torch.ones(5))
    descriptor = encoder.transform(noise(0)).double() / 32767
    assert descriptor.norm() == pytest.approx(1, abs=0.02)  # every block and every quadrant holds something
    assert encoder.transform(Image.new("RGB", (9, 9))).count_nonzero() == 4  # a black image has color and no gradients


def test_oriented_gradients_of_a_ramp_lie_in_one_orientation():
    """Brightness rising to the right: gradients point along 0, the border of the first and the last of 9 bins."""
    hog = oriented_gradients(np.tile(np.linspace(0, 1, 32), (32, 1)), cell=8, bins=9)
    assert hog.shape == (3, 3, 36)
    per_bin = hog.reshape(3, 3, 4, 9).sum(axis=(0, 1, 2))
    assert per_bin[0] == pytest.approx(per_bin[8]) and per_bin[1:8].max() == pytest.approx(0, abs=1e-12)
    assert np.sqrt((hog**2).sum()) == pytest.approx(1, abs=0.01)
    turned = oriented_gradients(np.tile(np.linspace(0, 1, 32)[:, None], (1, 32)), cell=8, bins=9)
    assert turned.reshape(-1, 9).sum(axis=0).argmax() == 4  # 90 degrees: the middle bin


def test_color_histogram_of_flat_quadrants():
    pixels = np.zeros((8, 8, 3), np.uint8)
    pixels[:4, 4:] = (255, 0, 0)
    pixels[4:, :4, 2] = 64
    histogram = color_histogram(pixels, bins=4)
    expected = np.zeros((4, 64))
    expected[[0, 1, 2, 3], [0, 3 * 16, 1, 0]] = 0.5
    np.testing.assert_allclose(histogram, expected)
