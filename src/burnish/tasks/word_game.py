"""Word chain for two players, in which one policy plays both: no other model is needed, and it meets its equal.

Both players are given the same word and answer at the same time with a word that begins with its last letter. From then on
each continues from what the other said last, so that two chains run crosswise through the game::

    given        tea
    first   ->   ape        egg    ...
                      ><
    second  ->   ant        tree   ...

A word counts if it is in the list, begins with that letter and was not said before by anyone. Who has none while the other
has one loses: the loser is paid -1 and the winner 1, at the reply with which the game ends. Where both fail, and after the last
round, it is a draw and pays 0. As both players have the same part, the game is worth 0 to a policy that plays itself.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from burnish.core.keys import derive, uniforms
from burnish.errors import InputError
from burnish.tasks import checks
from burnish.types import Completion, Env, Example, Message, Reward, outcome

WORDS = (
    "ant", "ape", "arm", "ash", "bat", "bee", "box", "bus", "cat", "cow", "cup", "day", "dog", "ear",
    "egg", "elf", "eye", "fan", "fig", "fox", "gem", "hat", "hen", "ice", "ink", "jam", "jar", "key",
    "leg", "lip", "map", "net", "nut", "oak", "owl", "pen", "pig", "rat", "red", "rug", "sea", "sky",
    "sun", "tea", "tie", "top", "toy", "tub", "urn", "van", "web", "yak", "yam", "zip",
)  # fmt: skip
RULES = (
    "Word chain. Reply with one word of this list that begins with the last letter of mine and was not said before: {words}. "
    "Who has none loses."
)
OPPONENTS = ("self", "random")
WIN, LOSE, DRAW = "You win.", "You lose.", "It is a draw."


@dataclass(frozen=True)
class WordGame:
    """Games of at most ``rounds`` rounds over ``words``; the words that are given first decide the split.

    ``opponent`` "self" is self-play: the episodes of a group meet in pairs, so a group is even. Each is one player's own
    conversation, in which the other's words are messages, and each player is paid for its own replies only: the rewards of a
    pair add up to 0. "random" is an opponent that says a random permitted word; held-out evaluation always meets that one.
    ``rules`` says them in the first message; without, messages are single words, as a table of words needs them. ``meta``:
    kind, canonical (the word that is given), word.
    """

    words: tuple[str, ...] = WORDS
    rounds: int = 6
    opponent: str = "self"
    rules: bool = True
    split: str = "train"
    size: int = 10_000

    def __post_init__(self) -> None:
        checks.check_choice("opponent", self.opponent, OPPONENTS)
        checks.check_choice("split", self.split, checks.SPLITS)
        if self.rounds < 1 or self.size < 1:
            raise InputError(f"rounds={self.rounds}, size={self.size}: give at least 1 of each")
        if not self.words or any(not word.isalpha() or word != word.lower() for word in self.words):
            raise InputError("a word game needs words of small letters only")

    @property
    def max_turns(self) -> int:
        return self.rounds

    def __len__(self) -> int:
        return self.size

    def __getitem__(self, index: int) -> Example:
        checks.check_index(index, self.size)
        given = self._given()
        word = given[index % len(given)]
        meta = {"kind": "word-game", "canonical": word, "word": word}
        return Example((self._opening(word),), None, meta)

    def env(self, example: Example) -> Seat:
        """One player against an opponent that says a random permitted word."""
        return Seat(Table(self.words, self.rounds, example.meta["word"]), 0, example.messages, chance=True)

    def seats(self, example: Example, count: int) -> Sequence[Env]:
        """The players of ``count`` episodes: each two at one table, or each alone with the random opponent.

        Raises InputError where one would have no partner.
        """
        if self.opponent == "random":
            return [self.env(example) for _ in range(count)]
        if count % 2:
            raise InputError(
                f"self-play needs partners, and a group of {count} has one too many: set an even rl.group, an "
                "algorithm without a greedy row, or task.opponent=random"
            )
        tables = [Table(self.words, self.rounds, example.meta["word"]) for _ in range(count // 2)]
        return [Seat(table, player, example.messages) for table in tables for player in (0, 1)]

    def with_split(self, split: str) -> WordGame:
        return replace(self, split=split)

    def reward(self, example: Example, completions: Sequence[Completion]) -> list[Reward]:  # noqa: ARG002
        """Not for single completions: raises InputError. The env pays at the end of a game."""
        raise InputError("a word game is played turn by turn: it is rewarded by its env, not by one completion")

    def measure(self, example: Example, completion: Completion) -> dict[str, float]:  # noqa: ARG002
        """{"win", "not_lost"} of a whole game."""
        last = completion.messages[-1]["content"]
        return {"win": float(last == WIN), "not_lost": float(last in (WIN, DRAW))}

    def validate(self, count: int = 25) -> str:
        """Play games in which a player breaks a rule, against one who does not. One line on what was checked.

        Raises AssertionError where the wrong one wins, rewards do not add up to 0, or two splits share a word.
        """
        given = {split: self.with_split(split)._given() for split in checks.SPLITS}
        if sum(map(len, given.values())) != len(set().union(*given.values())):
            raise AssertionError("two splits share a word")
        games = 0
        for split in checks.SPLITS:
            part = self.with_split(split)
            for word in given[split][:count]:
                games += part._try_out(word)
        words = ", ".join(f"{len(own)} {split}" for split, own in given.items())
        return f"who breaks a rule loses, in {games} games; splits are disjoint ({words} words)"

    def _try_out(self, word: str) -> int:
        """Games that begin with a word, each with one broken rule and its twin; how many there were."""
        right = _permitted(self.words, word, {word})[0]
        other = next(each for each in self.words if each[0] != word[-1])
        wrong = ("", other, word, f"{right} {right}", right.upper() + "s")
        pairs = [((right, bad), (1.0, -1.0)) for bad in wrong] + [((bad, bad), (0.0, 0.0)) for bad in wrong]
        for said, wanted in pairs:
            table = Table(self.words, self.rounds, word)
            seats = [Seat(table, player, ()) for player in (0, 1)]
            for seat, text in zip(seats, said, strict=True):
                seat.hear(Completion((), text, (), "eos"))
            paid = tuple(seat.step(text)[1][0].value for seat, text in zip(seats, said, strict=True))
            if paid != wanted:
                raise AssertionError(f"after '{word}', {said} pay {paid} instead of {wanted}")
        return len(pairs)

    def _given(self) -> list[str]:
        """The words of this split that can be continued. Raises InputError where there is none."""
        found = [
            word for word in self.words if checks.split_of(word) == self.split and _permitted(self.words, word, {word})
        ]
        if not found:
            raise InputError(f"no word of split '{self.split}' can be continued: give more words")
        return found

    def _opening(self, word: str) -> Message:
        told = f"{RULES.format(words=' '.join(self.words))}\n" if self.rules else ""
        return {"role": "user", "content": f"{told}{word}"}


@dataclass
class Table:
    """One game: what both players have said, round by round."""

    words: tuple[str, ...]
    rounds: int
    given: str
    said: tuple[list[str], list[str]] = field(default_factory=lambda: ([], []))

    def stands(self, player: int, turn: int) -> bool:
        """Whether what a player said in a round, from 0, keeps the rules."""
        return self.said[player][turn] in _permitted(self.words, self.before(player, turn), self.used(turn))

    def before(self, player: int, turn: int) -> str:
        """What a player had to continue in a round."""
        return self.said[1 - player][turn - 1] if turn else self.given

    def used(self, turn: int) -> set[str]:
        """What had been said before a round."""
        return {self.given, *self.said[0][:turn], *self.said[1][:turn]}


@dataclass
class Seat:
    """One player's view of a game. With ``chance`` the other player is drawn: a random permitted word, while there is one."""

    table: Table
    player: int
    opening: tuple[Message, ...]
    chance: bool = False
    turn: int = 0
    seed: int = field(default=0, repr=False)

    def reset(self, seed: int) -> tuple[Message, ...]:
        self.turn, self.seed = 0, derive(seed, "opponent")
        for said in self.table.said:
            said.clear()
        return self.opening

    def hear(self, reply: Completion) -> None:
        """Put what the policy says on the table, before anybody is answered."""
        self.table.said[self.player].append(reply.text.strip().lower())
        if self.chance:
            self.table.said[1 - self.player].append(self._drawn())

    def step(self, text: str) -> tuple[tuple[Message, ...], Reward, bool, Mapping[str, Any]]:
        """The other player's word, or how the game ended. A partner who left, its context being full, makes it a draw."""
        table, turn = self.table, self.turn
        if len(table.said[self.player]) == turn:
            self.hear(Completion((), text, (), "eos"))
        self.turn += 1
        if len(table.said[1 - self.player]) == turn:
            return _end(0.0)
        own, other = table.stands(self.player, turn), table.stands(1 - self.player, turn)
        if not (own and other) or self.turn == table.rounds:
            return _end(float(own) - float(other))
        answer: Message = {"role": "user", "content": table.said[1 - self.player][turn]}
        return (answer,), (), False, {}

    def _drawn(self) -> str:
        other, turn = 1 - self.player, self.turn
        choices = _permitted(self.table.words, self.table.before(other, turn), self.table.used(turn))
        return choices[int(uniforms(self.seed, 1, start=turn)[0] * len(choices))] if choices else ""


def _permitted(words: Sequence[str], before: str, used: set[str]) -> list[str]:
    return [word for word in words if word[0] == before[-1:] and word not in used]


def _end(value: float) -> tuple[tuple[Message, ...], Reward, bool, Mapping[str, Any]]:
    said = WIN if value > 0 else LOSE if value < 0 else DRAW
    return ({"role": "user", "content": said},), outcome(value, "game"), True, {}
