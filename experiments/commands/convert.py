"""`strata convert`: a hierarchy from the folders of Meta's code, or into them."""

from typing import Any

from strata.curation.errors import ConfigError
from strata.curation.meta_layout import write_meta_layout
from strata.experiments.commands.sample import open_hierarchy
from strata.experiments.console.app import app
from strata.experiments.settings.checks import one_of
from strata.experiments.settings.embeddings import open_embeddings
from strata.experiments.settings.places import new_folder


@app("convert")
def main(config: dict[str, Any]) -> None:
    """Read ``tree`` in one layout and write it to ``out`` in another."""
    if config["out"] is None:
        raise ConfigError("out", "not given", "add out=FOLDER")
    out = new_folder(config["out"], "out")
    one_of("to", config["to"], ("strata", "meta"))
    if not isinstance(config["pickled_clusters"], bool):
        raise ConfigError("pickled_clusters", f"{config['pickled_clusters']!r}", "use true or false")
    if config["pickled_clusters"] and config["to"] != "meta":
        raise ConfigError("pickled_clusters", f"true, but to is {config['to']}", "add to=meta")
    rows = None if config["embeddings"] is None else open_embeddings(config["embeddings"], "embeddings")[0]
    hierarchy = open_hierarchy(config, rows)
    if config["to"] == "meta":
        write_meta_layout(hierarchy, out, pickled_clusters=config["pickled_clusters"])
    else:
        hierarchy.save(out, config={name: config[name] for name in ("tree", "layout", "embeddings")})
    print(f"{hierarchy.n:,} rows, {' / '.join(f'{k:,}' for k in hierarchy.n_clusters)} clusters\nhierarchy  {out}")
