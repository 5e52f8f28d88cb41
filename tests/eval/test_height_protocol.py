"""The decoder on toys that can be learned, its numbers against ``height_errors``, and choices the test split cannot move."""

import numpy as np
import pytest
import torch

from strata.curation.errors import ConfigError, DataError
from strata.eval.bootstrap import statistic_of
from strata.eval.features import Features
from strata.eval.height_metrics import error_sums, height_errors
from strata.eval.protocols.dpt import DecoderShape, DPTDecoder
from strata.eval.protocols.height import Height, held_out_groups, signed_root
from strata.eval.rescore import rescore
from strata.eval.scores import read_predictions

GRID, WIDTH = (4, 4), 6
TINY = {
    "factors": (2, 1), "widths": (8, 8), "fusion": 8, "head_width": 8, "head": "regression", "learning_rates": (1e-4, 1e-2),
    "steps": 60, "batch_size": 8, "block": 8, "crop": 1,
}  # fmt: skip


def hills(seed, n=24, offset=0.0, noise=0.1):
    """Tokens of two blocks that tell the height of their patch; maps of 4 px a patch, a corner of each without a value."""
    rng = np.random.default_rng(seed)
    heights = rng.normal(size=(n, *GRID)).astype(np.float32)
    direction = np.random.default_rng(77).normal(size=(2, 1, WIDTH))
    patches = heights.reshape(n, 1, -1, 1) * direction + noise * rng.normal(size=(n, 2, 16, WIDTH))
    maps = [np.kron(h, np.ones((4, 4))).astype(np.float32) * 100 + offset for h in heights]
    for found in maps:
        found[:2, :2] = np.nan
    return patches.astype(np.float32), maps


def make(dense_features, name="f", task_info=None, **splits):
    splits = splits or {"train": hills(0), "test": hills(1), "ood": hills(2, n=6, offset=50)}
    return dense_features(name, task_info=task_info or {"min": None, "max": None, "unit": "m"}, grid=GRID, **splits)


def scored(found):
    return {score.metric: score for score in found}


def test_what_is_learnable_is_learned_and_every_split_is_scored(dense_features, tmp_path):
    found = scored(Height(**TINY).run(make(dense_features), tmp_path / "s", device="cpu", benchmark="toy"))
    assert set(found) == {m + s for m in ("mae", "rmse", "r2", "block_r2", "bias") for s in ("", "_ood")}
    assert found["r2"].value > 0.7 and found["block_r2"].value > 0.5
    assert found["r2"].details["learning_rate"] == 0.01 and len(found["r2"].details["trials"]) == 2
    assert found["bias_ood"].value < -30, "the shifted split is 50 m higher than anything in training"
    for score in found.values():
        assert score.ci_low < score.value < score.ci_high and score.n == (6 if score.metric.endswith("_ood") else 24)


def test_numbers_are_those_of_height_errors_over_all_maps(dense_features, tmp_path):
    """From the stored sums, against the same predictions compared directly."""
    protocol, features = Height(**TINY), make(dense_features)
    found = scored(protocol.run(features, tmp_path / "s", device="cpu", benchmark="toy"))
    train, device = protocol._open(features, "train"), torch.device("cpu")
    from strata.eval.protocols.depth import readout_of

    readout = readout_of("regression", 256, train)
    decoder, _ = protocol._fit(train, readout, device)
    for split, suffix in (("test", ""), ("ood", "_ood")):
        data = protocol._open(features, split)
        pairs = [protocol._predict(decoder, readout, data, row, device) for row in range(len(data.features))]
        truth = height_errors(pairs, block=8, crop=1)
        for metric in ("mae", "rmse", "r2", "block_r2", "bias"):
            assert found[metric + suffix].value == pytest.approx(getattr(truth, metric), rel=1e-6), metric
        assert read_predictions(tmp_path / "s")["pixels"][:24].sum() == 24 * (256 - 4)


