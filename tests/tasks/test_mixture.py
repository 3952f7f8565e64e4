"""A mixture draws by weight and lets the right part grade."""

from __future__ import annotations

from collections import Counter

import pytest

from burnish import config
from burnish.core.orders import Curriculum, Items
from burnish.errors import InputError
from burnish.loops.rollouts import grades
from burnish.recipes import catalog as recipes
from burnish.rewards.accuracy import Accuracy
from burnish.rewards.format import Format
from burnish.tasks import catalog
from burnish.tasks.arithmetic import Arithmetic
from burnish.tasks.checks import Generated
from burnish.tasks.countdown import Countdown
from burnish.tasks.feedback import Feedback
from burnish.tasks.maze import MazeTask
from burnish.tasks.mixture import Mixture, parse
from burnish.types import Completion, Env

LARGEST, SUM, COUNTDOWN = Arithmetic(size=300), Arithmetic(kinds=("sum",), size=300), Countdown(size=300)
MIX = Mixture((LARGEST, SUM, COUNTDOWN), weights=(6.0, 1.0, 1.0))


def test_draws_are_fixed_and_follow_the_weights() -> None:
    assert len(MIX) == 900
    examples = list(MIX)
    assert examples == list(Mixture((LARGEST, SUM, COUNTDOWN), weights=(6.0, 1.0, 1.0)))
    parts = Counter(example.meta["task_index"] for example in examples)
    for part, share in enumerate((0.75, 0.125, 0.125)):
        assert parts[part] / 900 == pytest.approx(share, abs=0.04)
    assert examples != list(Mixture(MIX.tasks, MIX.weights, seed=1))
    only = Mixture((LARGEST, SUM), weights=(0.0, 1.0))
    assert {example.meta["kind"] for example in only} == {"sum"}


def test_the_part_that_asked_grades() -> None:
    for example in (MIX[i] for i in range(60)):
        right, wrong = Completion((), MIX.gold(example), (), "eos"), Completion((), example.answer, (), "eos")
        is_countdown = example.meta["kind"] == "countdown"
        assert MIX.measure(example, right) == {"accuracy": 1.0, "accuracy_strict": 1.0}
        assert [r[0].value for r in MIX.reward(example, [right, wrong])] == [1.0, 0.0 if is_countdown else 1.0]


def test_split_and_validation_reach_the_parts() -> None:
    test = MIX.with_split("test")
    assert isinstance(test, Mixture)
    assert test.tasks[0] == LARGEST.with_split("test")
    assert "disjoint" in MIX.validate(40)


@pytest.mark.parametrize("weights", [(1.0,), (0.0, 0.0), (-1.0, 2.0), (float("nan"), 1.0), (float("inf"), 1.0)])
def test_bad_weights(weights: tuple[float, ...]) -> None:
    with pytest.raises(InputError, match="weights"):
        Mixture((LARGEST, SUM), weights=weights)


def test_bad_parts() -> None:
    with pytest.raises(InputError, match="cannot hold a mixture"):
        Mixture((LARGEST, MIX))
    with pytest.raises(InputError, match="at least one task"):
        Mixture(())


def test_parts_have_names_and_rewards_are_routed_by_them() -> None:
    assert MIX.domains == ("arithmetic-1", "arithmetic-2", "countdown")
    named = Mixture((LARGEST, COUNTDOWN), names=("big", "count"))
    assert {(e.meta["task_index"], e.meta["domain"]) for e in list(named)[:50]} == {(0, "big"), (1, "count")}
    routed = Accuracy().on("big") | Format().on("count")
    for example in list(named)[:20]:
        [reward] = routed(example, [Completion((), named.gold(example), (), "eos")])
        assert reward[0].part == {"big": "accuracy", "count": "format"}[example.meta["domain"]]
    for names in (("one",), ("same", "same")):
        with pytest.raises(InputError, match="as many different names"):
            Mixture((LARGEST, COUNTDOWN), names=names)


def test_difficulties_of_parts_are_compared_within_them() -> None:
    mixed = Mixture((Arithmetic(size=40), Countdown(size=40)))
    graded = grades(mixed)
    assert {domain for domain, _ in graded} == {"arithmetic", "countdown"}
    items = Items(len(mixed), 3, lambda: graded)
    picks, _ = Curriculum(start=0.01).choose(range(200), 0, items, {})
    for domain in ("arithmetic", "countdown"):
        drawn = {graded[pick.item].difficulty for pick in picks if graded[pick.item].domain == domain}
        assert drawn == {min(x for d, x in graded if d == domain)}, "each part begins with its own easiest level"


@pytest.mark.parametrize(
    ("text", "names", "weights"),
    [
        ("countdown + sum", ("countdown", "sum"), (1.0, 1.0)),
        ("2*countdown+0.5 * sum +largest", ("countdown", "sum", "largest"), (2.0, 0.5, 1.0)),
        ("3*sum", ("sum",), (3.0,)),
    ],
)
def test_a_mixture_on_the_command_line(text: str, names: tuple[str, ...], weights: tuple[float, ...]) -> None:
    made = catalog.get(text)
    assert made == Mixture(tuple(catalog.single(name) for name in names), weights, names=names)
    assert config.apply(recipes.get("grpo").SCALES["tiny"], [f"task={text}"]).task == made


def test_parts_from_elsewhere_are_called_by_their_last_name() -> None:
    made = parse("tasks/mine.py:Own + 2*package/other", lambda _: LARGEST)
    assert made.domains == ("Own", "other") and made.weights == (1.0, 2.0)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("sum +", 'cannot be read: write names and weights, "2\\*countdown'),
        ("sum*2", "cannot be read"),
        ("-1*sum + largest", "cannot be read"),
        ("sum + 2*sum", "named twice"),
        ("sum + countdwn", "Did you mean 'countdown'"),
        ("sum + maze", "task maze is a conversation"),
        ("0*sum + 0*largest", "not all zero"),
    ],
)
def test_mixtures_that_cannot_be_read(text: str, message: str) -> None:
    with pytest.raises(InputError, match=message):
        catalog.get(text)


def test_tasks_of_several_turns_are_no_parts_but_a_mixture_may_become_one() -> None:
    maze: Generated = MazeTask()  # type: ignore[assignment]
    with pytest.raises(InputError, match=r"MazeTask is played over several turns: .* give env="):
        Mixture((LARGEST, maze))
    talk = Feedback()(MIX)
    example = talk[3]
    assert example.meta["domain"] == MIX.domains[example.meta["task_index"]]
    _, reward, done, _ = _begun(talk.env(example)).step(MIX.gold(example))
    assert done and sum(part.value for part in reward) == 1


def _begun(env: Env) -> Env:
    env.reset(0)
    return env
