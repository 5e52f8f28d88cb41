"""The tree of clusters (Fig. 5): who is shown, from sizes only; the way through at scale=tiny; the paper's own size as a plan."""

import csv
from pathlib import Path

import numpy as np
import pytest
from hydra import compose, initialize_config_module
from PIL import Image

from strata.curation.errors import ConfigError
from strata.curation.hierarchy import Hierarchy
from strata.experiments.declared import declare_absent
from strata.experiments.planning.plan import make_plan
from strata.experiments.reporting.report import write_report
from strata.experiments.reporting.tree_figure import draw_tree
from strata.experiments.reporting.tree_nodes import at_quantiles, tree_nodes
from strata.experiments.session import open_runner, open_store, plain


def composed(*overrides: str) -> dict:
    with initialize_config_module("strata.configs", version_base="1.3"):
        return plain(compose("run", list(overrides)))


def tiny(runs: Path, *overrides: str) -> dict:
    own = ["experiment=fig5_tree", "scale=tiny", f"paths.runs={runs}", "runner.workers=0", "wandb.mode=disabled"]
    return composed(*own, *overrides)


def test_clusters_at_quantiles_of_the_sizes():
    sizes = np.array([5, 0, 9, 1, 7, 3])  # without the empty one, by size: 3, 5, 0, 4, 2
    assert at_quantiles(sizes, [1, 0.75, 0.5, 0.25, 0]) == [2, 4, 0, 5, 3]
    assert at_quantiles(sizes, [0.5, 0.5]) == [0], "told once"
    assert at_quantiles(np.array([4, 4, 4]), [0, 1]) == [0, 2], "of equal sizes the lower id is the smaller"


def test_nodes_are_the_largest_children_and_their_nearest_rows():
    leaves = np.repeat([0, 1, 2, 3], [4, 2, 6, 0])
    distance = np.array([3, 1, 2, 4, 1, 0, 5, 4, 3, 2, 1, 0.5])
    hierarchy = Hierarchy.from_assignments(
        [leaves, [0, 0, 0, 0], [0]], distances=[distance, [0.1, 0.2, 0.3, 0.0], [0.0]]
    )
    # Level 1 declares four clusters only through the level above, so the last one is empty
    classes = np.array([7, 7, 7, 1, 2, 2, 3, 3, 3, 3, 3, -1])
    (root,) = tree_nodes(hierarchy, classes, level=3, quantiles=[0.5], children=2, images=3, root_images=9)
    assert (root.size, root.label, root.share, root.n_children) == (12, 3, pytest.approx(5 / 11), 1)
    (child,) = root.children
    assert child.n_children == 3 and [c.cluster for c in child.children] == [2, 0], (
        "largest first, the empty one is none"
    )
    assert child.children[0].rows == [11, 10, 9] and child.children[1].rows == [1, 2, 0], (
        "nearest to the centroid first"
    )
    assert child.rows == [1, 5, 11], "the nearest row of each of the nearest children"
    assert child.children[1].share == 0.75 and child.children[1].label == 7
    (bare,) = tree_nodes(hierarchy, None, level=1, quantiles=[1], children=2, images=2, root_images=2)
    assert bare.label == -1 and np.isnan(bare.share) and bare.children == [] and bare.cluster == 2


