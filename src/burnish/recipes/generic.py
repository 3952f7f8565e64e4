"""What the recipes for the user's own model and data share."""

from __future__ import annotations

import os
from pathlib import Path

from transformers import AutoConfig

from burnish.errors import InputError
from burnish.run import Artifact, Run


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


def say_next(run: Run, model: Artifact, prompt: str) -> None:
    """Where the run and its model are, and what to type next."""
    short, question = os.path.relpath(model), " ".join(prompt.split())[:80].replace('"', "'")
    run.view.say(
        f"\nThe run is in {os.path.relpath(run.directory)}; the model in {short} loads in transformers and vLLM.\n"
        f'Talk to it:         burnish chat {short}\nAsk it once:        burnish sample {short} "{question}"'
    )
