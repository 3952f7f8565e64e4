"""What a request asks, read strictly: a parameter that is unknown, or that has no support here, is refused by its name."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from burnish.data.chat import Chat
from burnish.data.rows import json_name
from burnish.engines.decode import MAX_ROWS
from burnish.errors import InputError, near
from burnish.types import Message, Sampling

IGNORED = ("user", "metadata", "safety_identifier", "prompt_cache_key")
"""Parameters that say something about the caller and nothing about the reply."""

NEUTRAL: dict[str, tuple[Any, ...]] = {
    "best_of": (1,),
    "frequency_penalty": (0,),
    "functions": ([],),
    "logit_bias": ({},),
    "modalities": (["text"],),
    "parallel_tool_calls": (True, False),
    "presence_penalty": (0,),
    "response_format": ({"type": "text"},),
    "store": (False,),
    "suffix": ("",),
    "tool_choice": ("none", "auto"),
    "tools": ([],),
}
"""Parameters without support, and their values that ask for nothing: clients send them unasked."""

COLDEST = 1e-3
MOST_TOP = 20
MOST_STOPS = 16
SHORT = 16  # what OpenAI's completions default to
SEEDS = 2**63


class RefusedError(Exception):
    """The request cannot be answered. ``status`` is that of HTTP; ``param`` and ``code`` are as in OpenAI's errors."""

    def __init__(self, status: int, message: str, param: str | None = None, code: str | None = None) -> None:
        super().__init__(message)
        self.status, self.message, self.param, self.code = status, message, param, code


@dataclass(frozen=True)
class Offer:
    """What a server has: the id of its model, that model's context, and the longest reply where a request names none."""

    model: str
    context: int
    vocabulary: int
    max_tokens: int = 512


@dataclass(frozen=True)
class Asked:
    """One request: ``n`` replies to each of P prompts; reply ``p * n + i`` is the i-th one to prompt p.

    ``texts`` [P] are the prompts as an echo shows them. ``top`` is how many alternatives to report with each log-prob, None
    for no log-probs at all. Without ``reply`` nothing is asked for but the echo.
    """

    chat: bool
    prompts: tuple[tuple[int, ...], ...]
    texts: tuple[str, ...]
    sampling: Sampling
    n: int = 1
    seed: int | None = None
    top: int | None = None
    echo: bool = False
    reply: bool = True
    stream: bool = False
    usage: bool = False

    @property
    def rows(self) -> int:
        return len(self.prompts) * self.n

    @property
    def width(self) -> int:
        """The tokens that the longest row may come to have."""
        return max(map(len, self.prompts)) + self.sampling.max_tokens * self.reply


def of_chat(body: Mapping[str, Any], chat: Chat, offer: Offer) -> Asked:
    """The body of a request for chat completions. Raises RefusedError."""
    fields = Fields(body)
    fields.model(offer)
    text = [_message(item, place) for place, item in enumerate(fields.listed("messages"))]
    try:
        prompt = chat.encode_prompt(text)
    except InputError as error:
        raise RefusedError(400, str(error), "messages") from error
    logprobs, top = fields.flag("logprobs"), fields.whole("top_logprobs", None, 0, MOST_TOP)
    if top is not None and not logprobs:
        raise RefusedError(400, "top_logprobs needs logprobs: set it to true", "top_logprobs")
    newer, older = (fields.whole(name, None, 1) for name in ("max_completion_tokens", "max_tokens"))
    asked = Asked(True, (prompt,), ("",), fields.sampling(), top=(top or 0) if logprobs else None)
    return _finished(fields, asked, newer if newer is not None else older, offer.max_tokens, offer)


