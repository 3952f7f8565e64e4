"""What PPO's critic sees: planted mistakes, and the advantages that it gives at each lambda."""

from __future__ import annotations

import math
import re
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from burnish.core import keys
from burnish.core.algorithms import PPO
from burnish.core.returns import GAE
from burnish.data.batching import collate
from burnish.engines.decode import LocalSampler, generate
from burnish.engines.local import LocalModel
from burnish.engines.optim import Schedule
from burnish.loops.commentate import Commentary, Grading, Judge, biggest_drop, commentate
from burnish.loops.continuations import completed
from burnish.loops.rl import rl
from burnish.run import Run
from burnish.types import Completion, Example, Head, Request, RewardPart, Rollout
from burnish.view import View
from evidence import nano, tables
from evidence.base import Experiment, Numbers, Results

ALGO = replace(PPO, reward_kl=None)  # the critic then expects the reward that continuations are judged by
GRADING = Grading(nano.task().with_split("dev"), nano.TINY.reward, nano.TINY.rl.sampling)
STEPS = {"half": 15, "full": 30, "schooled": 15, "early": 0}
SCHOOL = 50
"""More steps of rollouts for the critic of "schooled", whose policy stands still meanwhile."""
EARLY = 300
"""Steps of rollouts for the critic of "early", whose policy is the base."""
LAMBDAS = (1.0, 0.95, 0.8, 0.5, 0.0)
PLANTS, SAMPLES = 20, 16  # mistakes of each kind, continuations of each state
PREFIXES, CONTINUATIONS = 30, 64
TRIES = 8
FORM = re.compile(r"<think>(?:\d )*\d</think><answer>\d</answer>")


@dataclass(frozen=True)
class Pair:
    """A trained policy, its critic, and the keys of what is asked of them."""

    policy: LocalModel
    critic: LocalModel
    key: int

    @property
    def sampler(self) -> LocalSampler:
        return LocalSampler(self.policy)

    def continued(self, prompt: tuple[int, ...], begun: tuple[int, ...], count: int, *names: int) -> list[Completion]:
        """``count`` whole completions of a prompt that begin with these tokens."""
        rest = replace(GRADING.sampling, max_tokens=GRADING.sampling.max_tokens - len(begun))
        requests = [Request(prompt + begun, keys.derive(self.key, *names, i), rest) for i in range(count)]
        found = sorted(self.sampler.sample(requests), key=lambda c: c.index)
        return [completed(self.policy.chat, begun + c.tokens, c.finish) for c in found]


class Commentator(Experiment):
    name = "commentator"
    question = """Does the critic of PPO know which token lost? Into right completions of `nano` on the largest of four numbers
    one wrong digit is planted, in the answer or in the thought (the policy then plays on, and ends wrong): is the biggest
    drop of V at that token? And what do bias and variance of its advantages do with lambda?"""
    expected = """The success rate of the continuations drops most at the planted token, far above chance. The critic's V
    does so above chance for a wrong answer, and more often before the outcome is known than when the outcome counts, which
    is its largest surprise. Thoughts are harder than answers. More rollouts for the critic help; after thirty steps of the
    policy the critic is no better than after fifteen, because it hardly sees mistakes any more (three completions had been
    looked at while the command was built, and showed that). A critic that learns alone, from the base, most of whose answers
    are wrong, does find wrong answers ("early": added when the first three had been run and had found none, after one
    trial with half of its steps). With lambda falling from 1 to 0 variance falls and bias grows."""

    @property
    def variants(self) -> Sequence[str]:
        return tuple(STEPS)

    def run(self, variant: str, seed: int, folder: Path, *, smoke: bool = False) -> Numbers:
        pair = train(folder, variant, seed, smoke=smoke)
        found = right_completions(pair, 4 if smoke else 6 * PLANTS)
        count = 2 if smoke else PLANTS
        return {
            **described("answer", [wrong_answer(pair, *one) for one in found[:count]]),
            **described("thought", wrong_thoughts(pair, found, count)),
            **advantages(pair, 2 if smoke else PREFIXES, 4 if smoke else CONTINUATIONS),
        }

    def report(self, results: Results) -> str:
        return "\n\n".join([_mistakes(results), _lambdas(results), _comparisons(results)])


# --- training --------------------------------------------------------------------------------------


