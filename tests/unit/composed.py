"""`conf/` as Hydra composes it, quickly: every choice of groups once, other values on top of it."""

from __future__ import annotations

import pickle
from functools import cache

import omegaconf.base
import yaml
from hydra import compose, initialize_config_dir
from hydra._internal.config_loader_impl import ConfigLoaderImpl
from hydra.core.override_parser.overrides_parser import OverridesParser
from omegaconf import DictConfig

from recipe.run.shortcuts import CONF

# Most of the time goes into reading: YAML, which libyaml reads alike, and the same few references again.
yaml.SafeLoader = yaml.CSafeLoader
omegaconf.base.parse = cache(omegaconf.base.parse)


@cache
def _of_groups(groups: tuple[str, ...]) -> bytes:
    """Pickled: to read that again takes a quarter of what a copy does."""
    with initialize_config_dir(str(CONF), version_base=None):
        return pickle.dumps(compose("self_emo", list(groups)))


def composed(*overrides: str) -> DictConfig:
    """A configuration of one's own: values are laid over a copy by the function that Hydra itself uses."""
    groups = tuple(o for o in overrides if (CONF / o.partition("=")[0]).is_dir())
    config = pickle.loads(_of_groups(groups))
    values = OverridesParser.create().parse_overrides([o for o in overrides if o not in groups])
    ConfigLoaderImpl._apply_overrides_to_config(values, config)
    return config
