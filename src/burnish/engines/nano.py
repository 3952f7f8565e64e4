"""``nano``: a Llama of 0.9M parameters with a character tokenizer, small enough to train in seconds on a CPU.

It follows every convention of a real chat model (template, end-of-turn token, Hugging Face files), so what works on
``nano`` works on a real model. Its weights are random: a recipe pretrains it first.
"""

from __future__ import annotations

import string
from pathlib import Path

import torch
from tokenizers import AddedToken, Tokenizer, decoders, models
from transformers import AutoModelForCausalLM, LlamaConfig, PreTrainedTokenizerFast

PAD, UNKNOWN, END = "<|pad|>", "<|unknown|>", "<|end|>"
CONTROL = (PAD, UNKNOWN, END, "<|system|>", "<|user|>", "<|assistant|>")
TAGS = ("<think>", "</think>", "<answer>", "</answer>")
CHARACTERS = "\n " + string.digits + string.ascii_letters + string.punctuation
CONTEXT = 2048

CHAT_TEMPLATE = (
    "{% for message in messages %}<|{{ message['role'] }}|>{{ message['content'] }}<|end|>{% endfor %}"
    "{% if add_generation_prompt %}<|assistant|>{% endif %}"
)


def nano_tokenizer() -> PreTrainedTokenizerFast:
    """One token per character; roles, end of turn and the think/answer tags are one token each.

    Decoding with ``skip_special_tokens=True`` drops the control tokens and keeps the tags: graders read the tags. A
    character outside printable ASCII becomes ``<|unknown|>``.
    """
    vocabulary = {token: index for index, token in enumerate((*CONTROL, *TAGS, *CHARACTERS))}
    backend = Tokenizer(models.BPE(vocab=vocabulary, merges=[], unk_token=UNKNOWN))  # no merges: characters
    backend.decoder = decoders.Fuse()
    backend.add_special_tokens([AddedToken(token, normalized=False, special=True) for token in CONTROL])
    backend.add_tokens([AddedToken(tag, normalized=False, special=False) for tag in TAGS])
    return PreTrainedTokenizerFast(
        tokenizer_object=backend,
        eos_token=END,
        pad_token=PAD,
        unk_token=UNKNOWN,
        chat_template=CHAT_TEMPLATE,
        clean_up_tokenization_spaces=False,
        model_max_length=CONTEXT,
    )


def build_nano(directory: Path, seed: int = 0) -> None:
    """Write the freshly initialised model (fp32) and its tokenizer to ``directory`` in Hugging Face format.

    The same seed gives the same weights; the global random state is left as it was.
    """
    tokenizer = nano_tokenizer()
    config = LlamaConfig(
        vocab_size=len(tokenizer),
        hidden_size=192,
        num_hidden_layers=2,
        intermediate_size=512,
        num_attention_heads=6,
        num_key_value_heads=6,
        max_position_embeddings=CONTEXT,
        tie_word_embeddings=True,
        bos_token_id=None,
        eos_token_id=tokenizer.eos_token_id,
        pad_token_id=tokenizer.pad_token_id,
        dtype=torch.float32,
    )
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        model = AutoModelForCausalLM.from_config(config, dtype=torch.float32)
    model.save_pretrained(directory)
    tokenizer.save_pretrained(directory)