def test_block_r2_of_a_hand_computed_case_from_the_sums():
    """Two maps of 2 x 4 px, blocks of 2: means by hand, as in test_height_metrics."""
    truth = [np.array([[0, 2, 4, 4], [2, 4, 4, 4]], float), np.array([[6, 6, 10, 8], [6, 6, 8, 10]], float)]  # 2 4, 6 9
    guess = [np.array([[3, 3, 4, 4], [3, 3, 4, 4]], float), np.array([[5, 5, 9, 9], [5, 5, 9, 9]], float)]  # 3 4, 5 9
    sums = [error_sums(p, y, block=2, crop=0) for p, y in zip(guess, truth, strict=True)]
    columns = {name: [each[name] for each in sums] for name in sums[0]} | {"row": [0, 1]}
    recipe = {
        "kind": "r2",
        "of": "block_squared",
        "truth": "block_truth",
        "square": "block_truth_squared",
        "over": "blocks",
    }
    # mean of the truth 5.25; deviations 10.5625 + 1.5625 + .5625 + 14.0625 = 26.75; errors 1 + 0 + 1 + 0 = 2
    assert statistic_of(columns, recipe).value == pytest.approx(1 - 2 / 26.75, rel=1e-12)
    assert sum(columns["blocks"]) == 4 and sum(columns["pixels"]) == 16


def test_the_test_split_moves_nothing_but_the_score(dense_features, tmp_path):
    found = {}
    for name, sign in (("true", 1), ("adversarial", -1)):
        patches, maps = hills(1)
        path = make(dense_features, name, train=hills(0), test=(patches, [sign * m for m in maps]))
        score = scored(Height(**TINY).run(path, tmp_path / f"s-{name}", device="cpu", benchmark="toy"))["r2"]
        found[name] = (score.details["learning_rate"], score.details["trials"], score.value)
    assert found["true"][:2] == found["adversarial"][:2]
    assert found["true"][2] > 0.7 and found["adversarial"][2] < 0


def test_it_repeats_to_the_bit_and_can_be_scored_again(dense_features, tmp_path):
    features, protocol = make(dense_features), Height(**TINY)
    torch.manual_seed(5)
    first = protocol.run(features, tmp_path / "a", device="cpu", benchmark="toy")
    torch.manual_seed(6)
    assert protocol.run(features, tmp_path / "b", device="cpu", benchmark="toy") == first
    assert rescore(tmp_path / "a", tmp_path / "c", protocol) == first


def test_bins_stay_in_the_range_of_the_set_and_nothing_is_below_its_floor(dense_features, tmp_path):
    patches, maps = hills(0)
    positive = [np.abs(m) for m in maps]
    path = make(
        dense_features,
        task_info={"min": 0.0, "max": 400.0, "unit": "m"},
        train=(patches, positive),
        test=(patches, positive),
    )
    bins = Height(**TINY | {"head": "bins", "n_bins": 16})
    assert scored(bins.run(path, tmp_path / "s", device="cpu"))["mae"].value < 100
    data = bins._open(path, "test")
    from strata.eval.protocols.depth import Readout

    regression = Readout("regression", -1e4, 1.0, 1)  # predicts far below zero
    decoder = DPTDecoder(torch.zeros(24), torch.ones(24), GRID, DecoderShape((2, 1), (8, 8), 8, 8), 1, 0)
    assert bins._predict(decoder, regression, data, 0, torch.device("cpu"))[0].min() == 0.0


def test_the_decoder_reads_every_block_and_the_class_token_and_no_other_place():
    torch.manual_seed(0)
    shape = DecoderShape((1, 0.5), (8, 8), 8, 8)
    decoder = DPTDecoder(torch.zeros(24), torch.ones(24), GRID, shape, 3, seed=1)
    tokens = torch.randn(1, 16, 12).repeat(1, 1, 2)
    out = decoder(tokens)
    assert out.shape == (1, 3, 16, 16) and decoder.size == (16, 16)
    for columns in (
        slice(0, 6),
        slice(6, 12),
        slice(12, 18),
        slice(18, 24),
    ):  # patches of two blocks, then class tokens
        moved = tokens.clone()
        moved[:, :, columns] += 1
        assert not torch.allclose(decoder(moved), out), columns
    again = DPTDecoder(torch.zeros(24), torch.ones(24), GRID, shape, 3, seed=1)
    assert torch.equal(again(tokens), out) and not torch.equal(
        DPTDecoder(torch.zeros(24), torch.ones(24), GRID, shape, 3, seed=2)(tokens), out
    )
    assert DecoderShape((4, 2, 1, 0.5), (1,) * 4, 2, 1).output((16, 16)) == (256, 256), "DPT: 16 px a patch"


def test_roots_of_heights_below_zero_come_back(dense_features, tmp_path):
    heights = torch.tensor([-400.0, -0.25, 0.0, 9.0, 5000.0])
    roots = signed_root(heights)
    torch.testing.assert_close(roots, torch.tensor([-20.0, -0.5, 0.0, 3.0, 5000.0**0.5]))
    torch.testing.assert_close(roots * roots.abs(), heights)
    found = scored(Height(**TINY | {"head": "root"}).run(make(dense_features), tmp_path / "s", device="cpu"))
    assert found["r2"].value > 0.4 and found["mae"].value > 20, "heights, not roots, are scored"


