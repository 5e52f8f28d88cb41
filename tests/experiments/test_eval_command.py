"""`strata eval` for people who only want this: short names, several backbones of any library, one table, model cards."""

import json
from pathlib import Path

import pytest
import timm
import torch
import torchvision
from hydra import compose, initialize_config_module

from strata.curation.errors import ConfigError
from strata.experiments.cli import dispatch
from strata.experiments.console.eval_arguments import expand

SMALL = ["benchmarks.digits.limit_train=200", "runner.workers=0", "embed.batch_size=64"]


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """Checkpoint folders of timm, torchvision and transformers, with random weights."""
    import transformers as hf

    root = tmp_path_factory.mktemp("backbones")
    torch.manual_seed(0)
    vit = timm.create_model(
        "vit_tiny_patch16_224", img_size=16, patch_size=8, embed_dim=12, depth=4, num_heads=2, num_classes=3
    )
    arguments = {"img_size": 16, "patch_size": 8, "embed_dim": 12, "depth": 4, "num_heads": 2}
    vit.pretrained_cfg = {**vit.pretrained_cfg, "input_size": (3, 16, 16), "crop_pct": 1.0}
    timm.models.save_for_hf(vit, str(root / "timm_vit"), safe_serialization=True, model_args=arguments)
    (root / "resnet").mkdir()
    resnet = torchvision.models.resnet18(num_classes=2)
    torch.save(resnet.state_dict(), root / "resnet" / "model.pth")
    config = {
        "torchvision": "resnet18",
        "model_args": {"num_classes": 2},
        "transform": {"crop_size": 32, "resize_size": 32},
    }
    (root / "resnet" / "config.json").write_text(json.dumps(config))
    sizes = {"hidden_size": 16, "num_hidden_layers": 4, "num_attention_heads": 2, "image_size": 14, "patch_size": 7}
    hf.Dinov2Model(hf.Dinov2Config(**sizes)).save_pretrained(root / "dinov2")
    hf.ViTImageProcessor(size={"height": 14, "width": 14}).save_pretrained(root / "dinov2")
    return {name: root / name for name in ("timm_vit", "resnet", "dinov2")}


@pytest.fixture
def strata(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]):
    """`strata eval ...`: (exit code, stdout, stderr)."""
    monkeypatch.setenv("STRATA_RUNS", str(tmp_path / "runs"))
    monkeypatch.setenv("WANDB_MODE", "disabled")

    def run(*arguments: str) -> tuple[int, str, str]:
        code = dispatch(["eval", *arguments, *SMALL])
        out, err = capfd.readouterr()
        return code, out, err

    return run


def test_backbones_of_three_libraries_and_an_untrained_one(strata, folders: dict[str, Path], tmp_path: Path):
    named = {**{name: str(path) for name, path in folders.items()}, "control": f"untrained:{folders['timm_vit']}"}
    given = "backbone={" + ",".join(f"{label}:'{path}'" for label, path in named.items()) + "}"
    code, out, err = strata(given, "benchmark=digits", "protocol=[knn]", f"out={tmp_path / 'report'}")
    assert code == 0, err
    table = (tmp_path / "report" / "table.md").read_text()
    head = next(line for line in table.splitlines() if line.startswith("| benchmark"))
    assert [cell.strip() for cell in head.strip("|").split("|")] == [
        "benchmark",
        "protocol",
        "metric",
        "n",
        *named,
        *[f"{label} - control" for label in folders],
    ]
    assert table.splitlines()[0] in out
    records = json.loads((tmp_path / "report" / "scores.json").read_text())
    top1 = {r["backbone"]: r for r in records if r["metric"] == "top1"}
    assert set(top1) == set(named)
    for record in top1.values():
        assert record["ci_low"] <= record["value"] <= record["ci_high"] and record["n"] == 597
        assert record["value"] > 0.15, "digits are told from chance by any features"
    card = json.loads((tmp_path / "report" / "model_card_resnet.json").read_text())
    assert card["backbone"]["reads"] == "pooled features" and len(card["data"]["digits"]["test"]["fingerprint"]) == 64
    assert (tmp_path / "report" / "model_card_dinov2.md").read_text().startswith("## Evaluation: dinov2")
    features = list((tmp_path / "runs" / "store" / "features").glob("*/manifest.json"))
    assert len(features) == 2 * len(named)
    code, _, err = strata(given, "benchmark=digits", "protocol=[knn]")
    assert code == 0 and "0 stages ran" in err
    code, _, err = strata(f"backbone={folders['timm_vit']}", "benchmark=digits", "protocol=[linear_micro]")
    assert code == 0, err
    assert len(list((tmp_path / "runs" / "store" / "features").glob("*/manifest.json"))) == len(features), (
        "extracted once"
    )