def train(folder: Path, variant: str, seed: int, *, smoke: bool) -> Pair:
    whole = replace(nano.config(), steps=max(1, STEPS[variant]))
    if variant == "early":
        whole = replace(whole, schedule=Schedule(0.0), critic=replace(whole.critic, pretrain=EARLY))
    cfg = replace(nano.shortened(whole) if smoke else whole, eval_every=0)
    with Run.open(folder / "run", recipe="evidence", scale="tiny", config=cfg, seed=seed, view=View(quiet=True)) as run:
        base = nano.base(run)
        model = run.stage(rl, "rl", base.model, nano.task(), algo=ALGO, cfg=cfg, reward=nano.TINY.reward)
        stage = run.directory / "rl"
        if variant == "schooled":
            own = replace(cfg.critic, pretrain=2 if smoke else SCHOOL)
            still = replace(cfg, steps=1, schedule=Schedule(0.0), critic=own)
            run.stage(
                rl, "school", model, nano.task(), algo=ALGO, cfg=still, reward=nano.TINY.reward, critic=stage / "critic"
            )
            stage = run.directory / "school"
    engine = replace(nano.TINY.rl.engine, device="cpu")
    critic = LocalModel(stage / "critic", engine, heads={"value": Head()})
    return Pair(LocalModel(stage / "model", engine), critic, keys.derive("commentator", seed))


# --- planted mistakes ------------------------------------------------------------------------------

Found = tuple[Judge, tuple[int, ...], tuple[int, ...]]
"""The judge of an example, the tokens of its prompt, and those of a right completion of it."""


def right_completions(pair: Pair, count: int) -> list[Found]:
    """One completion of each of ``count`` held-out prompts, where it is right and in form."""
    examples: list[Example] = [GRADING.task[item] for item in range(count)]
    prompts = [pair.policy.chat.encode_prompt(example.messages) for example in examples]
    found = []
    for example, prompt, one in zip(
        examples, prompts, generate(pair.sampler, prompts, GRADING.sampling, keys.derive(pair.key, 0)), strict=True
    ):
        judge = GRADING.judge(example)
        if FORM.fullmatch(one.text) and one.finish == "eos" and judge([one])[0].success:
            found.append((judge, prompt, one.tokens))
    return found


def _digits(pair: Pair, tokens: tuple[int, ...]) -> list[int]:
    """The places of digits; the last one is the answer."""
    return [place for place, token in enumerate(tokens) if pair.policy.chat.decode([token]).isdigit()]


def _changed(pair: Pair, tokens: tuple[int, ...], place: int, *names: int) -> tuple[int, ...]:
    """The tokens up to and with ``place``, where another digit stands now."""
    was = int(pair.policy.chat.decode([tokens[place]]))
    digit = (was + 1 + keys.derive(pair.key, *names) % 9) % 10
    return (*tokens[:place], pair.policy.chat.tokenizer.get_vocab()[str(digit)])


@dataclass(frozen=True)
class Planted:
    """A commentary on a completion with a mistake, and where it was planted."""

    commentary: Commentary
    place: int


def wrong_answer(pair: Pair, judge: Judge, prompt: tuple[int, ...], tokens: tuple[int, ...]) -> Planted:
    """Another digit for an answer; the rest stays."""
    place = _digits(pair, tokens)[-1]
    begun = _changed(pair, tokens, place, 1, *prompt)
    return _commented(pair, judge, prompt, completed(pair.policy.chat, begun + tokens[place + 1 :], "eos"), place)


def wrong_thoughts(pair: Pair, found: Sequence[Found], count: int) -> list[Planted]:
    """Another digit somewhere in a thought; the policy plays on from there. Kept are those that then end wrong."""
    planted: list[Planted] = []
    for number, (judge, prompt, tokens) in enumerate(found):
        digits = _digits(pair, tokens)[:-1]
        place = digits[keys.derive(pair.key, 2, number) % len(digits)]
        tried = pair.continued(prompt, _changed(pair, tokens, place, 3, number), TRIES, 4, number)
        lost = [c for c, verdict in zip(tried, judge(tried), strict=True) if not verdict.success and c.finish == "eos"]
        if lost and len(planted) < count:
            planted.append(_commented(pair, judge, prompt, lost[0], place))
    return planted


