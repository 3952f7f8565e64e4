"""The errors a user can mend. Everything else propagates as it is."""

from __future__ import annotations

import difflib
from collections.abc import Iterable


class InputError(ValueError):
    """Something the user gave cannot be used. The message says what is wrong and names the fix; exit code 2."""


class TrainingHaltedError(RuntimeError):
    """Training stopped itself because going on would have been wrong (for example non-finite gradients three times)."""


def unknown(kind: str, name: str, known: Iterable[str]) -> InputError:
    """The error for a name that does not exist, with the nearest one that does."""
    names = sorted(known)
    return InputError(f"unknown {kind} '{name}'.{near(name, names)} Known: {', '.join(names)}.")


def near(name: str, known: Iterable[str]) -> str:
    """`` Did you mean '...'?`` with the known name that is spelt most alike, in any case; empty where none is."""
    lowered = {each.lower(): each for each in known}
    found = difflib.get_close_matches(name.lower(), lowered, n=1, cutoff=0.4)
    return f" Did you mean '{lowered[found[0]]}'?" if found else ""
