"""Packed sequences: every token once, no document sees another, and the loss of packed documents is theirs alone."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from strata.curation.text.tokens import TokenStore
from strata.ssl.text.config import TextSSLConfig
from strata.ssl.text.linear_cross_entropy import linear_cross_entropy
from strata.ssl.text.model import PackedLM, create_model
from strata.ssl.text.packing import IGNORED, PackedBatches, PackedStream
from strata.ssl.text.products import product, use_products

BOS, EOS, VOCAB = 0, 1, 40
MODEL = {"hidden_size": 16, "intermediate_size": 24, "num_hidden_layers": 2, "num_attention_heads": 2,
         "num_key_value_heads": 1, "initializer_range": 0.3}  # fmt: skip


def store_of(lengths, seed=0):
    tokens = np.random.default_rng(seed).integers(2, VOCAB, sum(lengths)).astype(np.uint16)
    offsets = np.concatenate([[0], np.cumsum(lengths)]).astype(np.int64)
    return TokenStore(tokens, offsets, np.asarray(lengths), BOS, EOS, VOCAB)


def whole(store, row):
    return [BOS, *store.document(row).tolist(), EOS]


def stream_of(store, rows, seq_len=8, batch_size=2, isolated=True, seed=3):
    return PackedStream(store, rows, seq_len=seq_len, batch_size=batch_size, seed=seed, isolated=isolated)


@settings(max_examples=40, deadline=None)
@given(st.lists(st.integers(1, 12), min_size=1, max_size=8), st.integers(2, 9), st.integers(1, 4), st.integers(0, 5))
def test_each_epoch_holds_every_document_once_in_one_stream(lengths, seq_len, batch_size, seed):
    store = store_of(lengths)
    stream = stream_of(store, np.arange(len(lengths)), seq_len, batch_size, seed=seed)
    per_step = seq_len * batch_size
    steps = -(-3 * stream.epoch_tokens // per_step)
    batches = [stream.batch(step) for step in range(steps)]
    tokens = torch.cat([b.tokens.flatten() for b in batches])[: 3 * stream.epoch_tokens].tolist()
    for epoch in range(3):
        part, found = tokens[epoch * stream.epoch_tokens : (epoch + 1) * stream.epoch_tokens], []
        while part:
            end = part.index(EOS) + 1
            found.append(part[:end])
            part = part[end:]
        assert sorted(found) == sorted(whole(store, row) for row in range(len(lengths)))
    targets = torch.cat([b.targets.flatten() for b in batches])
    following = torch.cat([b.tokens.flatten() for b in batches])
    kept = targets[:-1] != IGNORED
    assert torch.equal(targets[:-1][kept], following[1:][kept])
    assert torch.equal(~kept, following[1:] == BOS), "a document's first token is no target, every other one is"
    assert all(b.n_targets == int((b.targets != IGNORED).sum()) for b in batches)


def test_any_step_can_be_asked_for_and_repeats_count():
    store = store_of([5, 3, 7, 2])
    rows = np.array([0, 1, 1, 3])
    forward = [stream_of(store, rows).batch(step) for step in range(9)]
    one = stream_of(store, rows)
    for step in (7, 2, 8, 0):
        assert torch.equal(one.batch(step).tokens, forward[step].tokens)
        assert torch.equal(one.batch(step).positions, forward[step].positions)
    assert one.epoch_tokens == 7 + 2 * 5 + 4
    assert not torch.equal(stream_of(store, rows, seed=4).batch(0).tokens, forward[0].tokens)


def test_positions_begin_anew_with_each_document_and_sequence():
    store = store_of([3, 4])
    batch = stream_of(store, np.arange(2), seq_len=6, batch_size=3).batch(0)
    for row in range(3):
        expected, previous = [], None
        for document in batch.documents[row].tolist():
            expected.append(0 if document != previous else expected[-1] + 1)
            previous = document
        assert batch.positions[row].tolist() == expected
    joined = stream_of(store, np.arange(2), seq_len=6, batch_size=3, isolated=False).batch(0)
    assert torch.equal(joined.positions, torch.arange(6).expand(3, 6))
    assert (joined.targets != IGNORED).all() and joined.mask()[0, 0].equal(torch.ones(6, 6).tril().bool())


def test_devices_and_passes_share_a_batch():
    stream = stream_of(store_of([9, 9, 9, 9]), np.arange(4), seq_len=4, batch_size=8)
    parts = [PackedBatches(stream, start=1, stop=3, micro=2, rank=rank, world=2) for rank in (0, 1)]
    first, second = ([p.tokens for p in part] for part in parts)
    assert len(first) == len(second) == 4
    assert torch.equal(torch.cat([*first[:2], *second[:2]]), stream.batch(1).tokens)
    assert {p.n_targets for p in parts[0] if p.step == 2} == {stream.batch(2).n_targets}


# ---- the loss


@pytest.mark.parametrize("chunk", [1, 3, 7, 100])
def test_linear_cross_entropy_is_torchs(chunk):
    torch.manual_seed(0)
    hidden, weight = torch.randn(10, 6, dtype=torch.float64), torch.randn(11, 6, dtype=torch.float64)
    targets = torch.randint(0, 11, (10,))
    targets[[2, 7]] = -1
    found, expected = [], []
    for values, how in ((found, "ours"), (expected, "torch")):
        h, w = hidden.float().requires_grad_(), weight.float().requires_grad_()
        loss = (
            linear_cross_entropy(h, w, targets, chunk)
            if how == "ours"
            else torch.nn.functional.cross_entropy(h @ w.T, targets, ignore_index=-1, reduction="sum")
        )
        (loss * 1.7).backward()
        values += [loss.detach(), h.grad, w.grad]
    for ours, theirs in zip(found, expected):
        torch.testing.assert_close(ours, theirs, rtol=1e-5, atol=1e-5)
    assert found[1][[2, 7]].abs().max() == 0


def test_linear_cross_entropy_follows_autocast():
    torch.manual_seed(0)
    hidden, weight, targets = torch.randn(64, 32), torch.randn(50, 32), torch.randint(0, 50, (64,))
    exact = linear_cross_entropy(hidden, weight, targets)
    with torch.autocast("cpu", torch.bfloat16):
        rounded = linear_cross_entropy(hidden, weight, targets)
    assert rounded.dtype == torch.float32 and rounded != exact
    assert rounded.item() == pytest.approx(exact.item(), rel=0.02)


# ---- no leak


def network(**kwargs):
    config = TextSSLConfig(seq_len=64, tokens=64, batch_size=1, warmup_steps=0, model_kwargs={**MODEL, **kwargs})
    return PackedLM(create_model(config, VOCAB, BOS, EOS, seed=0))


def alone(lm, ids):
    """Mean loss of a document by transformers itself, nothing packed."""
    tokens = torch.tensor([ids])
    return lm.model(input_ids=tokens, labels=tokens).loss * (len(ids) - 1)


def test_packed_documents_have_the_loss_and_the_gradient_they_have_alone():
    lengths = [9, 3, 14, 6, 11, 5, 20, 4]
    store = store_of(lengths)
    stream = PackedStream(store, np.arange(8), seq_len=sum(lengths) + 16, batch_size=1, seed=1)  # an epoch, whole
    lm = network(max_position_embeddings=128)
    packed = lm(stream.batch(0), True)
    packed.backward()
    gradients = [p.grad.clone() for p in lm.parameters()]
    lm.zero_grad()
    apart = torch.stack([alone(lm, whole(store, row)) for row in range(8)]).sum()
    apart.backward()
    torch.testing.assert_close(packed, apart, rtol=1e-5, atol=1e-4)
    for ours, parameter in zip(gradients, lm.parameters()):
        torch.testing.assert_close(ours, parameter.grad, rtol=1e-4, atol=1e-4)


def test_loss_of_each_packed_document_is_its_own():
    store = store_of([7, 12, 5])
    stream = PackedStream(store, np.arange(3), seq_len=30, batch_size=1, seed=1)
    batch, lm = stream.batch(0), network()
    logits = lm.model.lm_head(lm.hidden_states(batch, True))[0]
    losses = torch.nn.functional.cross_entropy(logits, batch.targets[0], ignore_index=IGNORED, reduction="none")
    stream._load(0)
    for place in range(3):
        row = int(stream._places[place])
        here = batch.documents[0] == place
        torch.testing.assert_close(losses[here].sum(), alone(lm, whole(store, row)), rtol=1e-5, atol=1e-5)


def test_training_packed_is_training_unpacked():
    """Five AdamW steps on the same documents, packed in one sequence or one padded row each: the same losses."""
    lengths = [9, 3, 14, 6]
    store = store_of(lengths)
    found = {}
    for how in ("packed", "unpacked"):
        lm = network()
        optimizer = torch.optim.AdamW(lm.parameters(), lr=1e-2)
        stream, losses = PackedStream(store, np.arange(4), seq_len=sum(lengths) + 8, batch_size=1, seed=1), []
        for _ in range(5):
            batch = stream.batch(0)
            total = (
                lm(batch, True)
                if how == "packed"
                else torch.stack([alone(lm, whole(store, r)) for r in range(4)]).sum()
            )
            loss = total / batch.n_targets
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            losses.append(loss.item())
        found[how] = losses
    assert found["packed"] == pytest.approx(found["unpacked"], rel=1e-4)
    assert found["packed"][-1] < found["packed"][0]


def test_joined_documents_do_see_each_other():
    store = store_of([7, 12, 5])
    losses = [
        network()(PackedStream(store, np.arange(3), seq_len=30, batch_size=1, seed=1, isolated=i).batch(0), i).item()
        for i in (True, False)
    ]
    assert abs(losses[0] - losses[1]) > 1e-3


def test_products_are_torchs_with_gradients():
    torch.manual_seed(0)
    plain = torch.nn.Linear(12, 7, bias=False)
    fast = torch.nn.Linear(12, 7, bias=False)
    fast.load_state_dict(plain.state_dict())
    biased = torch.nn.Linear(12, 7)
    use_products(torch.nn.ModuleList([fast, biased]))
    assert "forward" in fast.__dict__ and "forward" not in biased.__dict__
    found = []
    for layer in (plain, fast):
        x = torch.linspace(-1, 1, 2 * 5 * 12).view(2, 5, 12).requires_grad_()
        out = layer(x)
        (out**2).sum().backward()
        found.append((out, x.grad, layer.weight.grad))
    for theirs, ours in zip(*found):
        torch.testing.assert_close(ours, theirs, rtol=1e-5, atol=1e-5)
    with torch.autocast("cpu", torch.bfloat16):
        assert torch.equal(fast(torch.ones(3, 12)), plain(torch.ones(3, 12)))
    assert torch.equal(
        product(torch.ones(2, 3, dtype=torch.float64), torch.ones(4, 3, dtype=torch.float64)),
        torch.full((2, 4), 3.0, dtype=torch.float64),
    )