def test_what_overlaps_is_held_out_together():
    values = np.repeat(["a", "b", "c", "d", "e"], [4, 1, 3, 5, 7])
    for seed in range(20):
        held, fitted = held_out_groups(values, 0.3, seed)
        assert sorted([*held, *fitted]) == list(range(20)) and not set(values[held]) & set(values[fitted])
        assert len(held) >= 6 and len(fitted)
        one_less = [len(held) - (values == value).sum() for value in set(values[held])]
        assert min(one_less) < 6, "no more than is needed"
    assert {held_out_groups(values, 0.3, seed)[0].tobytes() for seed in range(20)} != {
        held_out_groups(values, 0.3, 0)[0].tobytes()
    }
    with pytest.raises(ConfigError, match=r"protocol\.holdout_by: all images are of 'a'"):
        held_out_groups(np.repeat("a", 3), 0.3, 0)


def test_a_column_that_is_not_there_is_named(dense_features, tmp_path):
    with pytest.raises(DataError, match=r"protocol\.holdout_by: the images have no column 'block'"):
        Height(**TINY | {"holdout_by": "block"}).run(make(dense_features), tmp_path / "s", device="cpu")


def test_dropout_hides_whole_channels_in_training_only():
    shape = DecoderShape((1, 0.5), (8, 8), 8, 8, "ignore", 0.5)
    decoder = DPTDecoder(torch.zeros(24), torch.ones(24), GRID, shape, 1, seed=1)
    tokens = torch.randn(1, 16, 24)
    torch.manual_seed(0)
    first, second = decoder.train()(tokens), decoder(tokens)
    assert not torch.equal(first, second) and torch.equal(decoder.eval()(tokens), decoder(tokens))
    moved = tokens.clone()
    moved[:, :, 12:] += 1  # class tokens
    assert torch.equal(decoder(moved), decoder(tokens)), "readout=ignore"


@pytest.mark.parametrize(
    ("options", "field"),
    [
        ({"factors": (3.5, 1)}, "factors"),
        ({"factors": ()}, "factors"),
        ({"widths": (8,)}, "widths"),
        ({"fusion": 1}, "fusion"),
        ({"head": "softmax"}, "head"),
        ({"readout": "max"}, "readout"),
        ({"dropout": 1.0}, "dropout"),
        ({"learning_rates": (0.0,)}, "learning_rates"),
        ({"steps": 0}, "steps"),
        ({"holdout": 1.0}, "holdout"),
        ({"block": 0}, "block"),
        ({"crop": -1}, "crop"),
    ],
)
def test_bad_options_are_named(options, field):
    with pytest.raises(ConfigError) as found:
        Height(**TINY | options)
    assert found.value.field == f"protocol.{field}"


def test_what_cannot_be_scored_says_so(dense_features, tmp_path):
    flat = hills(0)[0], [np.full((16, 16), 3.0, np.float32)] * 24
    for name, test, options, said in (
        ("flat", flat, {}, "all true heights of test of toy are equal"),
        ("sea", (flat[0], [np.full((16, 16), np.nan, np.float32)] * 24), {}, "no pixel of the test maps of toy"),
        ("small", hills(1), {"block": 50, "crop": 3}, "holds a whole block of 50 pixels"),
    ):
        with pytest.raises(DataError, match=said):
            Height(**TINY | {"steps": 2} | options).run(
                make(dense_features, name, train=hills(0), test=test),
                tmp_path / f"s-{name}",
                device="cpu",
                benchmark="toy",
            )
    with pytest.raises(ConfigError, match=r"protocol\.head.*no.*range|'bins' needs a range"):
        Height(**TINY | {"head": "bins"}).run(make(dense_features, "bins"), tmp_path / "s", device="cpu")
    with pytest.raises(DataError, match="reads the patch tokens of 3 blocks"):
        Height(**TINY | {"factors": (2, 1, 0.5), "widths": (8, 8, 8)}).run(
            make(dense_features, "three"), tmp_path / "t", device="cpu"
        )
    with pytest.raises(ConfigError, match=r"protocol\.learning_rates: every decoder diverged"):
        Height(**TINY | {"learning_rates": (1e30,)}).run(make(dense_features, "far"), tmp_path / "d", device="cpu")
    assert Features.open(make(dense_features, "last"), "ood").grid == GRID
