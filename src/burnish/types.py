"""The records that travel through Burnish. Shapes are stated here, once.

One alignment rule holds everywhere: column ``t`` of a per-token tensor belongs to the ``t``-th *completion* token of its
row. Only :mod:`burnish.core.logprobs` shifts by one.

Letters used in shapes: ``B`` rows, ``T`` the longest completion of the batch, ``U`` units, ``V`` the vocabulary.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, fields, replace
from pathlib import Path
from typing import Any, NamedTuple, Protocol, TypedDict, runtime_checkable

import torch
from torch import Tensor

from burnish.sampling import Sampling as Sampling  # noqa: PLC0414 - one of the records, in a file of its own


class Message(TypedDict):
    """One turn of a conversation, as chat templates expect it."""

    role: str
    content: str


@dataclass(frozen=True)
class Example:
    """One item of a task: what the model is asked, and what a grader needs to judge the reply."""

    messages: tuple[Message, ...]
    answer: Any = None
    meta: Mapping[str, Any] = field(default_factory=dict)


class Step(NamedTuple):
    """One step of a stepped answer. ``rating`` is 1 (good), 0 (neutral), -1 (wrong), or None where nobody rated it.

    An estimate may lie between them.
    """

    text: str
    rating: float | None = None


@dataclass(frozen=True)
class Answer:
    """One answer of a comparison: the messages that follow its prompt, and what is known about them.

    ``rank`` counts from 0, the best; equal ranks are ties. ``label`` is the probability that the answer is a good one, or, in
    a pair, that it is the preferred one: 1 and 0 are plain labels. ``scores`` are numbers by name ("score" for an overall one,
    "margin" for a pair's, attributes). ``steps`` join to the text of the answer.
    """

    messages: tuple[Message, ...]
    rank: int | None = None
    label: float | None = None
    scores: Mapping[str, float] = field(default_factory=dict)
    steps: tuple[Step, ...] = ()


@dataclass(frozen=True)
class Comparison:
    """One prompt and its judged answers: a pair, a ranking of K, or a single answer with a label, scores or rated steps."""

    prompt: tuple[Message, ...]
    answers: tuple[Answer, ...]
    meta: Mapping[str, Any] = field(default_factory=dict)


PROMPT_IS_TEXT = "prompt_is_text"
"""Key of ``Example.meta``: the prompt was a plain string in the user's data, so a reward function gets strings."""


class RewardPart(NamedTuple):
    """One named contribution to a reward. ``position`` is a completion token; -1 means the last one."""

    position: int
    value: float
    part: str


Reward = tuple[RewardPart, ...]


def outcome(value: float, part: str = "reward") -> Reward:
    """A plain outcome reward: one entry at the end of the completion."""
    return (RewardPart(-1, float(value), part),)


CUT = ("length", "repetition")
"""The ways to finish of a completion that was cut off."""


@dataclass(frozen=True)
class Request:
    """One completion to sample. All randomness of the completion comes from ``key`` (see :mod:`burnish.core.keys`).

    ``begun`` is what there is of it already, with finish "paused": sampling goes on after its tokens as if it had never
    stopped, and they count for ``max_tokens``; one that leaves no room comes back as it is, with finish "length". After
    ``pause`` new tokens (0: never) an unfinished completion comes back with finish "paused". However it was cut into pauses,
    the completion is the same. Under ``sampling.thinking`` the beginning of a closing may be taken back from ``begun``.
    """

    prompt: tuple[int, ...]
    key: int
    sampling: Sampling
    begun: Completion | None = None
    pause: int = 0


@dataclass(frozen=True)
class Completion:
    """What a sampler returns and what a reward sees: never a bare string only.

    ``finish`` is "eos", "stop", "length", "repetition", or "paused" where more is to come. ``mask`` is False on tokens that
    were forced upon the policy, with log-prob 0; empty, it chose all of them. ``logprobs`` are at the sampling temperature,
    over all tokens but the suppressed ones, before top-p and top-k; ``kept`` is the probability mass that top-p and top-k
    kept at each token (1 without truncation).
    ``tokens`` ends with the end-of-turn token where one was sampled; ``text`` leaves it out. ``index`` is the place of its
    request in the call. ``kept_ids`` are the tokens that top-p and top-k kept at each place, in ascending order, where
    ``Sampling.truncation`` is "kept" and they cut anything; else it is empty.
    """

    tokens: tuple[int, ...]
    text: str
    messages: tuple[Message, ...]
    finish: str
    logprobs: tuple[float, ...] = ()
    kept: tuple[float, ...] = ()
    index: int = 0
    kept_ids: tuple[tuple[int, ...], ...] = ()
    mask: tuple[bool, ...] = ()

    @property
    def chosen(self) -> tuple[bool, ...]:
        """Whether the policy chose the token, token by token."""
        return self.mask or (True,) * len(self.tokens)

    @property
    def cut(self) -> bool:
        """Whether it was cut off: at its limit, or because it went round in circles."""
        return self.finish in CUT


@dataclass(frozen=True)
class Rollout:
    """One segment: one (prompt, completion) row. An episode is one or more segments.

    ``mask`` is False on tokens the policy did not sample (forced tokens, the environment's). ``rewards`` holds (position,
    value, part) with positions in this row; :attr:`reward` is their sum. ``version`` counts the optimizer steps the sampler's
    weights had seen. ``train=False`` marks rows that only serve as a baseline. ``kept`` is the mass top-p and top-k kept per
    token. ``sampler_logprobs`` are before that cut. ``kept_ids``, where not empty, has the ids that were kept for each token
    (an empty set: the whole vocabulary), and the row is trained under the truncated policy.
    """

    prompt: tuple[int, ...]
    tokens: tuple[int, ...]
    mask: tuple[bool, ...]
    sampler_logprobs: tuple[float, ...]
    rewards: tuple[RewardPart, ...]
    group: int
    episode: int
    turn: int = 0
    version: int = 0
    finish: str = "eos"
    train: bool = True
    kept: tuple[float, ...] = ()
    kept_ids: tuple[tuple[int, ...], ...] = ()

    @property
    def reward(self) -> float:
        return sum(part.value for part in self.rewards)

    @property
    def cut(self) -> bool:
        """Whether it was cut off, as :attr:`Completion.cut`."""
        return self.finish in CUT


Metrics = dict[str, tuple[float, float]]
"""``{name: (sum, count)}``. Engines add them; the division happens once, where they are logged."""


def add_metrics(*many: Metrics) -> Metrics:
    """The sum of additive metrics, name by name."""
    total: Metrics = {}
    for metrics in many:
        for name, (value, count) in metrics.items():
            before = total.get(name, (0.0, 0.0))
            total[name] = (before[0] + value, before[1] + count)
    return total


def means(metrics: Metrics) -> dict[str, float]:
    """Sums divided by counts; a name whose count is zero is left out."""
    return {name: value / count for name, (value, count) in metrics.items() if count}


EXTRA_KINDS = ("token", "row", "unit")


@dataclass(frozen=True)
class Batch:
    """Rows ready for a loss. What has not been annotated yet is None.

    ========================  =======  ==============================================================
    prompts                   B x [P]  prompt tokens, ragged
    tokens                    [B, T]   completion tokens, zeros after ``lengths``
    mask                      [B, T]   True where the policy chose the token and the loss may see it
    lengths                   [B]      number of completion tokens
    groups, episodes, units   [B]      ids: rows of a group share a prompt; a unit is never split
    train                     [B]      False for rows that only serve as a baseline
    sampler_logprobs          [B, T]   as sampled, at ``temperature``; after truncation where ``kept_ids`` are given
    old_logprobs              [B, T]   by the trainer, before the update; None means "equal to the current ones"
    ref_logprobs, values      [B, T]
    token_rewards             [B, T]   rewards at the token they were given for
    advantages, returns       [B, T]
    ranks                     [B]      within the unit, 0 the best; -1 where there is no rank
    targets                   {name: [B]}  labels, scores, attributes; NaN where a row has none
    weights                   {term: [B, T] or [U]}   aggregation, computed once per optimizer step
    extras                    {name: (kind, tensor)}  kind is "token" [B, T, ...], "row" [B, ...] or "unit" [U, ...]
    ========================  =======  ==============================================================

    ``extras["kept_ids"]`` [B, T, K], padded with -1, restricts the distribution of a token to these ids: every model that
    sees the batch, policy and reference alike, renormalises over them. Nothing but -1 means the whole vocabulary.
    ``suppressed`` are ids that no distribution of the batch is over, but for tokens that are suppressed ones themselves:
    these were forced.
    """

    prompts: tuple[Tensor, ...]
    tokens: Tensor
    mask: Tensor
    lengths: Tensor
    groups: Tensor
    episodes: Tensor
    units: Tensor
    train: Tensor
    sampler_logprobs: Tensor | None = None
    old_logprobs: Tensor | None = None
    ref_logprobs: Tensor | None = None
    values: Tensor | None = None
    token_rewards: Tensor | None = None
    advantages: Tensor | None = None
    returns: Tensor | None = None
    ranks: Tensor | None = None
    targets: Mapping[str, Tensor] = field(default_factory=dict)
    weights: Mapping[str, Tensor] = field(default_factory=dict)
    extras: Mapping[str, tuple[str, Tensor]] = field(default_factory=dict)
    temperature: float = 1.0
    suppressed: tuple[int, ...] = ()

    def __len__(self) -> int:
        return len(self.prompts)

    @property
    def unit_ids(self) -> Tensor:
        """[U] the distinct unit ids in ascending order: the order of every [U] tensor."""
        distinct: Tensor = torch.unique(self.units)
        return distinct

    def extra(self, name: str) -> Tensor:
        return self.extras[name][1]

    def select(self, rows: Sequence[int] | Tensor) -> Batch:
        """The batch of these rows, in this order. Raises ValueError if a unit would be split."""
        index = torch.as_tensor(rows, dtype=torch.long)
        kept = torch.unique(self.units[index])
        if int(torch.isin(self.units, kept).sum()) != len(torch.unique(index)):
            raise ValueError("rows of one unit cannot be separated: select all of them or none")
        unit_index = torch.searchsorted(self.unit_ids, kept)

        def pick(kind: str, tensor: Tensor) -> Tensor:
            return tensor[unit_index if kind == "unit" else index]

        chosen: dict[str, Any] = {
            f.name: getattr(self, f.name)[index] for f in fields(self) if isinstance(getattr(self, f.name), Tensor)
        }
        chosen["prompts"] = tuple(self.prompts[i] for i in index.tolist())
        chosen["targets"] = {n: target[index] for n, target in self.targets.items()}
        chosen["weights"] = {n: pick("token" if w.ndim == 2 else "unit", w) for n, w in self.weights.items()}
        chosen["extras"] = {n: (kind, pick(kind, x)) for n, (kind, x) in self.extras.items()}
        return replace(self, **chosen)

    def to(self, device: torch.device | str) -> Batch:
        """The same batch with every tensor on ``device``."""
        moved: dict[str, Any] = {
            f.name: getattr(self, f.name).to(device) for f in fields(self) if isinstance(getattr(self, f.name), Tensor)
        }
        moved["prompts"] = tuple(p.to(device) for p in self.prompts)
        moved["targets"] = {n: target.to(device) for n, target in self.targets.items()}
        moved["weights"] = {n: w.to(device) for n, w in self.weights.items()}
        moved["extras"] = {n: (kind, x.to(device)) for n, (kind, x) in self.extras.items()}
        return replace(self, **moved)


@dataclass(frozen=True)
class Outputs:
    """What a model computed for a batch: ``logprobs`` and ``entropy`` [B, T] at the batch's temperature, over its
    ``kept_ids`` and without its ``suppressed`` ids; ``heads`` by name ([B, T] or [B, T, out] for a head at "tokens" or
    "steps", [B] or [B, out] for one at "last"). Entries past a row's length are zero.

    Where a loss asks for them (:class:`Needs`): ``at_ids`` [B, T, K], the log-probs of the ids in ``extras["ids"]``, and
    ``divergence`` [B, T] from the teacher. Where a loss needs no log-probs, ``logprobs`` and ``entropy`` are NaN.
    """

    logprobs: Tensor
    entropy: Tensor
    heads: Mapping[str, Tensor] = field(default_factory=dict)
    at_ids: Tensor | None = None
    divergence: Tensor | None = None


@dataclass(frozen=True)
class Head:
    """A linear head beside the language-model head: ``out`` numbers "at" every completion token or at the "last" one.

    At "tokens" the state in front of each token is read, as the language-model head reads it: V(s_t) before the choice. At
    "steps" it is the state behind each token, where a step may end, and at "last" the one behind the last token, the end of
    the turn, when all of the answer has been read.

    ``spread`` is the standard deviation of its first outputs, about. At 0 a critic begins by saying 0 everywhere; a random
    one would send the policy somewhere before it has seen a reward. A new head begins as the one called ``like``, if the
    model was exported with such a head and with none of its own name: a critic begins as a reward model.
    """

    out: int = 1
    at: str = "tokens"
    spread: float = 0.0
    like: str = ""


@dataclass(frozen=True)
class Needs:
    """What a loss asks of the model and of the batch: its attribute ``needs``, by default a plain ``Needs()``.

    ``logprobs`` False spares the head over the vocabulary. ``reference`` asks for ``batch.ref_logprobs``. With ``statistics``
    ``prepare(batch, outputs)`` also gets what the current weights say about the whole mini-batch, one more forward pass.
    ``mismatched`` adds to the batch, for every unit, a unit of one row: its prompt with an answer to another one. Such rows
    are False in ``train`` and True in ``extras["mismatched"]``; ``prepare`` sees them, the loss itself does not. ``heads``
    have to be there. ``at_ids`` and ``divergence`` are described at :class:`Outputs`; ``divergence`` is the share of the
    teacher in the mixture of a generalised Jensen-Shannon divergence (arXiv:2306.13649).
    """

    logprobs: bool = True
    reference: bool = False
    statistics: bool = False
    mismatched: bool = False
    heads: Mapping[str, Head] = field(default_factory=dict)
    at_ids: bool = False
    divergence: float | None = None


Loss = Callable[[Outputs, Batch], tuple[Tensor, Metrics]]
"""A picklable value. Optionally it has ``needs`` (:class:`Needs`) and ``prepare(batch) -> batch``, called once per optimizer
step on the global mini-batch."""


def needs_of(loss: Loss) -> Needs:
    found: Needs = getattr(loss, "needs", Needs())
    return found


@runtime_checkable
class Task(Protocol):
    """A data set and its grader in one value; single turn unless it also has ``env(example) -> Env``."""

    def __len__(self) -> int: ...
    def __getitem__(self, index: int) -> Example: ...
    def reward(self, example: Example, completions: Sequence[Completion]) -> list[Reward]: ...


class Env(Protocol):
    """A conversation partner for many turns.

    ``reset`` returns the opening messages; all randomness of the episode follows from ``seed``. ``step`` takes the policy's
    text and returns the messages that follow it, the reward parts of the turn (positions are tokens of that turn), whether
    the episode is over, and free-form information for the log.
    """

    def reset(self, seed: int) -> tuple[Message, ...]: ...
    def step(self, text: str) -> tuple[tuple[Message, ...], Reward, bool, Mapping[str, Any]]: ...


@runtime_checkable
class Hearing(Env, Protocol):
    """An env that is given whole replies: how each of them ended, and what the other players of its game say.

    In every round ``hear`` is called for all episodes before ``step`` is called for any.
    """

    def hear(self, reply: Completion) -> None: ...


class EnvTask(Task, Protocol):
    """A task of several turns: ``env`` answers the policy, at most ``max_turns`` times. Its environments give the rewards."""

    @property
    def max_turns(self) -> int: ...
    def env(self, example: Example) -> Env: ...


@runtime_checkable
class Game(EnvTask, Protocol):
    """A task whose players meet: the episodes that are trained on have envs that know of each other.

    ``seats`` gives the envs of ``count`` episodes of an example. They are played in the same rounds (see :class:`Hearing`),
    each is one player's own conversation, and rewards go to whoever earned them. ``env`` alone is against a fixed opponent.
    """

    def seats(self, example: Example, count: int) -> Sequence[Env]: ...


class Model(Protocol):
    """Policy, critic, reference and reward model: one type. Weights, gradient and optimizer state live behind it."""

    def forward(self, batch: Batch) -> Outputs: ...
    def forward_backward(self, batch: Batch, loss: Loss) -> tuple[Metrics, Outputs]: ...
    def optim_step(self, lr: float) -> Metrics: ...
    def checkpoint(self, directory: Path) -> None: ...
    def restore(self, directory: Path) -> None: ...
    def export(self, directory: Path) -> None: ...
    def weights(self) -> Mapping[str, Tensor]: ...


class Sampler(Protocol):
    """Draws completions. They are yielded as rows finish; the order of arrival never reaches a batch.

    ``context`` is the most tokens a prompt and its completion may have together.
    """

    reproducible: bool

    @property
    def context(self) -> int: ...

    def sample(self, requests: Iterable[Request]) -> Iterator[Completion]: ...
    def load(self, weights: Mapping[str, Tensor], version: int) -> None: ...
