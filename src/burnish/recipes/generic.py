"""What the recipes for the user's own model and data share."""

from __future__ import annotations

from pathlib import Path

from transformers import AutoConfig

from burnish.errors import InputError


def context_length(model: Path) -> int:
    """The most tokens a prompt and its completion may have together, as the model's configuration says.

    Raises InputError where the configuration cannot be read.
    """
    try:
        config = AutoConfig.from_pretrained(model, local_files_only=True)
    except (OSError, ValueError, KeyError) as error:
        reason = str(error).splitlines()[0]
        raise InputError(f"{model / 'config.json'} cannot be used ({reason}): copy it from the model again") from error
    return int(getattr(config, "max_position_embeddings", 2**31))
