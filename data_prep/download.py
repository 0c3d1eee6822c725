"""Fetch MELD and EmoryNLP with pooch: pinned versions, checked, whole or not at all.

`python -m data_prep.download RAW_DIR` (`make download RAW_DIR=...`). IEMOCAP is given out under a signed
licence only; what to do about it is printed.
"""

from __future__ import annotations

import argparse
import sys
from dataclasses import dataclass
from pathlib import Path

from data_prep.files import sha256

BASE = "https://raw.githubusercontent.com/declare-lab/MELD"
#: Times that a file is asked for, and seconds without a byte after which an attempt has failed.
_ATTEMPTS, _TIMEOUT = 3, 30

IEMOCAP = """IEMOCAP cannot be downloaded by a program. To use it:
  1. ask for the release at https://sail.usc.edu/iemocap/iemocap_release.htm (a licence form);
  2. unpack it, so that {raw_dir}/iemocap/Session1/dialog/transcriptions and .../EmoEvaluation are
     there, up to Session5 (sound and video are not needed).
The usual split comes with this project; {raw_dir}/iemocap_split.json takes its place:
  {{"train": ["Ses01F_impro01", ...], "dev": [...], "test": [...]}}."""


class DownloadError(ValueError):
    """A file could not be had; the message names its address and the remedy."""


@dataclass(frozen=True)
class Remote:
    """One file.

    Attributes:
        target: below RAW_DIR.
        path: below `BASE`, beginning with the commit that is pinned.
        size: in bytes.
        sha256: of the whole file, line endings as they are (MELD: CR LF, EmoryNLP: LF).
    """

    target: str
    path: str
    size: int
    sha256: str


FILES = (
    Remote(
        "meld/train_sent_emo.csv",
        "ca3e1266db4cc4a4e802156e2f721c4cd114a696/data/MELD/train_sent_emo.csv",
        1_119_290,
        "d2fa2d6529cf03cac2989efec05c9b27d8fd2f4c8fc5974c7ae88aa537fa02db",
    ),
    Remote(
        "meld/dev_sent_emo.csv",
        "ca3e1266db4cc4a4e802156e2f721c4cd114a696/data/MELD/dev_sent_emo.csv",
        121_640,
        "2e89c6f8aa182d6f62f8c6331aece905ac7273ca4999660bfb5213e1d0370c1c",
    ),
    Remote(
        "meld/test_sent_emo.csv",
        "76e4ed20032322e47bbe04d3b5179f9b2e35bec9/data/MELD/test_sent_emo.csv",
        294_526,
        "8d37103938f7067600839fe29d5a114a6cd1bcdafb75bec101e06464c5006888",
    ),
    # EmoryNLP's files stood at the top of the repository when they came in; data/emorynlp/ came later.
    Remote(
        "emorynlp/emorynlp_train_final.csv",
        "a0e0589835bd5204c3b1e2fcbc852f181e2086ea/emorynlp_train_final.csv",
        771_777,
        "462c66c333783adb801836d12d1424f48489bef4fb8ddfec7fbb2f08ce8211d5",
    ),
    Remote(
        "emorynlp/emorynlp_dev_final.csv",
        "a0e0589835bd5204c3b1e2fcbc852f181e2086ea/emorynlp_dev_final.csv",
        93_130,
        "20edc9d5917fe705b17b849f7f288e495d4132a60353a6247c3800445bdf8734",
    ),
    Remote(
        "emorynlp/emorynlp_test_final.csv",
        "a0e0589835bd5204c3b1e2fcbc852f181e2086ea/emorynlp_test_final.csv",
        100_280,
        "dbc4b5638acd12c92a5f48def829e04f1c765cddffb4eedbe34216312e0d2d78",
    ),
)


def fetch(remote: Remote, raw_dir: str | Path, base: str = BASE) -> bool:
    """Make sure that one file is there, whole and right; what is there under its name is never overwritten.

    Args:
        remote: which file.
        raw_dir: the folder of the corpora.
        base: address that the remote's path is below.

    Returns:
        Whether it had to be fetched.

    Raises:
        DownloadError: the file that is there is another one, or the address does not give the right one.
    """
    url, target = f"{base}/{remote.path}", Path(raw_dir) / remote.target
    if target.exists():
        if sha256(target) != remote.sha256:
            raise DownloadError(
                f"{target} is there, but is not the file of {url} (SHA-256 {remote.sha256}); move it away "
                "and run this again, or keep it: the readers take it as it is"
            )
        return False
    import pooch
    import requests

    pooch.get_logger().setLevel("WARNING")  # what is fetched is said by the bar, and by the command
    by_hand = f"fetch {url} on a machine that can, put it at {target} and run this again to check it"
    files = pooch.create(
        path=target.parent,
        base_url=base,
        registry={target.name: f"sha256:{remote.sha256}"},
        urls={target.name: url},
        retry_if_failed=_ATTEMPTS - 1,
    )
    bar = sys.stderr.isatty()
    try:
        files.fetch(target.name, downloader=pooch.HTTPDownloader(progressbar=bar, timeout=_TIMEOUT))
    except requests.HTTPError as error:
        assert error.response is not None
        status = error.response.status_code
        raise DownloadError(f"{url} answers status {status}; is it still there? Else {by_hand}") from None
    except OSError as error:  # of the network: requests' own are such, too
        raise DownloadError(
            f"{url} cannot be had ({error}, {_ATTEMPTS} attempts): check the network and a proxy "
            f"(https_proxy), or {by_hand}"
        ) from None
    except ValueError:  # pooch's word for a wrong checksum
        raise DownloadError(
            f"{url} gives another file than the one with SHA-256 {remote.sha256}; a proxy or login page may "
            f"stand between: {by_hand}"
        ) from None
    return True


def main() -> int:
    """Command line of `make download`."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("raw_dir", type=Path, help="where meld/ and emorynlp/ shall lie")
    args = parser.parse_args()
    try:
        for remote in FILES:
            print(
                f"{remote.target}: {'fetched' if fetch(remote, args.raw_dir) else 'is there'}, checksum right"
            )
    except DownloadError as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    if not (args.raw_dir / "iemocap").is_dir():
        print(IEMOCAP.format(raw_dir=args.raw_dir))
    return 0


if __name__ == "__main__":
    sys.exit(main())
