"""`burnish sample`: what a model says."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from typing import TYPE_CHECKING, Annotated

import typer

from burnish.errors import InputError

if TYPE_CHECKING:
    from burnish.engines.decode import LocalSampler
    from burnish.types import Completion

Model = Annotated[
    str,
    typer.Argument(
        metavar="MODEL", help="An alias of `burnish list`, a model directory, or a hub name.", show_default=False
    ),
]
MaxTokens = Annotated[int, typer.Option(min=1, help="The longest reply, in tokens.")]
Temperature = Annotated[float, typer.Option(min=0.0, help="0 always takes the likeliest token.")]
TopP = Annotated[float, typer.Option(min=0.0, max=1.0, help="Keep the likeliest tokens up to this mass.")]
TopK = Annotated[int, typer.Option(min=0, help="Keep this many of the likeliest tokens; 0 keeps all.")]
Seed = Annotated[int, typer.Option(help="All randomness follows from it.")]


def sample(
    *,
    model: Model,
    prompt: Annotated[str, typer.Argument(metavar="PROMPT", help="What the user says.", show_default=False)],
    n: Annotated[int, typer.Option("-n", min=1, help="How many replies.")] = 1,
    max_tokens: MaxTokens = 256,
    temperature: Temperature = 1.0,
    top_p: TopP = 1.0,
    top_k: TopK = 0,
    begin: Annotated[str, typer.Option(help="What every reply begins with.")] = "",
    suppress: Annotated[
        list[str] | None, typer.Option(help="A text of one token that is never said; may be given again.")
    ] = None,
    min_thinking: Annotated[
        int, typer.Option(min=0, help="Tokens before </think>, at least: it goes on with Wait.")
    ] = 0,
    max_thinking: Annotated[int, typer.Option(min=0, help="Tokens before </think>, at most; 0 sets no limit.")] = 0,
    seed: Seed = 0,
) -> None:
    """Print a model's replies to one prompt."""
    if not prompt.strip():
        raise InputError('the prompt is empty: give some text, as in burnish sample MODEL "Hello".')
    from burnish.core import keys
    from burnish.engines.decode import generate
    from burnish.sampling import Sampling, Thinking

    thinking = Thinking(minimum=min_thinking, maximum=max_thinking) if min_thinking or max_thinking else None
    sampling = Sampling(
        max_tokens, temperature, top_p, top_k, suppress=tuple(suppress or ()), begin=begin, thinking=thinking
    )
    sampler = load_sampler(model)
    tokens = sampler.model.chat.encode_prompt([{"role": "user", "content": prompt}])
    replies = generate(sampler, [tokens] * n, sampling, keys.derive("sample", seed))
    for number, reply in enumerate(replies, start=1):
        print(f"[{number}] {reply.text}" if n > 1 else reply.text)
    note_cut(replies)


def load_sampler(model: str) -> LocalSampler:
    """The sampler of a model by name, in the precision that is best here. Raises InputError."""
    from burnish.engines.decode import LocalSampler
    from burnish.engines.local import Engine, LocalModel
    from burnish.engines.pretrained import resolve

    return LocalSampler(LocalModel(resolve(model), Engine().resolved()))


def note_cut(replies: Sequence[Completion]) -> None:
    """Say on standard error how many replies were cut off at their limit, if any."""
    cut = sum(reply.cut for reply in replies)
    if cut:
        which = f"{cut} of {len(replies)} replies were" if len(replies) > 1 else "the reply was"
        print(f"({which} cut off; --max-tokens allows longer ones)", file=sys.stderr)