def test_a_convolutional_network_is_refused_where_blocks_are_read(strata, folders: dict[str, Path], tmp_path: Path):
    code, out, err = strata(f"backbone={folders['resnet']}", "benchmark=digits", "protocol=linear")
    assert code == 2
    assert "protocols.linear.n_blocks: 4 blocks, but the features hold 1" in err
    assert not (tmp_path / "runs").exists()


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        (["benchmark=digits"], ["+benchmark@benchmarks.digits=digits"]),
        (["benchmark=[digits,pacs]"], ["+benchmark@benchmarks.digits=digits", "+benchmark@benchmarks.pacs=pacs"]),
        (["benchmark=digits,digits"], ["+benchmark@benchmarks.digits=digits"]),
        (["+benchmark@benchmarks.d=digits", "seed=1"], ["+benchmark@benchmarks.d=digits", "seed=1"]),
        (["~protocol@protocols.knn"], ["~protocol@protocols.knn"]),
    ],
)
def test_names_are_written_out(given: list[str], expected: list[str]):
    assert expand(given, []) == expected


def test_protocols_replace_the_defaults():
    found = expand(["benchmark=digits", "protocol=[knn,linear_micro]"], [])
    assert "+protocol@protocols.linear_micro=linear_micro" in found and "~protocol@protocols.linear" in found
    assert not any(text.endswith("protocols.knn") or text.endswith("knn=knn") for text in found)
    with initialize_config_module("strata.configs", version_base="1.3"):
        config = compose("eval", [*found, "backbone=x"])
    assert sorted(config.protocols) == ["knn", "linear_micro"] and sorted(config.benchmarks) == ["digits"]


def test_suites(tmp_path: Path):
    found = expand(["benchmark=finegrained12"], [])
    assert sum(text.startswith("+benchmark@") for text in found) == 12
    (mean,) = (text for text in found if text.startswith("+means."))
    assert mean.startswith("+means.finegrained12=[aircraft,") and mean.count(",") == 11
    (tmp_path / "suite").mkdir()
    (tmp_path / "suite" / "mine.yaml").write_text("benchmarks: [digits, rendered]\n")
    own = expand(["benchmark=[mine,pacs]"], [str(tmp_path)])
    assert own == [f"+benchmark@benchmarks.{name}={name}" for name in ("digits", "rendered", "pacs")]
    (tmp_path / "suite" / "mine.yaml").write_text("benchmarks: [digits, nope]\n")
    with pytest.raises(ConfigError, match="suite mine: there is no 'nope'"):
        expand(["benchmark=mine"], [str(tmp_path)])
    (tmp_path / "suite" / "mine.yaml").write_text("benchmarks: []\n")
    with pytest.raises(ConfigError, match="lists no benchmarks"):
        expand(["benchmark=mine"], [str(tmp_path)])


def test_help_lists_what_can_be_named(capfd: pytest.CaptureFixture[str]):
    assert dispatch(["eval", "--help"]) == 0
    said = capfd.readouterr().out
    for group, name in (("benchmark", "digits"), ("protocol", "knn"), ("suite", "finegrained12")):
        assert name in next(line for line in said.splitlines() if line.startswith(f"  {group} "))


def test_every_suite_composes():
    from strata import configs

    names = sorted(file.stem for file in (Path(configs.__path__[0]) / "suite").glob("*.yaml"))
    assert {"finegrained12", "small_sets"} <= set(names)
    for name in names:
        with initialize_config_module("strata.configs", version_base="1.3"):
            config = compose("eval", [*expand([f"benchmark={name}"], []), "backbone=x"])
        assert config.benchmarks and config.protocols, name
