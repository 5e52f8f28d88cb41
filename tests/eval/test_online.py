"""The probe of a live network gives the scores of the same weights evaluated from a folder."""

import json

import numpy as np
import pytest
import torch

from strata.curation.encoders.backbone import load_backbone as load_network
from strata.curation.errors import ConfigError
from strata.eval.backbone import load_backbone
from strata.eval.benchmarks import Benchmark
from strata.eval.extract import extract_features
from strata.eval.online import OnlineProbe
from strata.eval.protocols.knn import KNN
from strata.eval.protocols.segmentation import Segmentation

NAMES = ["a", "b", "c"]


@pytest.fixture
def benchmark(array_pool):
    return Benchmark("toy", array_pool(np.arange(40) % 3, NAMES, seed=1), array_pool(np.arange(20) % 3, NAMES, seed=2))


def test_equals_the_folder_and_leaves_the_network_alone(backbone_folder, benchmark, tmp_path):
    config = json.loads((backbone_folder / "config.json").read_text())["pretrained_cfg"]
    network = load_network(backbone_folder)
    network.train()
    network.blocks[1].eval()
    modes = [module.training for module in network.modules()]
    before = {name: value.clone() for name, value in network.state_dict().items()}
    torch.manual_seed(3)
    expected_draw = torch.rand(3)
    torch.manual_seed(3)
    probe = OnlineProbe(
        {"toy": benchmark}, {"knn": KNN(k=(5,), headline_k=5)}, size=16, mean=config["mean"], std=config["std"]
    )
    found = probe(network)
    assert torch.equal(torch.rand(3), expected_draw)
    assert [module.training for module in network.modules()] == modes
    assert all(torch.equal(before[name], value) for name, value in network.state_dict().items())
    assert all(parameter.requires_grad for parameter in network.parameters())
    features = extract_features(
        load_backbone(backbone_folder, "cpu"), benchmark.splits, tmp_path / "f", device="cpu", dtype="float32"
    )
    top1 = KNN(k=(5,), headline_k=5).run(features, tmp_path / "s", device="cpu")[0]
    assert found == {"eval/knn/toy/top1": top1.value}


def test_a_benchmark_that_no_protocol_scores(benchmark):
    with pytest.raises(ConfigError, match=r"online\.protocols: no protocol of segmentation is for classification"):
        OnlineProbe({"toy": benchmark}, {"segmentation": Segmentation()}, size=16, mean=[0.5] * 3, std=[0.5] * 3)
