"""Where `make annotate` puts what it has made: a folder, or one table with its page, whole or not at all."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from data_prep.files import commit
from recipe.annotation.task import differences
from recipe.run.files import read_json

#: Tables by the ending of their files.
_TABLES = {".csv": "csv", ".jsonl": "jsonl"}
#: Endings that no folder has, and that are not written.
_NO_TABLES = {".json", ".txt", ".tsv", ".ndjson", ".html", ".xlsx", ".xls", ".parquet", ".yaml"}


@dataclass(frozen=True)
class Output:
    """The files of an output.

    Attributes:
        out: as it was asked for.
        tables: ``csv`` and ``jsonl``, or one of them -> path.
        page, about: their paths.
        is_folder: whether all of them lie in ``out`` and nothing else does.
    """

    out: Path
    tables: Mapping[str, Path]
    page: Path
    about: Path
    is_folder: bool

    @property
    def work(self) -> Path:
        """The folder of what is being made, beside it."""
        return self.out.with_name(f"{self.out.name}.work")

    @property
    def files(self) -> dict[str, Path]:
        """All files by name; what says that the others are somebody's own first, the tables last."""
        return {"about": self.about, "page": self.page, **self.tables}

    def is_finished(self, of: Mapping[str, Any]) -> bool:
        """Is it there, made of the very same?

        Raises:
            ValueError: something else is there; nothing of it is overwritten.
        """
        if not self._is_begun():
            return False
        before = read_json(self.about, {}, f"give another OUT=..., or delete {self.out}").get("of")
        if not isinstance(before, dict):
            raise ValueError(f"{self.out} is there already, and not of make annotate; give another OUT=...")
        if changed := differences(before, of):
            raise ValueError(
                f"{self.out} holds annotations that were made otherwise (other {', '.join(changed)}); give "
                "another OUT=..., or delete it"
            )
        return all(path.is_file() for path in self.files.values())

    def write(self, fill: Callable[[Mapping[str, Path]], None]) -> None:
        """Let ``fill`` write all files in the folder of what is being made, then put them in their places.

        Args:
            fill: is given a path for each of `files`.
        """
        made = self.work / "output"
        shutil.rmtree(made, ignore_errors=True)
        made.mkdir()
        fill({name: made / path.name for name, path in self.files.items()})
        if self.is_folder:
            commit(made, self.out)
            return
        for path in self.files.values():
            commit(made / path.name, path)

    def _is_begun(self) -> bool:
        if self.is_folder:
            return self.out.exists() and (not self.out.is_dir() or any(self.out.iterdir()))
        return any(path.exists() for path in self.files.values())


def output_at(out: str) -> Output:
    """An output from OUT as it is typed.

    Raises:
        ValueError: it ends like a file that is not written, or is no name.
    """
    path = Path(out).expanduser().absolute()
    if not path.name or path.name.startswith(".") or not path.name.isprintable():
        raise ValueError(f"OUT={out!r} must name a folder, or a file of {' or '.join(_TABLES)}")
    ending = path.suffix.lower()
    if ending in _NO_TABLES:
        raise ValueError(f"OUT={out!r}: {ending} is not written; name a folder, or a {' or '.join(_TABLES)}")
    if kind := _TABLES.get(ending):
        page, about = (path.with_suffix(end) for end in (".html", ".about.json"))
        return Output(path, {kind: path}, page, about, is_folder=False)
    tables = {kind: path / f"annotations{end}" for end, kind in _TABLES.items()}
    return Output(path, tables, path / "annotations.html", path / "about.json", is_folder=True)
