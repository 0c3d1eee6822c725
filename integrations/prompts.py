"""The prompts that `make data` and a run write, as other people's tools need them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

COLUMNS = ["data_source", "prompt", "reward_model", "extra_info"]


def read_prompts(path: str | Path, corpus: str | None = None) -> list[dict[str, Any]]:
    """Rows of a file of prompts, with what a score needs of each.

    Args:
        path: a Parquet file of `data_prep.rows.SCHEMA`.
        corpus: whose rows; None: all.

    Raises:
        ValueError: there is no such file, it is another one, or it has no such row.
    """
    if not Path(path).is_file():
        raise ValueError(f"there is no {path}")
    wanted = None if corpus is None else [("data_source", "==", corpus)]
    try:
        rows = pq.read_table(path, columns=COLUMNS, filters=wanted).to_pylist()
    except pa.ArrowInvalid as error:  # no Parquet, or a column is not there
        reason = str(error).splitlines()[0][:200]
        raise ValueError(f"{path} is no file of prompts as `make data` writes them ({reason})") from None
    if not rows:
        raise ValueError(f"{path} has no row" + (f" of {corpus}" if corpus else ""))
    return rows
