"""iNaturalist 2018 and 2021: images by the competition's JSON, in COCO's layout."""

import json
from typing import Any

from strata.curation.errors import ConfigError, DataError
from strata.eval.layouts.files import FilesPool, check_files, need, open_root

LAYOUT = (
    "ROOT/train_val2018/... and ROOT/{train2018,val2018}.json; 2021: ROOT/{train,val}/... and ROOT/{train,val}.json"
)


def inaturalist(root: str, annotations: str) -> FilesPool:
    """Images of a JSON with ``images`` (id, file_name), ``annotations`` (image_id, category_id) and ``categories`` (id, name).

    Source: visipedia/inat_comp#2018, #2021.

    Args:
        root: folder that file names are relative to.
        annotations: e.g. "train2018.json", below the root.

    Raises:
        ConfigError: it is not there in this layout. DataError: the JSON does not fit itself.
    """
    folder = open_root(root, LAYOUT)
    path = need(folder / annotations, LAYOUT)
    try:
        read: dict[str, Any] = json.loads(path.read_text())
        categories = sorted(read["categories"], key=lambda category: category["id"])
        class_of_image = {entry["image_id"]: entry["category_id"] for entry in read["annotations"]}
        images = [(image["id"], image["file_name"]) for image in read["images"]]
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise ConfigError(
            "pool.annotations", f"{path} cannot be read ({error!r})", f"the layout is {LAYOUT}"
        ) from error
    number = {category["id"]: i for i, category in enumerate(categories)}
    lost = [name for image, name in images if class_of_image.get(image) not in number]
    if lost:
        raise DataError(
            f"pool.annotations: {len(lost)} images of {path} have no category, first {lost[0]!r}; fetch it again"
        )
    files = [name for _, name in images]
    check_files(folder, files, LAYOUT)
    names = [str(category.get("name", category["id"])) for category in categories]
    labels = [number[class_of_image[image]] for image, _ in images]
    return FilesPool(
        path.stem, folder, files, labels, names, about={"layout": "inaturalist", "annotations": annotations}
    )
