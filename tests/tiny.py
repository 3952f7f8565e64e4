"""Models small enough to enumerate, and a second way to compute what they say."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import product
from pathlib import Path
from typing import Any

import torch
from tokenizers import Regex, Tokenizer, decoders, models, pre_tokenizers
from torch import Tensor, nn
from transformers import AutoModelForCausalLM, LlamaConfig, PreTrainedTokenizerFast

from burnish.engines.local import LocalModel

CONTENTS = "{% for message in messages %}{{ message['content'] }}{% endfor %}"


def tokenizer(letters: str, end: str) -> PreTrainedTokenizerFast:
    """One token a letter; the template prints the contents and nothing else."""
    backend = Tokenizer(models.WordLevel({letter: index for index, letter in enumerate(letters)}, unk_token=letters[0]))
    backend.pre_tokenizer = pre_tokenizers.Split(Regex("."), "isolated")
    backend.decoder = decoders.Fuse()
    fast = PreTrainedTokenizerFast(tokenizer_object=backend, eos_token=end)
    fast.chat_template = CONTENTS
    return fast


def model(directory: Path, letters: str, end: str, *, seed: int = 0, **options: Any) -> Path:
    """A Llama with random weights large enough that its distributions are far from uniform."""
    config = LlamaConfig(
        **{
            "vocab_size": len(letters),
            "hidden_size": 16,
            "num_hidden_layers": 1,
            "num_attention_heads": 2,
            "num_key_value_heads": 2,
            "intermediate_size": 32,
            "max_position_embeddings": 64,
            "tie_word_embeddings": False,
            "initializer_range": 0.3,
            "bos_token_id": None,
            "eos_token_id": letters.index(end),
            "pad_token_id": None,
            **options,
        }
    )
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        network = AutoModelForCausalLM.from_config(config, dtype=torch.float32)
        for name, parameter in network.named_parameters():
            if name.endswith("bias"):  # transformers starts them at zero, where a lost bias would not show
                nn.init.normal_(parameter, std=0.3)
    network.save_pretrained(directory)
    tokenizer(letters, end).save_pretrained(directory)
    return directory


def two_token_model(directory: Path, **options: Any) -> Path:
    """The vocabulary is "a" and "b"; "b" ends the text."""
    return model(directory, "ab", "b", **options)


def three_token_model(directory: Path, **options: Any) -> Path:
    """The vocabulary is "a", "b" and "."; "." ends the text."""
    return model(directory, "ab.", ".", **options)


def trajectories(vocabulary: int, end: int, longest: int) -> list[tuple[int, ...]]:
    """Every completion there is: those that end with ``end``, and those cut at ``longest``."""
    others = [token for token in range(vocabulary) if token != end]
    ended = [(*body, end) for size in range(longest) for body in product(others, repeat=size)]
    return ended + list(product(others, repeat=longest))


def perturbed(model: LocalModel, deviation: float = 0.3) -> LocalModel:
    """With adapters away from their starting point, where half of their gradient is zero."""
    generator = torch.Generator().manual_seed(8)
    for layer in model.adapted.values():
        with torch.no_grad():
            layer.lora_b.normal_(0, deviation, generator=generator)
        layer.merge()
    return model


class ExactRMSNorm(nn.Module):
    """The formula in the precision of its input; transformers computes it in float32."""

    def __init__(self, weight: nn.Parameter, eps: float) -> None:
        super().__init__()
        self.weight, self.eps = weight, eps

    def forward(self, x: Tensor) -> Tensor:
        return self.weight * x * torch.rsqrt(x.square().mean(-1, keepdim=True) + self.eps)


def plain_network(directory: Path, attention: str = "sdpa", dtype: torch.dtype = torch.float64) -> Any:
    """The network of a directory as transformers runs it: no packing, no prefix sharing, no adapter."""
    network: Any = AutoModelForCausalLM.from_pretrained(
        directory, dtype=dtype, attn_implementation=attention, local_files_only=True
    )
    for module in list(network.modules()):
        for name, child in module.named_children():
            if type(child).__name__.endswith("RMSNorm"):
                setattr(module, name, ExactRMSNorm(child.weight, child.variance_epsilon))
    return network.eval()


def plain_logprobs(
    network: Any, prompt: Sequence[int], tokens: Sequence[int], parameters: Mapping[str, Tensor] | None = None
) -> Tensor:
    """[T] log-probabilities of the tokens of one row, by one unpadded forward pass."""
    return plain_distributions(network, prompt, tokens, parameters).gather(1, torch.tensor([tokens]).T)[:, 0]


def plain_distributions(
    network: Any, prompt: Sequence[int], tokens: Sequence[int], parameters: Mapping[str, Tensor] | None = None
) -> Tensor:
    """[T, V] log-probabilities of every token at every place of the completion."""
    ids = torch.tensor([[*prompt, *tokens]])
    arguments = {"input_ids": ids, "use_cache": False}
    if parameters is None:
        logits = network(**arguments).logits
    else:
        logits = torch.func.functional_call(network, dict(parameters), kwargs=arguments).logits
    return torch.log_softmax(logits[0, len(prompt) - 1 : -1], -1)
