"""Real chat tokenizers, built from scratch: a byte-level BPE that merges newlines, saved and loaded as a user would."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, processors, trainers
from transformers import PreTrainedTokenizerFast

from burnish.data.chat import Chat

CHATML = (
    "{% for message in messages %}<|im_start|>{{ message['role'] }}\n{{ message['content'] }}<|im_end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)
SYSTEM = (
    "{% if messages[0]['role'] != 'system' %}<|im_start|>system\nYou are a helpful assistant.<|im_end|>\n{% endif %}"
)
CORPUS = ["Hello there, how are you today? I am well.\n\n\nAnd you?\n\n\n\n  Fine   thanks.\n\n"] * 20


def tokenizer(template: str | None, eos: str = "<|im_end|>") -> PreTrainedTokenizerFast:
    bpe = Tokenizer(models.BPE())
    bpe.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    bpe.decoder = decoders.ByteLevel()
    special = ["<|endoftext|>", "<|im_start|>", "<|im_end|>"]
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    trainer = trainers.BpeTrainer(vocab_size=330, special_tokens=special, initial_alphabet=alphabet)
    bpe.train_from_iterator(CORPUS, trainer)
    # Asked for special tokens, it adds one in front, as Llama's does; a template prints its own.
    bpe.post_processor = processors.TemplateProcessing(
        single="<|endoftext|> $A", special_tokens=[("<|endoftext|>", bpe.token_to_id("<|endoftext|>"))]
    )
    fast = PreTrainedTokenizerFast(tokenizer_object=bpe, eos_token=eos, pad_token="<|endoftext|>")
    fast.chat_template = template
    return fast


@pytest.fixture(scope="session")
def make_chat(tmp_path_factory: pytest.TempPathFactory) -> Callable[..., Chat]:
    def make(template: str = CHATML, eos: str = "<|im_end|>") -> Chat:
        directory = tmp_path_factory.mktemp("model")
        tokenizer(template, eos).save_pretrained(directory)
        return Chat.load(directory)

    return make


@pytest.fixture
def unsaved_tokenizer() -> Callable[..., PreTrainedTokenizerFast]:
    return tokenizer


@pytest.fixture(scope="session")
def chatml(make_chat: Callable[..., Chat]) -> Chat:
    return make_chat(CHATML)


@pytest.fixture(scope="session", params=[CHATML, SYSTEM + CHATML], ids=["plain", "default-system"])
def chat(request: pytest.FixtureRequest, make_chat: Callable[..., Chat]) -> Chat:
    return make_chat(request.param)


@pytest.fixture
def write(tmp_path: Path) -> Callable[[str, str], Path]:
    def write_file(name: str, text: str) -> Path:
        path = tmp_path / name
        path.write_text(text, encoding="utf-8")
        return path

    return write_file
