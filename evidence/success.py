"""How often SmolLM2-135M-Instruct succeeds at every task before any training, and where that is enough to begin with."""

from __future__ import annotations

from collections.abc import Sequence
from importlib.metadata import version
from pathlib import Path

from burnish.core import keys
from burnish.core.intervals import wilson
from burnish.engines.decode import LocalSampler
from burnish.engines.local import Engine, LocalModel
from burnish.engines.pretrained import resolve
from burnish.loops.evaluate import run_items
from burnish.loops.evaluation.measures import Item
from burnish.tasks import catalog
from burnish.tasks.adapters.gymnasium import Gymnasium
from burnish.tasks.checks import Judged
from burnish.types import Sampling
from evidence import tables
from evidence.base import Experiment, Numbers, Results

MODEL = "smollm2-135m"
PROBLEMS, GROUP = 8, 8  # of each task; a group is the replies to one problem, as in the recipes' scale laptop
TOKENS, MOVE = 128, 16  # at most, for a reply and for a move of a game
GAME = 5  # more turns than that are moves
FROM_HUB = ("gsm8k", "math")
"""Their problems come from the hub, and are not measured here."""

CONVERSED = "arithmetic"
"""The task that environments are put around."""
GAMES = {
    "gymnasium.FrozenLake-v1": Gymnasium("FrozenLake-v1", options=(("is_slippery", False),), cap=12),
    "gymnasium.Blackjack-v1": Gymnasium("Blackjack-v1", cap=6),
}
"""Short games of gymnasium: what was said before is read again every turn."""
GYM = (
    *("chain_sum", "basic_arithmetic", "gcd", "fraction_simplification", "leg_counting", "simple_equations"),
    *("number_sequence", "count_bits", "base_conversion", "letter_counting", "spell_backward", "number_sorting"),
    *("word_sorting", "syllogism", "circuit_logic", "course_schedule", "family_relationships", "coin_flip"),
    *("color_cube_rotation", "mini_sudoku"),
)
"""Data sets of reasoning-gym from all its corners, with their own settings."""


class Success(Experiment):
    name = "success"
    question = f"""How often does {MODEL} succeed at each task before any training, and at which can reinforcement learning
    begin? {PROBLEMS} problems of the test split, {GROUP} replies to each at temperature 1, so {PROBLEMS * GROUP} samples."""
    expected = """Tasks with short answers of a known form (comparing, the largest of a few numbers, yes or no) succeed in one
    sample of ten to one of two; sums and products of small numbers less often; countdown, code, puzzles and most of
    reasoning-gym at its own settings never, or so rarely that a group of eight replies hardly ever has a right one."""
    seeds = (0,)

    @property
    def variants(self) -> Sequence[str]:
        shipped = [name for name in catalog.TASKS if name not in FROM_HUB]
        wrapped = [f"{CONVERSED}+{name}" for name in catalog.ENVS]
        return (*shipped, *wrapped, *GAMES, *(f"reasoning-gym.{name}" for name in GYM))

    def run(self, variant: str, seed: int, folder: Path, *, smoke: bool = False) -> Numbers:  # noqa: ARG002
        task = task_of(variant)
        policy = LocalModel(resolve(MODEL), Engine(dtype="float32", device="cpu"))
        most = MOVE if getattr(task, "max_turns", 1) > GAME else TOKENS
        problems, group, most = (2, 2, 4) if smoke else (PROBLEMS, GROUP, most)
        items = run_items(
            LocalSampler(policy), policy.chat, task, n=problems, samples=group, sampling=Sampling(max_tokens=most),
            key=keys.derive("success", seed),
        )  # fmt: skip
        package = variant.partition(".")[0]
        made_by = {"package": f"{package} {version(package)}"} if package != variant else {}
        return {**counted(items), "max_tokens": most, **made_by}

    def report(self, results: Results) -> str:
        header = ("task", "success", "mixed groups", "tokens", "cut off", "trainable from the start")
        said = f"""Success is the first measure of a task: for most, that the reply is right when read leniently. The
        interval is Wilson's, 95%, over the {PROBLEMS * GROUP} samples, and is for these problems. A group of {GROUP} replies
        to one problem is mixed where some succeed and some do not: other groups have no gradient under GRPO. A task is
        trainable from the start where at least one group in ten is mixed. Tokens are the mean of a reply, at most {TOKENS},
        or of a whole conversation, with at most {MOVE} a move in games; cut off are replies that reached the limit, and
        conversations that ran out of turns. The rewards of `preference-world`, and of conversations that are paid step by
        step, are graded: their groups can differ, and teach, before any reply is perfect. Environments
        (`task+environment`) are put around `{CONVERSED}`; on the command line the tasks of other packages are
        `reasoning-gym/NAME` and `gymnasium/ID`. Not measured: {", ".join(FROM_HUB)}, whose problems come from the hub."""
        return "\n\n".join([tables.table(header, [_row(results, name) for name in results]), tables.paragraph(said)])


def task_of(variant: str) -> Judged:
    """The test split of a row's task: a name, ``task+environment``, or ``package.name``.

    Raises InputError where a package is missing.
    """
    if variant in GAMES:
        return GAMES[variant].checked().with_split("test")
    name, plus, environment = variant.partition("+")
    task = catalog.get(name.replace(".", "/", 1)).with_split("test")
    return catalog.environment(environment)(task) if plus else task


def counted(items: Sequence[Item]) -> Numbers:
    """What the table shows, over all samples; a group is an item."""
    measure = next(iter(items[0].scores[0]))
    rights = [item.right for item in items]
    samples = sum(map(len, rights))
    return {
        "measure": measure,
        "samples": samples,
        "groups": len(items),
        "successes": sum(map(sum, rights)),
        "mixed": sum(any(group) and not all(group) for group in rights),
        "length": sum(len(reply.tokens) for item in items for reply in item.replies) / samples,
        "truncated": sum(reply.cut for item in items for reply in item.replies) / samples,
    }


def trainable(numbers: Numbers) -> bool:
    """Whether at least one group in ten is mixed."""
    return bool(10 * numbers["mixed"] >= numbers["groups"])


def _row(results: Results, variant: str) -> list[str]:
    numbers = results[variant][0].numbers
    low, high = wilson(numbers["successes"], numbers["samples"])
    rate = tables.number(numbers["successes"] / numbers["samples"])
    return [
        f"`{variant}`",
        f"{rate} [{tables.number(low)}, {tables.number(high)}]",
        f"{numbers['mixed']} of {numbers['groups']}",
        f"{numbers['length']:.0f}",
        f"{numbers['truncated']:.0%}",
        "yes" if trainable(numbers) else "no",
    ]


EXPERIMENT = Success()