def _commented(pair: Pair, judge: Judge, prompt: tuple[int, ...], completion: Completion, place: int) -> Planted:
    size = len(completion.tokens)
    rewards = (RewardPart(size - 1, judge([completion])[0].reward, "reward"),)
    rollout = Rollout(prompt, completion.tokens, (True,) * size, (0.0,) * size, rewards, 0, 0, finish=completion.finish)
    said = commentate(
        pair.critic, rollout, sampler=pair.sampler, chat=pair.policy.chat, sampling=GRADING.sampling, judge=judge,
        samples=SAMPLES, key=keys.derive(pair.key, 5),
    )  # fmt: skip
    assert said.outcome is not None and not said.outcome.success
    return Planted(said, place)


def described(kind: str, planted: Sequence[Planted]) -> Numbers:
    """Shares of mistakes at which V or the success rate falls most; how far both fall there."""
    rows = [
        {
            "value": _at(p, p.commentary.values),
            "early": _at(p, p.commentary.values[:-1]),  # before the outcome is known
            "rate": _at(p, p.commentary.rates),
            "chance": 1 / len(p.commentary.places),
            "value_fall": _fall(p, p.commentary.values),
            "reward_fall": _fall(p, [*(e.reward for e in p.commentary.estimates), p.commentary.values[-1]]),
        }
        for p in planted
    ]
    if not rows:
        raise RuntimeError(f"no mistake of kind {kind} could be planted: the policy is never right, or always mends it")
    return {f"{kind}_n": len(rows)} | {f"{kind}_{name}": tables.mean([row[name] for row in rows]) for name in rows[0]}


def _at(planted: Planted, series: Sequence[float]) -> float:
    drop = biggest_drop(planted.commentary.places, series)
    return float(drop is not None and drop.token == planted.place)


def _fall(planted: Planted, series: Sequence[float]) -> float:
    return series[planted.place] - series[planted.place + 1]


# --- bias and variance -----------------------------------------------------------------------------


def advantages(pair: Pair, prefixes: int, continuations: int) -> Numbers:
    """Squared bias and variance of GAE for a given state and token, averaged over such pairs of the policy's own.

    Given (s, a), A(lambda) + V(s) estimates Q(s, a), and V(s) changes no gradient; at lambda 1 the estimate is the reward
    itself, without bias. So the bias is the mean of A(lambda) - A(1) over continuations, and its square is corrected for
    the noise of that mean.
    """
    bias: dict[float, list[float]] = {lam: [] for lam in LAMBDAS}
    variance: dict[float, list[float]] = {lam: [] for lam in LAMBDAS}
    critic: list[float] = []
    number = 0
    while len(critic) < prefixes:
        number += 1
        example: Example = GRADING.task[1000 + number]
        judge, prompt = GRADING.judge(example), pair.policy.chat.encode_prompt(example.messages)
        (whole,) = pair.continued(prompt, (), 1, 6, number)
        if len(whole.tokens) < 2:
            continue  # after its only token there is nothing to estimate
        place = keys.derive(pair.key, 7, number) % (len(whole.tokens) - 1)
        rows = pair.continued(prompt, whole.tokens[: place + 1], continuations, 8, number)
        estimates, errors = _credit(pair, judge, prompt, rows, place)
        for lam, found in estimates.items():
            bias[lam].append(_squared_mean([x - y for x, y in zip(found, estimates[1.0], strict=True)]))
            variance[lam].append(_variance(found))
        critic.append(_squared_mean(errors))
    return {
        "critic_error": math.sqrt(max(0.0, tables.mean(critic))),
        **{f"bias_{lam}": tables.mean(bias[lam]) for lam in LAMBDAS},
        **{f"variance_{lam}": tables.mean(variance[lam]) for lam in LAMBDAS},
    }


def _credit(
    pair: Pair, judge: Judge, prompt: tuple[int, ...], rows: Sequence[Completion], place: int
) -> tuple[dict[float, list[float]], list[float]]:
    """For each completion: its advantage at ``place`` at each lambda, and V after that token minus the reward."""
    rollouts = [
        Rollout(
            prompt, c.tokens, (True,) * len(c.tokens), (0.0,) * len(c.tokens),
            (RewardPart(len(c.tokens) - 1, verdict.reward, "reward"),), 0, episode, finish=c.finish,
        )
        for episode, (c, verdict) in enumerate(zip(rows, judge(rows), strict=True))
    ]  # fmt: skip
    batch = collate(rollouts)
    values, rewards = pair.critic.forward(batch).heads["value"].double(), batch.token_rewards
    assert rewards is not None
    batch = replace(batch, values=values)
    estimates = {lam: GAE(1.0, lam)(batch, rewards, {})[:, place].tolist() for lam in LAMBDAS}
    return estimates, (values[:, place + 1] - rewards.sum(1)).tolist()


