"""What may be forced upon a policy while it writes: words it never says, how it begins, when it stops, how long it thinks.

Everything here is a function of a completion's tokens and of which of them were forced. So it makes no difference whether a
completion was interrupted, and nothing about it has to be saved.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace

from burnish.core import keys
from burnish.data.chat import Chat
from burnish.errors import InputError
from burnish.sampling import Repetition, Sampling, Thinking
from burnish.types import Completion, Request

Draw = Callable[[Sequence[Request]], Iterator[Completion]]
"""A sampler that goes on from ``begun``, knows ``pause``, and has nothing to do with thinking."""


def spelt(chat: Chat, name: str, text: str) -> tuple[int, ...]:
    """The tokens of a text that is to be forced. Raises InputError where others would be read in its place."""
    ids = tuple(chat.tokenizer(text, add_special_tokens=False)["input_ids"])
    if chat.decode(ids, special=True) != text:
        read = chat.decode(ids, special=True)
        raise InputError(f"{name}={text!r} is not in this model's vocabulary, which reads {read!r}: give another text")
    return ids


def suppressed(chat: Chat, sampling: Sampling) -> tuple[int, ...]:
    """The ids of ``sampling.suppress``, ascending. Raises InputError for a text that is not exactly one token."""
    found = set()
    for text in sampling.suppress:
        ids = tuple(chat.tokenizer(text, add_special_tokens=False)["input_ids"])
        if len(ids) != 1 or chat.decode(ids, special=True) != text:
            pieces = ", ".join(repr(chat.decode([token], special=True)) for token in ids)
            raise InputError(
                f"suppress={text!r} is not one token of this model's vocabulary, which reads {pieces or 'nothing'}: give "
                "texts of exactly one token (a word with a space before it is another token than the word alone)"
            )
        found.add(ids[0])
    if len(found) >= len(chat.tokenizer):
        raise InputError("suppress names every token of the vocabulary: leave one to be drawn")
    return tuple(sorted(found))


@dataclass(frozen=True)
class Controls:
    """The controls of a sampling in the tokens of a model: ids that are never drawn, those of the beginning."""

    suppressed: tuple[int, ...]
    begin: tuple[int, ...]

    @staticmethod
    def of(chat: Chat, sampling: Sampling) -> Controls:
        """Raises InputError where the vocabulary cannot express them, or the beginning leaves no room."""
        begin = spelt(chat, "begin", sampling.begin)
        if len(begin) >= sampling.max_tokens:
            raise InputError(
                f"begin={sampling.begin!r} is {len(begin)} tokens and max_tokens is {sampling.max_tokens}, which leaves "
                "the policy none: raise max_tokens"
            )
        return Controls(suppressed(chat, sampling), begin)


def repeats(tokens: Sequence[int], rule: Repetition) -> bool:
    """Whether the tokens end with one block, ``rule.times`` times over."""
    for size in range(rule.least, min(rule.most, len(tokens) // rule.times) + 1):
        again = size * (rule.times - 1)
        if tokens[-1] == tokens[-1 - size] and tokens[-again:] == tokens[-again - size : -size]:
            return True
    return False


def forced(chat: Chat, tokens: Sequence[int], behind: Completion | None = None) -> Completion:
    """``behind`` (None: nothing) with these tokens forced after it, to go on from: not chosen, with log-prob 0."""
    before = behind or Completion((), "", (), "paused")
    count = len(tokens)
    whole = (*before.tokens, *tokens)
    kept_ids = (*before.kept_ids, *((),) * count) if before.kept_ids else ()
    return _written(
        chat,
        replace(
            before, tokens=whole, mask=(*before.chosen, *(False,) * count), logprobs=(*before.logprobs, *(0.0,) * count),
            kept=(*before.kept, *(1.0,) * count), kept_ids=kept_ids,
        ),
    )  # fmt: skip


def _until(chat: Chat, completion: Completion, count: int) -> Completion:
    """Its first ``count`` tokens."""
    return _written(
        chat,
        replace(
            completion, tokens=completion.tokens[:count], mask=completion.chosen[:count],
            logprobs=completion.logprobs[:count], kept=completion.kept[:count], kept_ids=completion.kept_ids[:count],
        ),
    )  # fmt: skip


def _written(chat: Chat, completion: Completion) -> Completion:
    """The same with the text of its tokens, to go on from."""
    text = chat.decode(completion.tokens)
    return replace(completion, text=text, messages=({"role": "assistant", "content": text},), finish="paused")


# --- thinking ------------------------------------------------------------------------------------


def think(draw: Draw, chat: Chat, context: int, requests: Sequence[Request]) -> Iterator[Completion]:
    """One completion per request, in order of finishing; those whose sampling says so think within their budget.

    In rounds, until all are done: every completion is drawn until its thinking closes or has used up its budget, then what
    is to be forced is put behind it, and it is read again from there. ``context`` is the most tokens of prompt and completion.
    """
    budgets = {i: Budget.of(chat, context, r) for i, r in enumerate(requests) if r.sampling.thinking}
    asked = {i: budgets[i].first() if i in budgets else r for i, r in enumerate(requests)}
    while asked:
        numbers, again = sorted(asked), dict[int, Request]()
        for reply in draw([asked[i] for i in numbers]):
            number = numbers[reply.index]
            found = budgets[number].settle(reply) if number in budgets else reply
            if found.finish == "paused" and number in budgets and budgets[number].left(found) != 0:
                again[number] = budgets[number].ask(found)
            else:
                yield replace(found, index=number)
        asked = again


@dataclass(frozen=True)
class Thought:
    """Where a completion is: the tokens it has thought, how often it was made to go on, whether and where it closes.

    ``start`` is the first of the tokens that hold the closing, and of all if there is none the end. ``forced`` tells a
    closing that was forced.
    """

    tokens: int
    waits: int
    closed: bool
    forced: bool
    start: int


@dataclass(frozen=True)
class Budget:
    """Budget forcing for one request, in the tokens of its model."""

    chat: Chat
    request: Request
    thinking: Thinking
    begin: int
    close: tuple[int, ...]
    wait: tuple[int, ...]
    limit: int

    @staticmethod
    def of(chat: Chat, context: int, request: Request) -> Budget:
        """Raises InputError where the vocabulary cannot express a text, or the text of a completion would not show it."""
        thinking, begin = request.sampling.thinking, spelt(chat, "begin", request.sampling.begin)
        assert thinking is not None
        close = spelt(chat, "thinking.close", thinking.close)
        wait = spelt(chat, "thinking.wait", thinking.wait) if thinking.minimum else ()
        if chat.decode(close) != thinking.close:
            raise InputError(
                f"thinking.close={thinking.close!r} is a special token of this model, which texts leave out: give a plain one"
            )
        limit = min(request.sampling.max_tokens, context - len(request.prompt))
        return Budget(chat, request, thinking, len(begin), close, wait, limit)

    def first(self) -> Request:
        begun = self.request.begun
        return self.ask(self.settle(begun) if begun else None)

    def ask(self, so_far: Completion | None) -> Request:
        """What is to be drawn next. Every ``wait`` begins a stream of randomness: what it replaced had used the old one."""
        sampling, key = replace(self.request.sampling, thinking=None), self.request.key
        at = self.thought(so_far) if so_far else None
        if at and at.waits:
            key = keys.derive(key, "wait", at.waits)
        pauses = [self.left(so_far)] if self.request.pause else []
        if not at or not at.closed:
            sampling = replace(sampling, stop=(self.thinking.close, *sampling.stop))
            pauses += [self.thinking.maximum - (at.tokens if at else 0)] if self.thinking.maximum else []
        return replace(self.request, key=key, sampling=sampling, begun=so_far, pause=min(pauses, default=0))

    def left(self, so_far: Completion | None) -> int:
        """How many tokens there are still to come before the request's own pause, -1 where it has none."""
        if not self.request.pause:
            return -1
        start = len(self.request.begun.tokens) if self.request.begun else self.begin
        return max(0, start + self.request.pause - len(so_far.tokens)) if so_far else self.request.pause

    def settle(self, reply: Completion) -> Completion:
        """What stands of a reply: with a closing that came too early taken back, with the one that is due."""
        at = self.thought(reply)
        if (at.closed or reply.finish == "eos") and not self._may_close(at):
            room = self.thinking.maximum - at.tokens if self.thinking.maximum else len(self.wait)
            reply = self._force(_until(self.chat, reply, at.start), self.wait[:room])
            at = self.thought(reply)
        elif at.closed and reply.finish == "stop":
            reply = replace(reply, finish="paused")
        if reply.finish == "paused" and not at.closed and 0 < self.thinking.maximum <= at.tokens:
            reply = self._force(reply, self.close)
        stopped = reply.finish == "paused" and any(s in reply.text for s in self.request.sampling.stop)
        return replace(reply, finish="stop") if stopped else reply

    def thought(self, completion: Completion) -> Thought:
        """Where it is, read from its tokens."""
        tokens, mask = completion.tokens, completion.chosen
        closed, start = self.thinking.close in completion.text, len(tokens)
        end = start
        if closed:
            end = bisect_left(
                range(len(tokens)), True, key=lambda i: self.thinking.close in self.chat.decode(tokens[: i + 1])
            )
            start = next(i for i in range(end, -1, -1) if self.thinking.close in self.chat.decode(tokens[i : end + 1]))
        elif completion.finish == "eos":
            start -= 1
        waited = start - self.begin - sum(mask[self.begin : start])
        waits = -(-waited // len(self.wait)) if self.wait else 0  # the last one may have been cut short
        return Thought(start - self.begin, waits, closed, closed and not mask[end], start)

    def _may_close(self, at: Thought) -> bool:
        waited_out = self.thinking.waits is not None and at.waits >= self.thinking.waits
        return at.forced or at.tokens >= self.thinking.minimum or waited_out

    def _force(self, completion: Completion, tokens: Sequence[int]) -> Completion:
        """With these tokens behind it, as far as there is room."""
        return forced(self.chat, tokens[: self.limit - len(completion.tokens)], completion)
