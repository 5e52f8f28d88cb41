"""Texts in JSON Lines files."""

import codecs
import json
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from strata.curation.errors import ConfigError
from strata.curation.pools.base import UnreadableItem
from strata.curation.pools.content import Kind
from strata.curation.pools.find import find_files
from strata.curation.pools.fingerprint import digest_file, digest_json
from strata.curation.pools.items import check_row, pool_name, unique_ids
from strata.curation.pools.label_values import LateLabels
from strata.curation.pools.lines import LineFile

_LOOK = 100  # lines
ENDINGS = (".jsonl", ".ndjson", ".jsonl.gz", ".ndjson.gz")


class JsonlPool(LateLabels):
    """One JSON object per line, one of whose fields is the text. ``pool[row]`` is a ``str``.

    Opening reads each file once for its line ends; a line is parsed when it is asked for. Blank lines are no items.
    Every other line is one, also a bad one, which is unreadable: its id is ``<file>:<line number>``.

    Args:
        path: a file, a folder of such files, or a glob.
        text_field: the field with the text; ``raw_content`` in CCNet's files. The other fields are kept: ``column``, ``line``.
        id_field: a field with ids, made unique; None, or a line without it: ``<file>:<line number>``.
        label_field: a field with whole numbers or names; None for a pool without labels. A line without it has -1.
        name: defaults to the name of the file or folder.
        unpacked_mib: largest ``.gz`` file, unpacked, in MiB. Such a file is held in memory by every process.

    Raises:
        ConfigError: no such files, none holds a line, or the first lines have no such field. DataError: a ``.gz`` is damaged.
    """

    kind: Kind = "text"

    def __init__(
        self,
        path: str,
        text_field: str = "text",
        id_field: str | None = None,
        label_field: str | None = None,
        name: str | None = None,
        unpacked_mib: int = 2048,
    ) -> None:
        if not text_field:
            raise ConfigError("pool.text_field", "is empty", "name the field that holds the text")
        self._source, self._text_field, self._id_field, self._label_field = path, text_field, id_field, label_field
        files = find_files(path, ENDINGS)
        self._files = [LineFile(file, unpacked_mib << 20) for file in files]
        self._ends = np.cumsum([len(file) for file in self._files])
        if not self._ends[-1]:
            raise ConfigError("pool.path", f"{files[0]} holds no line", "give a file with one JSON object per line")
        self._look_for_text(files[0].name)
        self.name = pool_name(name, files[0].name.split(".")[0] if len(files) == 1 else files[0].parent.name)
        self._ids: list[str] | None = None
        self._fingerprint: str | None = None

    def __len__(self) -> int:
        return int(self._ends[-1])

    def __getitem__(self, row: int) -> str:
        """The text at a row.

        Raises:
            UnreadableItem: the line is no JSON object, or has no such field with text that UTF-8 can hold.
            IndexError: there is no such row.
        """
        record = self._record(check_row(row, len(self)))
        if not isinstance(record, dict):
            raise self._bad(row, record)
        if self._text_field not in record:
            fields = ", ".join(sorted(record)[:10]) or "none"
            raise self._bad(row, f"no field {self._text_field!r} (it has {fields})")
        text = record[self._text_field]
        if not isinstance(text, str):
            raise self._bad(row, f"field {self._text_field!r} is no text: {str(text)[:40]!r}")
        if not text.strip():
            raise self._bad(row, f"field {self._text_field!r} is empty")
        try:
            text.encode()
        except UnicodeEncodeError as error:
            raise self._bad(row, f"half a surrogate pair: {error}") from error
        return text

    @property
    def ids(self) -> Sequence[str]:
        """The id field, or ``<file>:<line number>``."""
        if self._ids is None:
            self._classes()  # one pass for both
        if self._ids is None:  # a pickle has labels and no ids
            self._label_values()
        assert self._ids is not None
        return self._ids

    @property
    def fingerprint(self) -> str:
        """Of the files' names and content (see ``fingerprint.py``) and the fields read."""
        if self._fingerprint is None:
            files = [[file.path.name, digest_file(file.path)] for file in self._files]
            fields = [self._text_field, self._id_field, self._label_field]
            self._fingerprint = digest_json({"reader": "jsonl", "files": files, "fields": fields})
        return self._fingerprint

    def column(self, name: str) -> NDArray[Any]:
        """Another field of every line, [n]: e.g. CCNet's ``url``, ``source_domain`` or ``perplexity``.

        A column of numbers is int64 or float64, any other object; a line without the field has NaN, or None.

        Raises:
            ConfigError: no line has such a field.
        """
        records = (self._record(row) for row in range(len(self)))
        values = [record.get(name) if isinstance(record, dict) else None for record in records]
        kinds = {type(value) for value in values} - {type(None)}
        if not kinds:
            raise ConfigError("column", f"no line of {self.name!r} has a field {name!r}", "name one of its fields")
        if kinds <= {int, float}:
            whole = kinds == {int} and None not in values
            return np.array(values, np.int64 if whole else np.float64)
        column = np.empty(len(values), object)
        column[:] = values
        return column

    def encoded(self, row: int) -> bytes:
        """The text as UTF-8. Raises UnreadableItem as ``pool[row]`` does."""
        return self[row].encode()

    def line(self, row: int) -> bytes:
        """The line as it is in the file, without its end."""
        file, index = self._where(check_row(row, len(self)))
        return file.line(index).removeprefix(codecs.BOM_UTF8)

    def describe(self) -> dict[str, Any]:
        """Reader, path as given, fields."""
        return {
            "reader": "jsonl",
            "path": str(self._source),
            "n_files": len(self._files),
            "text_field": self._text_field,
            "id_field": self._id_field,
            "label_field": self._label_field,
        }

    def _look_for_text(self, file: str) -> None:
        """Refuse a wrong name of the field at once. A line without it among others that have it is an item's own fault."""
        records = [self._record(row) for row in range(min(len(self), _LOOK))]
        fields = [set(record) for record in records if isinstance(record, dict)]
        if fields and not any(self._text_field in found for found in fields):
            seen = ", ".join(sorted(set.union(*fields))[:10]) or "none"
            raise ConfigError(
                "pool.text_field", f"no field {self._text_field!r} in {file} (fields: {seen})", "name one of its fields"
            )

    def __getstate__(self) -> dict[str, Any]:
        return self.__dict__ | {"_ids": None}

    def _where(self, row: int) -> tuple[LineFile, int]:
        index = int(np.searchsorted(self._ends, row, side="right"))
        return self._files[index], row - (int(self._ends[index - 1]) if index else 0)

    def _place(self, row: int) -> str:
        file, index = self._where(row)
        return f"{file.path.name}:{file.numbers[index]}"

    def _bad(self, row: int, why: str) -> UnreadableItem:
        file, index = self._where(row)
        return UnreadableItem(row, self._place(row), f"line {file.numbers[index]} of {file.path.name}: {why}")

    def _record(self, row: int) -> dict[str, Any] | str:
        """The object of a line, or what is wrong with the line."""
        try:
            record = json.loads(self.line(row))
        except (ValueError, RecursionError) as error:
            return f"no JSON: {error}"
        return record if isinstance(record, dict) else f"no JSON object: {str(record)[:40]!r}"

    def _label_values(self) -> Sequence[Any]:
        """See ``LateLabels``; the same pass finds the ids."""
        ids, labels = [], []
        for row in range(len(self)):
            record = self._record(row) if self._id_field or self._label_field else {}
            fields = record if isinstance(record, dict) else {}
            item = fields.get(self._id_field) if self._id_field else None
            ids.append(self._place(row) if item in (None, "") else str(item).encode(errors="backslashreplace").decode())
            labels.append(fields.get(self._label_field) if self._label_field else None)
        self._ids = unique_ids(ids)
        return labels
