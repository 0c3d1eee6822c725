"""veRL's own policy loss, which also writes down the advantages that the actor's worker was given.

The actor imports it as `model.external_lib`; each worker appends to a file of its own.
"""

import json
import os
from pathlib import Path

from verl.trainer.ppo.core_algos import get_policy_loss_fn, register_policy_loss


@register_policy_loss("recorded")
def recorded(old_log_prob, log_prob, advantages, response_mask, *args, **kwargs):
    """The `vanilla` loss; one line per row: its advantage on every response token, and how many there are."""
    target = Path(os.environ["SELF_EMO_RECORD"]) / f"{os.getpid()}.jsonl"
    with target.open("a") as file:
        for row, mask in zip(advantages, response_mask.bool(), strict=True):
            values = row[mask].tolist()
            file.write(json.dumps({"values": sorted(set(values)), "tokens": len(values)}) + "\n")
    return get_policy_loss_fn("vanilla")(old_log_prob, log_prob, advantages, response_mask, *args, **kwargs)
