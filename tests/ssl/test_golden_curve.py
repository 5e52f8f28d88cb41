"""A golden loss curve: 50 steps of the micro recipe on the CPU, committed as text.

`python tests/ssl/test_golden_curve.py` writes it anew: after a change of the recipe's maths or random numbers, which must
also raise ``VERSION`` of experiments/stages/pretrain.py. The images are drawn by numpy, so no image library plays a part.

How stable: one thread with AVX-512, AVX2 and no vector instructions of torch (ATEN_CPU_CAPABILITY=default) differed by at
most 5e-6 in a loss near 10, two threads by as little: 1e-5 of the loss leaves a factor of ten to other CPUs. After some
40 steps rounding may exchange a nearest neighbor of KoLeo, which jumps (seen: .0006 of .038); hence the wider end.
"""

import json
import sys
import tempfile
from pathlib import Path

import numpy as np
from PIL import Image
from test_ssl_configs import recipe

from strata.ssl.image.config import ImageSSLConfig
from strata.ssl.image.pretrain import pretrain

GOLDEN = Path(__file__).parent / "golden" / "dinov2_micro.csv"
NAMES = ("loss", "loss_dino", "loss_ibot", "loss_koleo")


class Patterns:
    """128 images of 32 px: 4 x 4 blocks of random colors with some noise."""

    fingerprint = "patterns"

    def __len__(self):
        return 128

    def __getitem__(self, row):
        rng = np.random.default_rng(row)
        blocks = np.kron(rng.integers(0, 200, size=(4, 4, 3)), np.ones((8, 8, 1), dtype=np.int64))
        return Image.fromarray((blocks + rng.integers(0, 56, size=(32, 32, 3))).astype(np.uint8))

    def describe(self):
        return {"name": "patterns"}


def curve(folder):
    config = ImageSSLConfig(**recipe("dinov2_micro") | {"steps": 50})
    pretrain(
        config, Patterns(), np.arange(128), folder, seed=0, num_threads=1, log_every=1, progress=False, device="cpu"
    )  # fmt: skip
    log = [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]
    return np.array([[entry[name] for name in NAMES] for entry in log])


def test_micro_recipe_follows_the_golden_curve(tmp_path):
    golden = np.loadtxt(GOLDEN, delimiter=",", skiprows=1)
    assert golden.shape == (50, 1 + len(NAMES)) and golden[-1, 1] < 0.8 * golden[0, 1]
    found = curve(tmp_path / "run")
    np.testing.assert_allclose(found[:40], golden[:40, 1:], rtol=1e-5, atol=1e-5)
    np.testing.assert_allclose(found[40:], golden[40:, 1:], rtol=1e-3, atol=5e-3)


if __name__ == "__main__":
    sys.path.insert(0, str(Path(__file__).parent))
    with tempfile.TemporaryDirectory() as folder:
        table = curve(Path(folder) / "run")
    steps = np.arange(1, len(table) + 1)
    GOLDEN.parent.mkdir(exist_ok=True)
    np.savetxt(
        GOLDEN, np.column_stack([steps, table]), fmt=["%d"] + ["%.7f"] * len(NAMES), delimiter=",",
        header=",".join(("step", *NAMES)), comments="",
    )  # fmt: skip
