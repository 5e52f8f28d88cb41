"""All readers through one spawned DataLoader worker."""

import io
import struct

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from PIL import Image
from torch.utils.data import DataLoader

from strata.curation.pools.concat import ConcatPool
from strata.curation.pools.digits import DigitsPool
from strata.curation.pools.folder import ImageFolderPool
from strata.curation.pools.hf import HFDatasetPool
from strata.curation.pools.long_tail import LongTailPool
from strata.curation.pools.parquet import ParquetPool
from strata.curation.pools.rendered import RenderedPool
from strata.curation.pools.subset import SubsetPool
from strata.curation.pools.torchvision_set import TorchvisionPool


def png(value):
    stream = io.BytesIO()
    Image.new("RGB", (4, 4), (value, 9, 9)).save(stream, "PNG")
    return stream.getvalue()


def every_kind(root):
    import datasets

    (root / "folder").mkdir()
    (root / "folder/a.png").write_bytes(png(1))
    image = [{"bytes": png(i), "path": None} for i in range(6)]
    pq.write_table(pa.table({"image": image, "label": [0, 0, 0, 1, 1, 1]}), root / "train-00000-of-00001.parquet")
    datasets.Dataset.from_dict({"image": [png(5)], "label": [0]}).save_to_disk(str(root / "saved"))
    raw = root / "tv/MNIST/raw"
    raw.mkdir(parents=True)
    for name, array in (("images-idx3", np.full((2, 28, 28), 7)), ("labels-idx1", np.array([3, 4]))):
        shape = struct.pack(f">HBB{array.ndim}I", 0, 8, array.ndim, *array.shape)
        for half in ("train", "t10k"):
            (raw / f"{half}-{name}-ubyte").write_bytes(shape + array.astype(np.uint8).tobytes())
    parquet = ParquetPool(str(root), "train")
    pools = [
        parquet,
        LongTailPool(parquet, 1.0),
        ImageFolderPool(str(root / "folder")),
        HFDatasetPool(str(root / "saved"), None),
        TorchvisionPool("MNIST", str(root / "tv")),
        SubsetPool(DigitsPool(), [3, 1]),
        RenderedPool(4),
    ]
    for pool in pools:
        pool[0]  # opens handles, which must not be pickled
    return ConcatPool({str(i): pool for i, pool in enumerate(pools)})


def test_same_images_from_a_spawned_worker(tmp_path):
    pool = every_kind(tmp_path)
    loader = DataLoader(pool, batch_size=7, num_workers=1, multiprocessing_context="spawn", collate_fn=list)
    there = [image.tobytes() for batch in loader for image in batch]
    assert there == [pool[row].tobytes() for row in range(len(pool))]
