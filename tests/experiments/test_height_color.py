"""The baseline that knows color only: it learns what color tells, and the table says who is better."""

import numpy as np
import pytest
from PIL import Image

from strata.curation.errors import ConfigError
from strata.eval.height_metrics import HeightErrors
from strata.experiments.benchmarks.height_color import decoder_values, fit_color, report, score


class Painted:
    """Height is 10 times red, where there is land; the rest of the color is noise."""

    def __init__(self, seed):
        rng = np.random.default_rng(seed)
        self.pictures = rng.integers(0, 256, (6, 16, 16, 3), dtype=np.uint8)
        self.land = rng.random((6, 16, 16)) < 0.7

    def __len__(self):
        return 6

    def __getitem__(self, row):
        return Image.fromarray(self.pictures[row])

    def target(self, row):
        return np.where(self.land[row], 10.0 * self.pictures[row, ..., 0], np.nan).astype(np.float32)


def test_what_color_tells_is_learned_and_scored_on_land_only():
    predict = fit_color(Painted(0))
    found = score(predict, Painted(1), block=4, crop=0)
    assert found.r2 > 0.98 and found.n_pixels == Painted(1).land.sum()
    shuffled = Painted(2)
    shuffled.pictures = shuffled.pictures[..., [1, 2, 0]]
    shuffled.target = Painted(2).target
    assert score(predict, shuffled, block=4, crop=0).r2 < 0


def test_table_says_who_is_better_beyond_the_interval(tmp_path):
    lines = ["arm,seed,group,metric,value"]
    for seed, (r2, mae) in enumerate(((0.30, 90.0), (0.31, 91.0), (0.32, 92.0))):
        lines += [
            f"raw,{seed},globe_height_shift,height-v1 r2,{r2}",
            f"raw,{seed},globe_height_shift,height-v1 mae,{mae}",
        ]
        lines += [f"raw,{seed},globe_height_shift,height-v1 r2_ood,{r2 - 0.12}", f"raw,{seed},aid,knn-v1 top1,0.4"]
    lines.append("flat,0,globe_height_shift,height-v1 r2,")
    (tmp_path / "values.csv").write_text("\n".join(lines) + "\n")
    decoded = decoder_values(tmp_path / "values.csv")
    assert decoded["raw", "r2"] == [0.30, 0.31, 0.32] and ("flat", "r2") not in decoded
    color = {split: HeightErrors(100.0, 120.0, 0.0, 0.2, 0.25, 10, 2) for split in ("train", "test_id", "test_ood")}
    row = next(line for line in report(color, decoded, "me").splitlines() if "decoder, raw" in line)
    cells = [cell.strip() for cell in row.split("|")[2:-1]]
    assert cells == ["**0.310 ± 0.025**", "not run", "**91.0 ± 2.5**", "0.190 ± 0.025", "not run", "not run"]
    (tmp_path / "empty.csv").write_text("arm,seed,group,metric,value\n")
    with pytest.raises(ConfigError, match="holds no height-v1 on globe_height_shift"):
        decoder_values(tmp_path / "empty.csv")