def of_text(body: Mapping[str, Any], chat: Chat, offer: Offer) -> Asked:
    """The body of a request for completions of text or of token ids. Raises RefusedError."""
    fields = Fields(body)
    fields.model(offer)
    prompts, texts = _prompts(fields.take("prompt"), chat, offer)
    top = fields.whole("logprobs", None, 0, MOST_TOP)
    asked = Asked(False, prompts, texts, fields.sampling(), top=top, echo=fields.flag("echo"))
    most = fields.whole("max_tokens", None, 0)
    if most == 0 and not asked.echo:
        raise RefusedError(400, "max_tokens 0 asks for nothing: set echo, or max_tokens to 1 or more", "max_tokens")
    return _finished(fields, asked, most, SHORT, offer)


def _finished(fields: Fields, asked: Asked, most: int | None, default: int, offer: Offer) -> Asked:
    """With what both kinds of requests have, and checked against the model's context."""
    n, seed = fields.whole("n", 1, 1, MAX_ROWS), fields.whole("seed", None, -SEEDS, SEEDS)
    stream, options = fields.flag("stream"), Fields(fields.mapping("stream_options"), "stream_options.")
    usage = options.flag("include_usage")
    options.end()
    fields.end()
    longest = max(map(len, asked.prompts))
    room = offer.context - longest
    if room < (most if most is not None else 1):
        reply = f" and max_tokens is {most}" if most and room >= 1 else ""
        raise RefusedError(
            400,
            f"the prompt has {longest} tokens{reply}, but the context of {offer.model} holds {offer.context} tokens: "
            "shorten the prompt or ask for fewer tokens",
            "messages" if asked.chat else "prompt",
            "context_length_exceeded",
        )
    sampling = replace(asked.sampling, max_tokens=most or min(default, room)) if most != 0 else asked.sampling
    found = replace(asked, sampling=sampling, n=n or 1, reply=most != 0, seed=seed, stream=stream, usage=usage)
    if found.rows > MAX_ROWS:
        raise RefusedError(400, f"n times prompts is {found.rows}: at most {MAX_ROWS} replies to a request", "n")
    return found


class Fields:
    """The parameters of a request that nobody has read yet. A null is as good as missing."""

    def __init__(self, body: Mapping[str, Any], path: str = "") -> None:
        self._left = {name: value for name, value in body.items() if value is not None}
        self._path = path
        self._known = {*IGNORED, *NEUTRAL}

    def take(self, name: str, default: Any = None) -> Any:
        self._known.add(name)
        return self._left.pop(name, default)

    def number(self, name: str, default: float, low: float, high: float) -> float:
        value = self.take(name, default)
        if isinstance(value, bool) or not isinstance(value, int | float) or not low <= value <= high:
            raise self._wrong(name, value, f"a number from {low:g}" + (f" to {high:g}" if high < math.inf else ""))
        return float(value)

    def whole(self, name: str, default: int | None, low: int, high: int = 2**31) -> int | None:
        value = self.take(name, default)
        if value is not None and (type(value) is not int or not low <= value <= high):
            raise self._wrong(name, value, f"a whole number from {low} to {high}")
        return value

    def flag(self, name: str) -> bool:
        value = self.take(name, False)
        if not isinstance(value, bool):
            raise self._wrong(name, value, "true or false")
        return value

    def mapping(self, name: str) -> Mapping[str, Any]:
        value = self.take(name, {})
        if not isinstance(value, dict):
            raise self._wrong(name, value, "an object")
        return value

    def listed(self, name: str) -> list[Any]:
        value = self.take(name)
        if not isinstance(value, list) or not value:
            raise self._wrong(name, value, "a list that is not empty")
        return value

    def model(self, offer: Offer) -> None:
        """Raises RefusedError unless the request is for the model that is served."""
        name = self.take("model")
        if not isinstance(name, str):
            raise self._wrong("model", name, f"the id of a model, here '{offer.model}'")
        if name != offer.model:
            told = f"there is no model '{name}' here: this server has '{offer.model}'"
            raise RefusedError(404, told, "model", "model_not_found")

    def sampling(self) -> Sampling:
        """How to draw, without the number of tokens."""
        temperature = self.number("temperature", 1.0, 0.0, math.inf)
        if 0 < temperature < COLDEST or temperature == math.inf:
            raise self._wrong("temperature", temperature, f"0 (greedy) or a number from {COLDEST:g}")
        top_p = self.number("top_p", 1.0, 0.0, 1.0)
        if top_p == 0:
            raise self._wrong("top_p", top_p, "above 0 (temperature 0 is greedy)")
        stop = self.take("stop", [])
        stop = [stop] if isinstance(stop, str) else stop
        if not isinstance(stop, list) or len(stop) > MOST_STOPS or not all(isinstance(s, str) and s for s in stop):
            raise self._wrong("stop", stop, f"a text that is not empty, or a list of at most {MOST_STOPS} of them")
        top_k = self.whole("top_k", 0, 0) or 0
        return Sampling(temperature=temperature, top_p=top_p, top_k=top_k, stop=tuple(stop))

    def end(self) -> None:
        """Raises RefusedError where something is left that could have changed the reply."""
        for name, value in self._left.items():
            if name in IGNORED or value in NEUTRAL.get(name, ()):
                continue
            told = f"{self._path}{name} is not supported here: leave it out"
            if name not in NEUTRAL:
                told = f"there is no parameter {self._path}{name}.{near(name, self._known)}"
            raise RefusedError(400, told, f"{self._path}{name}", "unsupported_parameter")

    def _wrong(self, name: str, value: Any, expected: str) -> RefusedError:
        shown = "missing" if value is None else f"{value!r:.60}"
        return RefusedError(400, f"{self._path}{name} is {shown}: it has to be {expected}", f"{self._path}{name}")