def _variance(values: Sequence[float]) -> float:
    middle = tables.mean(values)
    return sum((x - middle) ** 2 for x in values) / (len(values) - 1)


def _squared_mean(values: Sequence[float]) -> float:
    """The square of the expectation, without the noise of the mean: it may be below 0."""
    return tables.mean(values) ** 2 - _variance(values) / len(values)


# --- the report ------------------------------------------------------------------------------------

KINDS = ("answer", "thought")


def _mistakes(results: Results) -> str:
    header = (
        "critic", "mistake in the", "chance", "V", "V before the outcome", "success rate", "V falls by", "mean reward falls by",
    )  # fmt: skip
    numbers = ("chance", "value", "early", "rate", "value_fall", "reward_fall")
    rows = [
        [variant, kind, *(tables.interval(results.values(variant, f"{kind}_{number}"), 2) for number in numbers)]
        for variant in results
        for kind in KINDS
    ]
    return (
        f"Share of planted mistakes at which the biggest drop is, by V and by the success rate of {SAMPLES} continuations, and "
        "how far V and the mean reward of the continuations fall there. `half`: 15 steps of PPO, `full`: 30, `schooled`: 15, "
        f"then {SCHOOL} steps of rollouts for the critic alone, `early`: {EARLY} steps for the critic alone, beside the base, "
        "whose answers do not depend on its thoughts. Means over seeds with 95% t-intervals.\n\n"
        + tables.table(header, rows)
    )


def _lambdas(results: Results) -> str:
    header = ("lambda", *(f"{v}: {what}" for v in results for what in ("bias²", "variance", "sum")))
    rows = []
    for lam in LAMBDAS:
        cells = []
        for variant in results:
            bias, variance = results.values(variant, f"bias_{lam}"), results.values(variant, f"variance_{lam}")
            both = [b + v for b, v in zip(bias, variance, strict=True)]
            cells += [tables.interval(bias, 4), tables.interval(variance, 4), tables.interval(both, 4)]
        rows.append([f"{lam:g}", *cells])
    errors = ", ".join(f"{v} {tables.interval(results.values(v, 'critic_error'), 2)}" for v in results)
    return (
        f"GAE for a given state and token, over {CONTINUATIONS} continuations of each of {PREFIXES} such pairs. The bias is "
        "that of A + V(s) as an estimate of Q(s, a): at lambda 1 it is 0 by definition, as is the variance at lambda 0, where "
        "V after the token is all there is. The squared bias is corrected for noise and may come out below 0. "
        f"V is off the mean reward by (root mean square): {errors}.\n\n" + tables.table(header, rows)
    )


def _comparisons(results: Results) -> str:
    rows = []
    for variant in results:
        checks = [
            ("success rate - chance, answer", "answer_rate", "answer_chance", 1),
            ("success rate - chance, thought", "thought_rate", "thought_chance", 0 if variant == "early" else 1),
            ("V - chance, answer", "answer_value", "answer_chance", 1),
            ("V before the outcome - V, answer", "answer_early", "answer_value", 1),
            ("V before the outcome, answer - thought", "answer_early", "thought_early", 1),
            ("variance, lambda .5 - 1", "variance_0.5", "variance_1.0", -1),
            ("bias², lambda 0 - .95", "bias_0.0", "bias_0.95", 1),
        ]
        for title, one, other, sign in checks:
            pairs = zip(results.values(variant, one), results.values(variant, other), strict=True)
            rows.append(_checked(f"{variant}: {title}", [x - y for x, y in pairs], sign))
    for one, other, sign in (("schooled", "half", 1), ("full", "half", 0), ("early", "half", 1)):
        if one in results and other in results and (found := results.pairs(one, other, "answer_early")):
            rows.append(_checked(f"{one} - {other}: V before the outcome, answer", found, sign))
    return tables.table(("difference", "mean", "expected", "seen"), rows)


def _checked(title: str, differences: Sequence[float], sign: int) -> list[str]:
    shown = tables.interval(differences, sign=True)
    return [title, shown, "-0+"[sign + 1], tables.verdict(differences, sign)]


EXPERIMENT = Commentator()
