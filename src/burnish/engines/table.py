"""A lookup table as a language model: the next token depends on the last one alone, ``p(b | a) = softmax_b theta[b, a]``.

Its final hidden state is the one-hot vector of the token read, and its language-model head is the table. Given a vocabulary
of moves and cells it is the tabular softmax policy ``pi(move | cell)`` of the classroom, and a head beside it on the same
hidden states is a table of values ``V(cell)``. It is a model directory like any other, so whatever trains or samples a
transformer trains and samples this.
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import torch
from tokenizers import Regex, Tokenizer, decoders, models, pre_tokenizers
from torch import Tensor, nn
from torch.nn.functional import one_hot
from transformers import (
    AutoConfig,
    AutoModelForCausalLM,
    GenerationMixin,
    PreTrainedConfig,
    PreTrainedModel,
    PreTrainedTokenizerFast,
)
from transformers.modeling_outputs import BaseModelOutput, CausalLMOutput

from burnish.errors import InputError
from burnish.tabular.worlds import ARROWS, Cell, Grid

END = "<|end|>"
CONTENTS = "{% for message in messages %}{{ message['content'] }}{% endfor %}"
NEVER = -1e4
"""The logit of a token that cannot follow. Its probability is exactly 0, and unlike minus infinity it stays a number when
it is multiplied by 0: in the one-hot product and in the entropy."""


class TableConfig(PreTrainedConfig):
    """A vocabulary and nothing else. The remaining entries say that there are no layers; nothing limits the context."""

    model_type = "burnish-table"

    vocab_size: int = 1
    hidden_size: int = 1
    num_hidden_layers: int = 0
    num_attention_heads: int = 1
    intermediate_size: int = 0
    tie_word_embeddings: bool = False
    eos_token_id: int | list[int] | None = None


class TableForCausalLM(PreTrainedModel, GenerationMixin):
    """``lm_head.weight[b, a]`` is the logit of token b after token a: the only parameters."""

    config_class = TableConfig
    base_model_prefix = "model"
    _supports_sdpa = True  # there is no attention, so every implementation of it will do
    _supports_attention_backend = True

    def __init__(self, config: TableConfig) -> None:
        super().__init__(config)
        self.lm_head: nn.Linear = nn.Linear(config.vocab_size, config.vocab_size, bias=False)
        self.post_init()  # type: ignore[no-untyped-call]

    def get_output_embeddings(self) -> nn.Linear:
        return self.lm_head

    def get_decoder(self) -> Any:
        return self.states

    def states(self, input_ids: Tensor, **_: Any) -> BaseModelOutput:
        """[R, S] token ids -> [R, S, V] their one-hot vectors. Positions, cache and attention plan have no say."""
        weight = self.lm_head.weight
        return BaseModelOutput(one_hot(input_ids, len(weight)).to(weight.dtype))

    def forward(self, input_ids: Tensor, **_: Any) -> CausalLMOutput:
        return CausalLMOutput(logits=self.lm_head(self.states(input_ids).last_hidden_state))


AutoConfig.register(TableConfig.model_type, TableConfig, exist_ok=True)
AutoModelForCausalLM.register(TableConfig, TableForCausalLM, exist_ok=True)


def cell_token(cell: Cell) -> str:
    """The token of a cell: "(row,column)"."""
    return f"({cell[0]},{cell[1]})"


def vocabulary(world: Grid) -> tuple[str, ...]:
    """The tokens: the four moves in the order of the world's arrays, one for each of its cells, the end of the text."""
    return (*ARROWS, *(cell_token(cell) for cell in world.cells), END)


def table_tokenizer(tokens: tuple[str, ...]) -> PreTrainedTokenizerFast:
    """One id a token, in this order; the last one ends the text. The template prints the contents and nothing else."""
    backend = Tokenizer(models.WordLevel({token: index for index, token in enumerate(tokens)}, unk_token=tokens[-1]))
    backend.pre_tokenizer = pre_tokenizers.Split(Regex("|".join(map(re.escape, tokens))), "isolated")
    backend.decoder = decoders.Fuse()
    return PreTrainedTokenizerFast(
        tokenizer_object=backend, eos_token=tokens[-1], chat_template=CONTENTS, clean_up_tokenization_spaces=False
    )


def save_table(directory: Path, tokens: tuple[str, ...], logits: Tensor) -> None:
    """Write the model (fp32) whose token b follows token a with logit ``logits[b, a]``, and its tokenizer.

    Raises InputError where the logits are not finite, or no [V, V] table for these tokens.
    """
    if logits.shape != (len(tokens), len(tokens)) or not torch.isfinite(logits).all():
        raise InputError(f"{len(tokens)} tokens need a table of {len(tokens)} x {len(tokens)} finite logits")
    end = len(tokens) - 1
    config = TableConfig(vocab_size=len(tokens), hidden_size=len(tokens), eos_token_id=end, dtype=torch.float32)
    network = TableForCausalLM(config)
    with torch.no_grad():
        network.lm_head.weight.copy_(logits)
    network.save_pretrained(directory)
    table_tokenizer(tokens).save_pretrained(directory)


def build_table(directory: Path, world: Grid) -> None:
    """Write the uniform policy of ``world``: after a cell, every permitted move is as likely and nothing else possible.

    The logit of a permitted move is 0. After a move the text ends; drawn one token a turn, it is the world that goes on.
    """
    tokens = vocabulary(world)
    cells, moves = world.permitted.shape
    logits = torch.full((len(tokens), len(tokens)), NEVER)
    policy_of(logits, world)[torch.from_numpy(world.permitted)] = 0.0
    logits[-1, :moves] = logits[-1, moves + cells :] = 0.0
    save_table(directory, tokens, logits)


def policy_of(head: Tensor, world: Grid) -> Tensor:
    """[S, A] the logits ``theta[s, a]`` in a table's ``head`` weight [V, V]: moves after cells. A view of it."""
    cells, moves = world.permitted.shape
    return head[:moves, moves : moves + cells].T