def _message(item: Any, place: int) -> Message:
    """A message whose content is text, or a list of parts that are all text. What is empty says nothing and is passed over."""
    where = f"messages[{place}]"
    if not isinstance(item, dict):
        raise RefusedError(400, f"{where} is a JSON {json_name(item)}: make it an object with role and content", where)
    odd = [key for key, value in item.items() if key not in ("role", "content") and value]
    if odd:
        told = f"{where}.{odd[0]} is not supported: a message has a role and text as its content"
        raise RefusedError(400, told, f"{where}.{odd[0]}", "unsupported_parameter")
    content = item.get("content")
    if isinstance(content, list):
        parts = [
            part.get("text") if isinstance(part, dict) and part.get("type") == "text" else None for part in content
        ]
        content = "".join(parts) if all(isinstance(part, str) for part in parts) else None  # type: ignore[arg-type]
    if not isinstance(item.get("role"), str) or not isinstance(content, str):
        raise RefusedError(400, f"{where} has to have a role and, as its content, text or parts of type text", where)
    return {"role": item["role"], "content": content}


def _prompts(value: Any, chat: Chat, offer: Offer) -> tuple[tuple[tuple[int, ...], ...], tuple[str, ...]]:
    """Tokens and texts of one prompt or of several, given as text or as token ids."""
    several = value if isinstance(value, list) and value and type(value[0]) is not int else [value]
    prompts, texts = [], []
    for prompt in several:
        if isinstance(prompt, str):
            # Unlike a chat template, text does not bring its own start token along.
            ids, text = chat.tokenizer(prompt)["input_ids"], prompt
        elif _ids(prompt, offer.vocabulary):
            ids, text = prompt, chat.decode(prompt)
        else:
            accepted = f"text, a list of token ids below {offer.vocabulary}, or a list of either"
            raise RefusedError(400, f"prompt has to be {accepted}", "prompt")
        if not ids:
            raise RefusedError(400, "a prompt is empty: it has no token to continue from", "prompt")
        prompts.append(tuple(ids))
        texts.append(text)
    return tuple(prompts), tuple(texts)


def _ids(prompt: Any, vocabulary: int) -> bool:
    return isinstance(prompt, Sequence) and all(type(token) is int and 0 <= token < vocabulary for token in prompt)
