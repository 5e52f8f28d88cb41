import numpy as np
import pytest
import torch

from strata.curation.errors import ConfigError, DataError
from strata.eval.features import Features
from strata.eval.protocols.attentive import Attentive, TokenReader
from strata.eval.protocols.attentive_heads import AttentiveHead
from strata.eval.protocols.linear import Linear

FAST = {"learning_rates": (1e-3, 1e-2), "n_heads": 2, "steps": 150, "batch_size": 32}


def needle(seed, n, n_classes=4, p=16, d=8):
    """One patch of 16 tells the class: it stands where a marker says so, the others hold another class's pattern."""
    rng = np.random.default_rng(seed)
    patterns = np.random.default_rng(99).standard_normal((n_classes, d - 1))
    y = np.arange(n) % n_classes
    tokens = np.zeros((n, 1, p, d), np.float32)
    tokens[..., 1:] = patterns[rng.integers(0, n_classes, (n, 1, p))] + 0.1 * rng.standard_normal((n, 1, p, d - 1))
    at = rng.integers(0, p, n)
    tokens[np.arange(n), 0, at, 1:] = patterns[y] + 0.1 * rng.standard_normal((n, d - 1))
    tokens[np.arange(n), 0, at, 0] = 3.0
    return tokens, y


def features_of(make_features, name="f", **sets):
    arrays = {split: (tokens.mean(axis=2), y) for split, (tokens, y) in sets.items()}
    return make_features(name=name, **arrays, extra={split: {"patches": tokens} for split, (tokens, _) in sets.items()})


def test_is_multi_head_attention_with_a_learned_query():
    """Keys, values and projections written out, against the head that never forms them."""
    b, p, d, h = 3, 5, 8, 2
    head = AttentiveHead(d, 4, h, torch.Generator().manual_seed(0)).double()
    head.queries.data.normal_()
    tokens = torch.randn(b, p, d, dtype=torch.float64)
    q = torch.randn(h, d // h, dtype=torch.float64)
    w_k = torch.linalg.pinv(q[:, :, None])[:, 0, :, None] * head.queries[:, None, :]  # h e d with q . W_k t = u . t
    out = []
    for i in range(h):
        keys, values = tokens @ w_k[i].T, tokens @ head.values[i]
        out.append((keys @ q[i]).softmax(dim=1)[:, None] @ values)
    expected = torch.cat(out, dim=2)[:, 0] @ head.weight.T + head.bias
    torch.testing.assert_close(head(tokens), expected)


def test_finds_what_the_mean_token_hides(make_features, tmp_path):
    path = features_of(make_features, train=needle(0, 400), test=needle(1, 120))
    found = Attentive(**FAST).run(path, tmp_path / "s", device="cpu")[0]
    linear = Linear(learning_rates=(0.1, 1.0), n_blocks=(1,), steps=150).run(path, tmp_path / "l", device="cpu")[0]
    assert found.value > 0.9 > 0.8 > linear.value
    assert [trial["learning_rate"] for trial in found.details["trials"]] == [1e-3, 1e-2]


def test_a_rate_is_trained_the_same_alone_and_beside_others(make_features):
    train = Features.open(features_of(make_features, train=needle(0, 80)), "train")
    probe, rows = Attentive(**FAST | {"steps": 10}), np.arange(80)
    read = TokenReader.of(train, rows, "cpu")
    together = probe._train(train, read, rows, [1e-3, 1e-2], "x")
    for rate in together:
        alone = probe._train(train, read, rows, [rate], "x")[rate]
        for ours, theirs in zip(together[rate].parameters(), alone.parameters(), strict=True):
            torch.testing.assert_close(ours, theirs)


def test_the_test_split_moves_nothing(make_features, tmp_path):
    train, (test, z) = needle(0, 100), needle(1, 40)
    details = []
    for name, labels in {"true": z, "shifted": (z + 1) % 4}.items():
        path = features_of(make_features, name, train=train, test=(test, labels))
        details.append(Attentive(**FAST | {"steps": 20}).run(path, tmp_path / f"s-{name}", device="cpu")[0].details)
    assert details[0] == details[1]


def test_what_does_not_fit(make_features, tmp_path):
    bare = make_features(
        train=(np.eye(8, dtype=np.float32), np.arange(8) % 2), test=(np.eye(8, dtype=np.float32), np.arange(8) % 2)
    )
    with pytest.raises(DataError, match="attentive reads the patch tokens of 1 blocks"):
        Attentive(**FAST).run(bare, tmp_path / "s", device="cpu")
    path = features_of(make_features, "g", train=needle(0, 20), test=needle(1, 20))
    with pytest.raises(ConfigError, match=r"protocol\.n_heads: 3 heads do not divide tokens of 8 dims"):
        Attentive(**FAST | {"n_heads": 3}).run(path, tmp_path / "s", device="cpu")
    for field, value in {"learning_rates": (), "n_heads": 0, "steps": 0, "weight_decay": -1.0, "holdout": 0.0}.items():
        with pytest.raises(ConfigError) as caught:
            Attentive(**{field: value})
        assert caught.value.field == f"protocol.{field}"
    assert Attentive().patches == 1
    assert not (tmp_path / "s").exists()
