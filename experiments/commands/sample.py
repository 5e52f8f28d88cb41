"""`strata sample`: a hierarchy of clusters in, a balanced subset out; also of the folders of Meta's code."""

from typing import Any

from strata.curation.errors import ConfigError, DataError
from strata.curation.hierarchy import Hierarchy
from strata.curation.meta_layout import read_meta_layout, write_meta_selection
from strata.curation.subset import Selection, write_subset
from strata.experiments.console.app import app
from strata.experiments.planning.own_data import subset_size
from strata.experiments.settings.checks import one_of, whole
from strata.experiments.settings.embeddings import ids_and_labels, open_embeddings
from strata.experiments.settings.places import folder, new_folder


@app("sample")
def main(config: dict[str, Any]) -> None:
    """Draw ``target`` rows and write them to ``out``."""
    if config["out"] is None:
        raise ConfigError("out", "not given", "add out=FOLDER")
    out, size = new_folder(config["out"], "out"), subset_size(config)
    whole("target", size, 1)
    whole("seed", config["seed"], 0, 2**32 - 1)
    rows = None if config["embeddings"] is None else open_embeddings(config["embeddings"], "embeddings")[0]
    hierarchy = open_hierarchy(config, rows)
    if rows is not None and rows.shape[0] != hierarchy.n:
        raise ConfigError("embeddings", f"{rows.shape[0]} rows, and the tree has {hierarchy.n}", "give its own")
    try:
        drawn = hierarchy.sample(size, config["allocation"], config["within"], config["max_repeats"], config["seed"])
    except ConfigError as error:
        raise ConfigError(error.field.removeprefix("sample."), error.problem, error.fix) from error
    ids, labels, names = ids_and_labels(range(hierarchy.n) if rows is None else rows)
    given = {name: config[name] for name in ("tree", "layout", "allocation", "within", "max_repeats", "seed")}
    write_subset(out, Selection.of(drawn), ids=ids, labels=labels, label_names=names, hierarchy=hierarchy, config=given)
    print(f"{len(drawn):,} of {hierarchy.n:,} rows, {' / '.join(f'{k:,}' for k in hierarchy.n_clusters)} clusters")
    print(f"subset  {out / 'subset.parquet'}\nrows    {out / 'indices.npy'}")
    if config["meta_selection"] is not None:
        file = write_meta_selection(
            drawn,
            folder(config["meta_selection"], "meta_selection"),
            n_levels=hierarchy.n_levels,
            within=config["within"],
            max_repeats=config["max_repeats"],
        )
        print(f"meta    {file}")


def open_hierarchy(config: dict[str, Any], embeddings: Any) -> Hierarchy:
    """The hierarchy that ``tree`` names, in either layout. Raises a ConfigError if it cannot be read."""
    place = folder(config["tree"], "tree")
    one_of("layout", config["layout"], ("strata", "meta"))
    if not isinstance(config["allow_pickle"], bool):
        raise ConfigError("allow_pickle", f"{config['allow_pickle']!r} is neither yes nor no", "use true or false")
    try:
        if config["layout"] == "meta":
            return read_meta_layout(place, embeddings=embeddings, allow_pickle=config["allow_pickle"])
        return Hierarchy.load(place)
    except DataError as error:
        said = str(error).replace("pass allow_pickle=True", "add allow_pickle=true")
        raise DataError(f"tree: {said}") from error
