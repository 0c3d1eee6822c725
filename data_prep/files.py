"""Files that are either whole or not there, and what identifies one."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Any


def write_text(path: str | Path, text: str) -> Path:
    """Write a file under a temporary name beside it, then rename it; returns its path."""
    path = Path(path)
    part = path.with_name(path.name + ".part")
    part.write_text(text, encoding="utf-8")
    return part.replace(path)


def write_json(path: str | Path, value: Any) -> Path:
    """`write_text` of JSON; numbers that JSON does not know (numpy's) become floats."""
    return write_text(path, json.dumps(value, indent=1, ensure_ascii=False, default=float))


def sha256(path: str | Path) -> str:
    """Checksum of a file's bytes, in hex."""
    with Path(path).open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
