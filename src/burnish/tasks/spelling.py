"""Spelling: name the letters of a word, count one of them, or say the word backwards. Tokens hide what is asked for."""

from __future__ import annotations

from dataclasses import dataclass

from burnish.core.keys import uniforms
from burnish.errors import InputError
from burnish.rewards.accuracy import accuracies, final_part
from burnish.tasks import checks
from burnish.tasks.problems import Problems, evasions, pick
from burnish.types import Completion, Example

KINDS = ("spell", "count", "reverse")
SEPARATORS = {"-": "dashes", " ": "spaces"}
_TEXT = """
ant apple arrow autumn bakery balloon banana basket battery beach beetle berry bicycle bitter blanket blossom book
bottle branch bread breeze bridge bright broom brother bucket butter button cabbage cabin camel candle carpet
carrot castle cattle cellar cherry chicken chimney circle city clock cloud coffee collar copper corner cotton
cousin cradle cream cricket curtain daisy dancer desert diamond dinner doctor dollar dolphin dragon drawer dream
drum eagle early earth effort eleven engine evening fabric farmer feather fellow fence fiddle finger fire flower
flute forest fossil fountain fox friend frog garden garlic gentle giraffe glass glove goose grape grass green
guitar hammer happy harbour harvest hazel heather hedge helmet hollow honey horse hotel house hunter husband iron
island ivory jacket jewel jungle kettle kitchen kitten ladder lamp lantern laptop lemon letter library lily lion
lizard lobster lumber machine magnet mango maple marble market meadow melon memory mirror moment monkey morning
mother mountain muffin mushroom music napkin narrow needle nephew nest number nutmeg oak ocean office olive onion
orange orchard otter owl oyster paddle palace panda paper parrot pasture pebble pencil penguin pepper piano
picture pillow planet plum pocket potato prairie pumpkin puppet purple puzzle rabbit raven ribbon river robin
rocket saddle sailor salmon sandal school scissors season seven shadow sheep shell silver sister snail soccer
spider spinach spoon spring squirrel stable station stream street sugar summer sunset swallow table teapot temple
thunder tiger timber tomato tractor traffic tree trumpet tulip tunnel turtle umbrella uncle valley velvet vessel
village violin wagon walnut warm water weather willow window winter wizard wolf wood yellow yogurt zebra zipper
"""
WORDS = tuple(_TEXT.split())
_FULL_WIDTH = 0xFEE0  # from a letter of ASCII to one that looks like it


@dataclass(frozen=True)
class Spelling(Problems):
    """Questions of ``kinds`` about common words of ``shortest`` to ``longest`` letters.

    "spell" wants the letters with dashes or spaces between them, "count" how often a letter occurs, "reverse" the word from
    its end. Case does not matter. ``meta``: kind, difficulty (letters of the word), canonical (the word: no question about a
    word of the training split is held out), word, separator.
    """

    kinds: tuple[str, ...] = KINDS
    shortest: int = 3
    longest: int = 12

    def __post_init__(self) -> None:
        super().__post_init__()
        for kind in self.kinds:
            checks.check_choice("kind of spelling", kind, KINDS)
        if not self.kinds or not self._words:
            raise InputError(
                f"{self}: give at least one kind, and shortest and longest for which there are words (3 to 8)"
            )

    @property
    def _words(self) -> tuple[str, ...]:
        return tuple(word for word in WORDS if self.shortest <= len(word) <= self.longest)

    def draw(self, key: int) -> Example | None:
        which, kind_at, letter_at, separator_at = uniforms(key, 4)
        kind, word = pick(self.kinds, kind_at), pick(self._words, which)
        letter, separator = pick(word, letter_at), pick(tuple(SEPARATORS), separator_at)
        question, closing, answer = {
            "spell": (f"Spell the word '{word}' with {SEPARATORS[separator]} between the letters.",
                      "Reply with the letters only.", separator.join(word)),
            "count": (f"How often does the letter '{letter}' occur in '{word}'?", "Reply with the number only.",
                      str(word.count(letter))),
            "reverse": (f"Write the word '{word}' backwards.", "Reply with one word only.", word[::-1]),
        }[kind]  # fmt: skip
        meta = {"kind": kind, "difficulty": len(word), "canonical": word, "word": word, "separator": separator}
        return self.asked(question, closing, answer, meta)

    def measure(self, example: Example, completion: Completion) -> dict[str, float]:
        """Both readings of the accuracy (see :mod:`burnish.rewards.accuracy`); letters in front of the right ones are wrong."""
        if example.meta["kind"] == "spell" and _runs_on(completion.text, example.answer):
            return {"accuracy": 0.0, "accuracy_strict": 0.0}
        return accuracies(example, completion)

    def gold(self, example: Example) -> str:
        return self.reply(example.answer, thoughts=" ".join(example.meta["word"]))

    def near_misses(self, example: Example) -> tuple[str, ...]:
        """A letter too few, too many or of another alphabet, the word itself, other separators, other numbers."""
        word, answer, separator = example.meta["word"], example.answer, example.meta["separator"]
        lookalike = "".join(chr(ord(x) + _FULL_WIDTH) if x.isalnum() else x for x in answer)
        if example.meta["kind"] == "count":
            wrong = [str(int(answer) + 1), f"{answer}1", f"-{answer}", f"{answer}²", lookalike, "many"]
        elif example.meta["kind"] == "reverse":
            wrong = [word, answer[:-1], answer + answer[-1], "-".join(answer), lookalike]
        else:
            other = "-" if separator == " " else " "
            letters = [word, word[:-1], word[0] + word, word + word[-1], word[::-1]]
            wrong = [word, other.join(word), lookalike, *(separator.join(each) for each in letters)]
        return (*(self.reply(text, word) for text in wrong if text != answer), *evasions(answer))


def _runs_on(text: str, answer: str) -> bool:
    """Whether a single letter stands in front of the letters that are wanted: "s c a t" is no spelling of cat."""
    words, wanted = (final_part(text) or "").split(), len(answer.split())
    return len(words) > wanted and len(words[-wanted - 1].strip(".,:;'\"*`")) == 1