@pytest.fixture(scope="module")
def runs(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("runs")
    config = tiny(folder)
    plan = make_plan(config)
    # pool and embed, then per seed the clustering and three levels
    assert open_runner(config, open_store(config), plan.name).run(plan.stages) == (10, 0)
    return folder


def test_tiny_twin_runs_to_its_report(runs: Path, tmp_path: Path):
    config = tiny(runs)
    plan, store = make_plan(config), open_store(config)
    tables = write_report(plan, store, config, tmp_path)
    rows = {(row[0], row[1]): dict(zip(tables[0].columns, row, strict=True)) for row in tables[0].rows}
    assert list(rows) == [("digits", f"level_{level}") for level in (1, 2, 3)]
    assert rows["digits", "level_1"]["clusters"].startswith("40") and rows["digits", "level_3"]["kinship"] == "–"
    purities = [float(rows["digits", f"level_{level}"]["purity"].split()[0]) for level in (1, 2, 3)]
    assert purities == sorted(purities, reverse=True), "parts are at least as pure as the whole"
    assert tables[-1].rows[0][1] == "digits > 0" and tables[-1].rows[0][3].startswith("+")
    with open(tmp_path / "values.csv") as stream:
        values = {(v["group"], v["metric"], v["seed"]): v["value"] for v in csv.DictReader(stream)}
    assert values["level_3", "kinship", "0"] == "", "the top has no parents"
    said = float(values["level_1", "kinship_gain", "0"]) + float(values["level_2", "kinship_gain", "0"])
    assert 0 < said / 2 < 1
    with Image.open(tmp_path / "figure.png") as picture:
        pixels = np.asarray(picture.convert("L"))
    assert pixels.shape[1] > 500 and (pixels < 250).mean() > 0.1, "there are pictures on it"


def drawn(runs: Path, *overrides: str):
    """The figure's one pair of axes, laid out."""
    from matplotlib import pyplot

    config = tiny(runs, *overrides)
    plan, store = make_plan(config), open_store(config)
    figure = draw_tree(pyplot, [run for run in plan.runs if run.seed == 0], store, [], config)
    figure.canvas.draw()
    pyplot.close(figure)
    return figure.axes[0]


def test_nothing_lies_on_anything_else(runs: Path):
    axes = drawn(runs, "figure.quantiles=[1,0.5,0]")
    boxes = [text.get_window_extent() for text in axes.texts if text.get_text()]
    boxes += [picture.get_window_extent() for picture in axes.images]
    assert len(axes.images) >= 3 * 9
    for i, one in enumerate(boxes):
        assert axes.bbox.x0 <= one.x0 and one.x1 <= axes.bbox.x1 and axes.bbox.y0 <= one.y0 and one.y1 <= axes.bbox.y1
        for other in boxes[:i]:
            apart = one.x1 <= other.x0 + 1 or other.x1 <= one.x0 + 1 or one.y1 <= other.y0 + 1 or other.y1 <= one.y0 + 1
            assert apart, (i, one, other)


def test_only_the_classes_named_are_out_of_focus(runs: Path):
    """Half of the classes, then the other half: every image is out of focus in one of the two."""
    sharp, low, high = (
        drawn(runs),
        drawn(runs, "+figure.blur=['0','1']"),
        drawn(runs, f"+figure.blur={list('23456789')}"),
    )
    for plain_one, *others in zip(sharp.images, low.images, high.images, strict=True):
        same = [np.array_equal(plain_one.get_array(), other.get_array()) for other in others]
        assert sum(same) == 1


def test_numbers_are_those_of_the_tree_on_disk(runs: Path):
    """Purity of level 2 by a loop over the rows of the stored tree."""
    from strata.curation import EmbeddingStore
    from strata.experiments.comparison.measured_results import collect_measures

    config = tiny(runs)
    plan, store = make_plan(config), open_store(config)
    run = plan.runs[0]
    clusters = Hierarchy.load(store.path(run.sample)).labels(2)
    classes = EmbeddingStore.open(store.path(run.sample.inputs["embeddings"])).labels
    best = sum(np.bincount(classes[clusters == c]).max() for c in np.unique(clusters))
    found = {(v.group, v.metric): v.value for v in collect_measures(plan, store) if v.seed == run.seed}
    assert found["level_2", "purity"] == pytest.approx(best / len(classes))


def test_paper_scale_plans_the_tree_of_table_3(tmp_path, monkeypatch):
    monkeypatch.setenv("STRATA_DATA", str(tmp_path))
    plan = make_plan(declare_absent(composed("experiment=fig5_tree", "scale=paper")))
    table = make_plan(declare_absent(composed("experiment=table3_ablations", "scale=paper")))
    (run,) = plan.runs
    assert run.sample.work > 1e15 and run.sample.inputs["embeddings"].work == 743_000_000
    assert [stage.config["measure"]["level"] for stage in run.scores.values()] == [1, 2, 3, 4]
    assert run.sample.key in {stage.key for stage in table.stages}, "one clustering for both"
    assert not list(tmp_path.iterdir()), "a plan writes nothing"


@pytest.mark.parametrize(
    ("override", "field"),
    [
        ("figure.level=4", "figure.level"),
        ("figure.quantiles=[2]", "figure.quantiles"),
        ("figure.children=0", "figure.children"),
        ("+figure.arms=[mnist]", "figure.arms"),
        ("measures.level_3.level=4", "measures.level_3.level"),
        ("measured=subset", "measured"),
        ("encoder=backbone", "encoder"),
        ("table.rows=levels", "table.rows"),
        ("claims.kinship.above=much", "claims.kinship"),
        ("claims.kinship.order=[digits,digits]", "claims.kinship"),
    ],
)
def test_bad_input_names_the_field(tmp_path: Path, override: str, field: str):
    more = ["encoder.path=arm:digits"] if override == "encoder=backbone" else []
    with pytest.raises(ConfigError, match=f"^{field}"):
        make_plan(tiny(tmp_path, override, *more))
    assert not list(tmp_path.iterdir())


def test_texts_are_refused(tmp_path: Path):
    (tmp_path / "texts.jsonl").write_text("".join(f'{{"text": "word {i}"}}\n' for i in range(60)))
    text = [f"pool.path={tmp_path}/texts.jsonl", "encoder.n_components=4"]
    with pytest.raises(ConfigError, match=r"^pool: .* holds text, and a tree is drawn of images"):
        make_plan(tiny(tmp_path / "runs", "pool=jsonl", "encoder=hashed_text", *text))
