"""`conf/` as Hydra composes it, quickly: what is common once, every choice of groups once, values on top."""

from __future__ import annotations

import pickle
from functools import cache
from typing import Any

import omegaconf.base
import yaml
from hydra import initialize_config_dir
from hydra._internal.config_loader_impl import ConfigLoaderImpl
from hydra._internal.defaults_list import create_defaults_list
from hydra.core.global_hydra import GlobalHydra
from hydra.core.override_parser.overrides_parser import OverridesParser
from omegaconf import DictConfig, OmegaConf

from recipe.run.shortcuts import CONF

# Most of the time goes into reading: YAML, which libyaml reads alike, and the same few references again.
yaml.SafeLoader = yaml.CSafeLoader
omegaconf.base.parse = cache(omegaconf.base.parse)

#: Files that were read to find out which files a choice of groups takes.
_known: dict[str, Any] = {}
#: veRL's settings with `self_emo.yaml` on them, pickled, by the files that they come from: most of the work.
_merged: dict[tuple[str, ...], bytes] = {}


@cache
def _of_groups(groups: tuple[str, ...]) -> bytes:
    """Pickled: to read that again takes a quarter of what a copy does."""
    outer, GlobalHydra.instance().hydra = GlobalHydra.instance().hydra, None  # who asks may be in its block
    try:
        return _read(groups)
    finally:
        GlobalHydra.instance().hydra = outer


def _read(groups: tuple[str, ...]) -> bytes:
    with initialize_config_dir(str(CONF), version_base=None):
        loader = GlobalHydra.instance().config_loader()
        chosen, files = loader._parse_overrides_and_create_caching_repo("self_emo", list(groups))
        files.cache = _known
        found = create_defaults_list(files, "self_emo", chosen, prepend_hydra=True, skip_missing=False)
        ours = [file for file in found.defaults if not file.config_path.startswith("hydra/")]
        first = 1 + next(i for i, file in enumerate(ours) if file.primary)
        files.cache = {}  # a file that is merged becomes part of what it is merged into
        key = tuple(f"{file.config_path}@{file.package}" for file in ours[:first])
        if key not in _merged:
            _merged[key] = pickle.dumps(loader._compose_config_from_defaults_list(ours[:first], files))
        config = pickle.loads(_merged[key])
        config.merge_with(loader._compose_config_from_defaults_list(ours[first:], files))
        del config["hydra"]
        OmegaConf.set_struct(config, True)
        return pickle.dumps(config)


def composed(*overrides: str) -> DictConfig:
    """A configuration of one's own: values are laid over a copy by the function that Hydra itself uses."""
    groups = tuple(o for o in overrides if (CONF / o.partition("=")[0]).is_dir())
    config = pickle.loads(_of_groups(groups))
    values = OverridesParser.create().parse_overrides([o for o in overrides if o not in groups])
    ConfigLoaderImpl._apply_overrides_to_config(values, config)
    return config
