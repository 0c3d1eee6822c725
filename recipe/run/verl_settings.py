"""Where veRL's own configurations lie, found without importing veRL: that takes five seconds.

`conf/self_emo.yaml` names them on Hydra's search path by the resolver that this module registers;
`pkg://verl.trainer.config` would import veRL, and with it torch and transformers, to find the same folder.
"""

from __future__ import annotations

import importlib.util

from omegaconf import OmegaConf


def verl_settings() -> str:
    """The folder as an entry of Hydra's search path; where veRL is missing, Hydra says so."""
    spec = importlib.util.find_spec("verl")
    folders = list(spec.submodule_search_locations or []) if spec else []
    return f"file://{folders[0]}/trainer/config" if folders else "pkg://verl.trainer.config"


OmegaConf.register_new_resolver("verl_settings", verl_settings, replace=True)
