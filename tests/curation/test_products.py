import pytest
import torch

from strata.curation import products
from strata.curation.products import product


@pytest.mark.parametrize("onednn", [True, False])
def test_product_is_x_times_y_transposed(onednn, monkeypatch):
    if onednn and not products.has_onednn():
        pytest.skip("torch without oneDNN")
    monkeypatch.setattr(products, "has_onednn", lambda: onednn)
    torch.manual_seed(0)
    x, y = torch.randn(5, 8), torch.randn(8, 7).T
    torch.testing.assert_close(product(x, y).double(), x.double() @ y.T.double(), rtol=1e-5, atol=1e-5)
    assert product(x[:0], y).shape == (0, 7)
    assert product(x.double(), y.double()).dtype == torch.float64
