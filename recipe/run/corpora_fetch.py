"""MELD and EmoryNLP, as `make download` fetches them, where nobody has named a folder of corpora."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from data_prep.download import FILES, fetch
from rewards.labels import LABELS


def choose_folder(config: Any) -> bool:
    """Let ``raw_dir`` be the folder of ``download`` where it is null, and say whether that was so."""
    if config.raw_dir or not config.download:
        return False
    config.raw_dir = str(Path(config.download).expanduser().resolve())
    return True


def fetch_corpora(config: Any) -> None:
    """Fetch what is missing of MELD and EmoryNLP; other files of a corpus, and IEMOCAP, are left as they are.

    Raises:
        DownloadError: a file cannot be had, or is another one.
    """
    folder = Path(config.raw_dir)
    names = [name for name in config.corpora or LABELS if not _is_other(folder / name)]
    wanted = [remote for remote in FILES if remote.target.partition("/")[0] in names]
    missing = [remote for remote in wanted if not (folder / remote.target).exists()]
    if missing:
        size = sum(remote.size for remote in missing) / 2**20
        print(
            f"no RAW_DIR is given: fetching MELD and EmoryNLP into {folder} ({len(missing)} files, "
            f"{size:.1f} MiB, checked); IEMOCAP has to be asked for (make download), and is used "
            "where it lies there",
            flush=True,
        )
    for remote in missing:
        fetch(remote, folder)


def _is_other(corpus: Path) -> bool:
    """Whether somebody has put other files there than those that are fetched, whole or begun."""
    ours = {Path(remote.target).name for remote in FILES}
    # What pooch is fetching has a name of `tempfile`'s.
    return corpus.is_dir() and any(p.name not in ours and p.suffix for p in corpus.iterdir())
