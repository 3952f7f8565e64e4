"""Messages to tokens and back, with an exact mask of what the policy has to emit.

A chat template is a program that prints text, and it may print anything. Training is right only if the tokens in front
of each assistant turn are the very tokens a sampler would have been given. So a conversation is encoded as a chain of
texts, each of which must be a prefix of the next::

    prompt of turn 1  ⊂  prompt + emitted turn 1  ⊂  prompt of turn 2  ⊂  ...  ⊂  whole conversation

and its tokens grow along the same chain: tokens that were given to the sampler, or emitted by the policy, are never
changed by what follows them, not even where a tokenizer would merge characters across the boundary.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from itertools import groupby, zip_longest
from pathlib import Path
from typing import Any, NamedTuple

from jinja2 import TemplateError
from rich.text import Text
from transformers import AutoTokenizer, PreTrainedTokenizerBase

from burnish.errors import InputError
from burnish.types import Message

TOKENIZER_FILES = ("tokenizer.json", "tokenizer.model", "vocab.json", "vocab.txt", "spiece.model", "tekken.json")
CONTEXT = 8  # tokens shown in front of the first differing one


class _Encoded(NamedTuple):
    text: str
    tokens: tuple[int, ...]


@dataclass(frozen=True)
class Chat:
    """A tokenizer with its chat template. ``eos_ids`` holds every id at which a completion ends."""

    tokenizer: PreTrainedTokenizerBase = field(repr=False)
    eos_ids: frozenset[int]

    @staticmethod
    def load(directory: Path) -> Chat:
        """The chat of a model directory; never reaches for the network and never runs code from the directory.

        ``eos_ids`` are the tokenizer's end of text, those of ``generation_config.json`` and the special token with
        which the template closes an assistant turn. Raises InputError where the tokenizer or its template is missing
        or broken.
        """
        tokenizer = _load_tokenizer(directory)
        template = tokenizer.chat_template
        if not template or (isinstance(template, dict) and "default" not in template):
            raise InputError(
                f"the tokenizer in {directory} has no chat template: use an instruction-tuned model, or put a template "
                f"into {directory / 'chat_template.jinja'}"
            )
        eos = _configured_eos(directory) | _closing_ids(tokenizer)
        if tokenizer.eos_token_id is not None:
            eos |= {int(tokenizer.eos_token_id)}
        if not eos:
            raise InputError(f"the tokenizer in {directory} has no end-of-text token: set 'eos_token' in its config")
        return Chat(tokenizer, frozenset(eos))

    def encode_prompt(self, messages: Sequence[Message]) -> tuple[int, ...]:
        """[P] the tokens a sampler is given: the conversation so far and the header of the assistant turn to come.

        Raises InputError where there is no message, a message has no role or no text, or nothing is left to encode.
        """
        _require_messages(messages)
        so_far, _ = self._encode_turns(messages)
        tokens = self._extend(so_far, _render(self.tokenizer, messages, prompt=True)).tokens
        if not tokens:
            raise InputError("the prompt has no tokens: give at least one message with text")
        return tokens

    def encode_next(
        self, asked: Sequence[Message], prompt: Sequence[int], reply: Sequence[int], messages: Sequence[Message]
    ) -> tuple[int, ...]:
        """[P'] the tokens a sampler is given after ``reply`` [C] was sampled for ``prompt`` [P], the tokens of ``asked``.

        ``messages`` is the conversation with that reply and what answers it. Where the template only appends, the result
        begins with prompt and reply exactly as they were, even where the text of the reply has a shorter encoding. Where
        it rewrites what was there, the result is the conversation encoded anew: compare the beginning.
        """
        _require_messages(messages)
        before = tuple(prompt) + tuple(reply)
        text = _render(self.tokenizer, messages, prompt=True)
        whole = _tokenize(self.tokenizer, text)
        if whole[: len(before)] == before:
            return whole
        known = _render(self.tokenizer, asked, prompt=True) + self.decode(reply, special=True)
        longer = before + _tokenize(self.tokenizer, text[len(known) :])
        return longer if self.decode(longer, special=True) == self.decode(whole, special=True) else whole

    def encode_dialogue(self, messages: Sequence[Message]) -> tuple[tuple[int, ...], tuple[bool, ...]]:
        """[N] the tokens of a whole conversation and [N] the mask of those the policy has to emit.

        For each assistant turn ``i`` the tokens in front of it equal ``encode_prompt(messages[:i])``, and the mask
        covers its content and the end-of-turn token that closes it: no header, nothing the template prints afterwards.
        Raises InputError as :meth:`encode_prompt` does, where no turn is the assistant's, where the template rewrites
        earlier turns, drops assistant content or leaves a turn open.
        """
        _require_messages(messages)
        so_far, spans = self._encode_turns(messages)
        if not spans:
            raise InputError("nothing to train on: the conversation has no assistant message; add one")
        tokens = self._extend(so_far, _render(self.tokenizer, messages, prompt=False)).tokens
        mask = [False] * len(tokens)
        for start, end in spans:
            mask[start:end] = [True] * (end - start)
        return tokens, tuple(mask)

    def decode(self, tokens: Sequence[int], special: bool = False) -> str:
        """The text of the tokens, exactly; special tokens are left out unless ``special``."""
        return str(
            self.tokenizer.decode(list(tokens), skip_special_tokens=not special, clean_up_tokenization_spaces=False)
        )

    def describe(self, tokens: Sequence[int], mask: Sequence[bool]) -> Text:
        """The decoded example with trained tokens in ⟦ ⟧ and in colour: readable in a terminal and in a plain log."""
        shown = Text()
        for trained, run in groupby(zip(tokens, mask, strict=True), key=lambda pair: bool(pair[1])):
            piece = self.decode([token for token, _ in run], special=True)
            shown.append(f"⟦{piece}⟧" if trained else piece, style="bold green" if trained else "dim")
        return shown

    def check(self, turns: int = 3) -> None:
        """Raise InputError unless the template keeps earlier turns as they were over ``turns`` synthetic exchanges.

        Training on single-turn data needs ``turns=1`` only: a template that drops old reasoning is fine there.
        """
        messages: list[Message] = []
        for turn in range(turns):
            messages.append({"role": "user", "content": f"Question {turn}?"})
            messages.append({"role": "assistant", "content": f"<think>\nReason {turn}.\n</think>\n\nAnswer {turn}."})
        self.encode_dialogue(messages)

    def _encode_turns(self, messages: Sequence[Message]) -> tuple[_Encoded, list[tuple[int, int]]]:
        """The conversation up to the end of its last assistant turn, and the token span of each assistant turn."""
        so_far, spans = _Encoded("", ()), []
        for index, message in enumerate(messages):
            if message["role"] != "assistant":
                continue
            if index == 0:
                raise InputError("the conversation starts with an assistant message: put a user message in front of it")
            so_far = self._extend(so_far, _render(self.tokenizer, messages[:index], prompt=True))
            start = len(so_far.tokens)
            so_far = self._extend(so_far, so_far.text + self._emitted(so_far.text, messages[: index + 1]))
            if so_far.tokens[-1] not in self.eos_ids:
                raise InputError(
                    f"the tokenizer splits the end-of-turn token in {so_far.text[-20:]!r}: make it a special token"
                )
            spans.append((start, len(so_far.tokens)))
        return so_far, spans

    def _extend(self, so_far: _Encoded, text: str) -> _Encoded:
        """The longer ``text`` encoded so that it starts with the tokens we already have."""
        if not text.startswith(so_far.text):
            raise self._prefix_violation(so_far.text, text)
        whole = _tokenize(self.tokenizer, text)
        if whole[: len(so_far.tokens)] == so_far.tokens:
            return _Encoded(text, whole)
        # A merge straddles the boundary (a header's newline and a newline that opens the content, say). Tokens already
        # sampled cannot merge with later ones, so what follows is tokenised on its own.
        cut = so_far.tokens + _tokenize(self.tokenizer, text[len(so_far.text) :])
        if self.decode(cut, special=True) != self.decode(whole, special=True):
            raise InputError(
                f"the tokenizer cannot continue after {so_far.text[-20:]!r} without changing the text "
                f"{_clip(text[len(so_far.text) :])}: strip the white space at the start of the assistant message"
            )
        return _Encoded(text, cut)

    def _emitted(self, prompt: str, messages: Sequence[Message]) -> str:
        """What the policy has to write after ``prompt`` for the last message: up to and with the end-of-turn token."""
        closed = _render(self.tokenizer, messages, prompt=False)
        if not closed.startswith(prompt):
            raise self._prefix_violation(prompt, closed)
        content, printed = messages[-1]["content"], closed[len(prompt) :]
        turn = self._through_end(content, printed)
        if _squeeze(content) not in _squeeze(turn):
            raise InputError(
                f"the chat template drops part of the assistant message {_clip(content)} and prints {_clip(turn)}: "
                "use a template that keeps the content as it is (templates for reasoning models often strip <think>)"
            )
        no_header = prompt == _render(self.tokenizer, messages[:-1], prompt=False)
        if no_header and not _squeeze(turn).startswith(_squeeze(content)):
            raise InputError(
                "the chat template ignores add_generation_prompt, so the model would be trained to write the header of "
                f"{_clip(turn)} itself: print the assistant header when add_generation_prompt is set"
            )
        return turn

    def _through_end(self, content: str, printed: str) -> str:
        """``printed`` up to and with its first end-of-turn token."""
        ends = [str(self.tokenizer.convert_ids_to_tokens(token)) for token in sorted(self.eos_ids)]
        for end in ends:
            if end in content:
                raise InputError(f"an assistant message contains the end-of-turn token '{end}': remove it")
        stops = [printed.index(end) + len(end) for end in ends if end in printed]
        if not stops:
            raise InputError(
                f"the chat template does not close assistant turns with {' or '.join(ends)}, so the model would never "
                "learn to stop: add the end-of-turn token to the template, or the id of the token it prints to "
                "'eos_token_id' in generation_config.json"
            )
        return printed[: min(stops)]

    def _prefix_violation(self, before: str, after: str) -> InputError:
        old, new = _tokenize(self.tokenizer, before), _tokenize(self.tokenizer, after)
        position, same = _first_difference(old, new), _first_difference(before, after)
        was, now = (repr(self.decode(side[position : position + 1], special=True)) for side in (old, new))
        context = self.decode(old[max(0, position - CONTEXT) : position], special=True)
        return InputError(
            f"the chat template rewrites earlier turns: after {context!r}, token {position} is {was} first and {now} "
            f"once the conversation goes on (text {_clip(before[same:])}, then {_clip(after[same:])}). Use a template "
            "that only appends, or give each assistant turn its own single-turn row"
        )


def _load_tokenizer(directory: Path) -> Any:
    if not directory.is_dir():
        raise InputError(f"model directory {directory} does not exist: check the path")
    if not any((directory / name).is_file() for name in TOKENIZER_FILES):
        raise InputError(
            f"{directory} has no tokenizer: copy tokenizer.json and tokenizer_config.json of the model into it"
        )
    vocabulary = directory / "tokenizer.json"
    if vocabulary.is_file():
        _read_json(vocabulary)  # the tokenizer's own parser reports a broken file as a bare Exception
    try:
        return AutoTokenizer.from_pretrained(str(directory), local_files_only=True, trust_remote_code=False)
    except (OSError, ValueError, KeyError, TypeError, ImportError) as error:
        raise InputError(
            f"the tokenizer in {directory} cannot be loaded ({error}): copy the tokenizer files of the model again"
        ) from error


def _configured_eos(directory: Path) -> set[int]:
    path = directory / "generation_config.json"
    config = _read_json(path) if path.is_file() else {}
    eos = config.get("eos_token_id") if isinstance(config, dict) else None
    ids = eos if isinstance(eos, list) else [] if eos is None else [eos]
    if not all(type(token) is int for token in ids):
        raise InputError(f"'eos_token_id' in {path} is {eos!r}: make it a token id or a list of token ids")
    return set(ids)


def _closing_ids(tokenizer: Any) -> set[int]:
    """The special token that closes an assistant turn: many base models name it nowhere but in their template."""
    probe = "burnish"
    messages: list[Message] = [{"role": "user", "content": "Hi"}, {"role": "assistant", "content": probe}]
    after = _render(tokenizer, messages, prompt=False).rpartition(probe)[2]
    special = {token for token, added in tokenizer.added_tokens_decoder.items() if added.special}
    return set([token for token in _tokenize(tokenizer, after) if token in special][:1])


def _read_json(path: Path) -> Any:
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except ValueError as error:
        raise InputError(f"{path} is not valid JSON ({error}): copy it from the model again") from error


def _render(tokenizer: Any, messages: Sequence[Message], *, prompt: bool) -> str:
    try:
        return str(tokenizer.apply_chat_template(list(messages), tokenize=False, add_generation_prompt=prompt))
    except (TemplateError, TypeError) as error:
        roles = ", ".join(message["role"] for message in messages)
        raise InputError(
            f"the chat template refuses messages with the roles {roles} ({error}): give it the roles it knows"
        ) from error


def _tokenize(tokenizer: Any, text: str) -> tuple[int, ...]:
    # The template prints the special tokens itself.
    return tuple(tokenizer(text, add_special_tokens=False)["input_ids"]) if text else ()


def _require_messages(messages: Sequence[Message]) -> None:
    if not messages:
        raise InputError("the message list is empty: give at least one message with a role and content")
    for number, message in enumerate(messages, start=1):
        if not isinstance(message, Mapping) or not isinstance(message.get("role"), str) or "content" not in message:
            raise InputError(f"message {number} is {message!r}: it needs a 'role' and a 'content'")
        if not isinstance(message["content"], str):
            kind = type(message["content"]).__name__
            raise InputError(f"the content of message {number} ({message['role']}) is a {kind}: it has to be text")


def _first_difference(left: Sequence[object], right: Sequence[object]) -> int:
    return next((i for i, (a, b) in enumerate(zip_longest(left, right)) if a != b), len(left))


def _squeeze(text: str) -> str:
    """Without white space: templates may trim it."""
    return "".join(text.split())


def _clip(text: str, width: int = 60) -> str:
    return repr(text if len(text) <= width else text[: width - 1] + "…")
