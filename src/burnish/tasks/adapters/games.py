"""The toy games of gymnasium in words: their rules, the names of their actions, and what an observation means."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple


class Words(NamedTuple):
    """How a game is talked about. ``rules`` and ``tell`` are given the game itself (``env.unwrapped``).

    ``won`` says of a return, and of whether the game ended by itself, if that is a success; None leaves it to the threshold
    that gymnasium has for the game.
    """

    actions: tuple[str, ...]
    rules: Callable[[Any], str]
    tell: Callable[[Any, Any], str]
    won: Callable[[float, bool], bool] | None = None


def words_for(game: Any) -> Words | None:
    """The words for a game, by its class; None where there are none of its own."""
    return KNOWN.get(type(game).__name__)


def _lake_rules(game: Any) -> str:
    rows = "\n".join("".join(cell.decode() for cell in row) for row in game.desc)
    slips = any(len(outcomes) > 1 for moves in game.P.values() for outcomes in moves.values())
    ice = " The ice is slippery: you may slide to the side." if slips else ""
    return f"Cross the frozen lake from S to G. F is ice, H is a hole: do not fall in.{ice}\n{rows}"


def _cliff_rules(game: Any) -> str:  # noqa: ARG001
    rows = "\n".join(("." * 12, "." * 12, "." * 12, f"S{'C' * 10}G"))
    return f"Walk from S to G in few steps. C is a cliff: who falls is back at S and pays 100.\n{rows}"


def _taxi_rules(game: Any) -> str:
    rows = "\n".join("".join(cell.decode() for cell in row) for row in game.desc)
    asked = "Drive the taxi to the passenger, pick up, drive to the destination, drop off. | is a wall, : is none."
    return f"{asked}\n{rows}"


def _twenty_one_rules(game: Any) -> str:  # noqa: ARG001
    return "Blackjack: get closer to 21 than the dealer, and not above it. Hit takes a card, stick ends your turn."


def _cell(columns: Callable[[Any], int]) -> Callable[[Any, Any], str]:
    def tell(game: Any, observation: Any) -> str:
        row, column = divmod(int(observation), columns(game))
        return f"You are in row {row + 1}, column {column + 1}."

    return tell


_STANDS = ("red (R)", "green (G)", "yellow (Y)", "blue (B)")


def _taxi(game: Any, observation: Any) -> str:
    row, column, passenger, destination = game.decode(int(observation))
    where = "in the taxi" if passenger == len(_STANDS) else f"at {_STANDS[passenger]}"
    return f"The taxi is in row {row + 1}, column {column + 1}. The passenger is {where} and wants to {_STANDS[destination]}."


def _twenty_one(game: Any, observation: Sequence[int]) -> str:  # noqa: ARG001
    mine, dealer, ace = (int(value) for value in observation)
    return f"You have {mine}{' with an ace that counts 11' if ace else ''}. The dealer shows {dealer}."


def _pole(game: Any, observation: Any) -> str:  # noqa: ARG001
    names = ("cart position", "cart velocity", "pole angle", "pole velocity")
    return ", ".join(f"{name} {value:.3f}" for name, value in zip(names, observation, strict=True)) + "."


def _pole_rules(game: Any) -> str:  # noqa: ARG001
    return "Keep the pole upright by pushing the cart. A positive angle leans to the right."


KNOWN: Mapping[str, Words] = {
    "FrozenLakeEnv": Words(
        ("left", "down", "right", "up"), _lake_rules, _cell(lambda game: game.ncol), lambda total, _: total >= 1
    ),
    "CliffWalkingEnv": Words(
        ("up", "right", "down", "left"), _cliff_rules, _cell(lambda game: game.shape[1]), lambda _, over: over
    ),
    "TaxiEnv": Words(
        ("south", "north", "east", "west", "pick up", "drop off"), _taxi_rules, _taxi, lambda _, over: over
    ),
    "BlackjackEnv": Words(("stick", "hit"), _twenty_one_rules, _twenty_one, lambda total, _: total > 0),
    "CartPoleEnv": Words(("left", "right"), _pole_rules, _pole),
}
"""``{class of the game: words}``."""
