"""`burnish list` and `burnish explain`: what there is, and what it means."""

from __future__ import annotations

import inspect
import json
import re
import textwrap
from collections.abc import Callable, Iterable, Sequence
from dataclasses import MISSING, fields, is_dataclass
from typing import TYPE_CHECKING, Annotated, Any, NamedTuple

import typer

from burnish.cli import names
from burnish.errors import InputError, unknown

if TYPE_CHECKING:
    from burnish.core.algorithms import Algorithm

PLACES = {
    "last": "behind the last token of an answer",
    "tokens": "in front of every token",
    "steps": "behind every token",
}
Json = Annotated[bool, typer.Option("--json", help="Print one JSON object.")]
WIDTH = 30  # of a setting's value in a table of scales
LINE = 112  # of running text


class Table(NamedTuple):
    """A table of ``core``: what its entries are called together, {name: title}, and how they are used."""

    plural: str
    titles: Callable[[], dict[str, str]]
    use: str


TABLES = {
    "algorithm": Table("algorithms", names.algorithms, "burnish run grpo algo=NAME, burnish run ppo algo=NAME"),
    "online method": Table(
        "online methods", names.online, "burnish run online-dpo algo=NAME; gkd: burnish run distill"
    ),
    "preference loss": Table(
        "preference losses", names.preference, "burnish run dpo loss=NAME, burnish run kto loss=NAME"
    ),
    "reward-model loss": Table(
        "reward-model losses",
        names.reward_models,
        "burnish run reward-model loss=NAME, burnish run process-reward-model loss=NAME",
    ),
}


def list_all(*, as_json: Json = False) -> None:
    """List recipes, algorithms, losses, rewards, environments, tasks, orders, curation and models."""
    tables = {table.plural: table.titles() for table in TABLES.values()}
    found = {"recipes": names.recipes(), **tables, "rewards": names.rewards(), "judges": names.judges()}
    found |= {"environments": names.environments(), "tasks": names.tasks(), "orders": names.orders()}
    found["curation"] = names.curation()
    if as_json:
        everything = {**found, "models": names.models()}
        keyed = {name.replace(" ", "_").replace("-", "_"): each for name, each in everything.items()}
        print(json.dumps(keyed, indent=2))
        return
    uses = {table.plural: table.use for table in TABLES.values()}
    uses |= {"recipes": "burnish run NAME", "rewards": 'burnish run grpo reward="NAME + 0.2*NAME"'}
    uses["judges"] = "burnish run grpo reward='NAME(model=\"DIR\")'"
    uses["environments"] = "burnish run grpo task=NAME env=NAME, or of your own: env=my_env.py:Name"
    uses["tasks"] = "burnish run grpo task=NAME, my_task.py:Name, or reasoning-gym/NAME, gymnasium/NAME, verifiers/NAME"
    uses["orders"] = "burnish run grpo rl.order=NAME"
    uses["curation"] = "burnish curate NAME MODEL --task NAME --out FILE.jsonl"
    for kind, titles in found.items():
        print(f"{kind}  ({uses[kind]})")
        width = max(map(len, titles))
        for name, title in titles.items():
            print(textwrap.fill(title, LINE, initial_indent=f"  {name:{width}}  ", subsequent_indent=" " * (width + 4)))
        print()
    print(f"models  (model=NAME, or a directory, or a hub name)\n  {', '.join(names.models())}\n")
    print("burnish explain NAME says more about all but the models.")


def explain(
    *,
    name: Annotated[
        str,
        typer.Argument(
            metavar="NAME",
            help="A name of `burnish list`.",
            show_default=False,
        ),
    ],
) -> None:
    """Explain a name of `burnish list`: a recipe, an algorithm, a loss, a reward, an environment, a task, ..."""
    known = {
        **{kind: table.titles() for kind, table in TABLES.items()},
        "recipe": names.recipes(),
        "reward": names.rewards(),
        "judge": names.judges(),
        "environment": names.environments(),
        "task": names.tasks(),
        "order": names.orders(),
        "curation": names.curation(),
    }
    show = {
        "algorithm": _algorithm, "online method": _online, "preference loss": _preference,
        "reward-model loss": _reward_model, "recipe": _recipe, "reward": _reward, "judge": _judge,
        "environment": _environment, "task": _task, "order": _order, "curation": _curation,
    }  # fmt: skip
    spellings = dict.fromkeys(TABLES, name.lower().replace("-", "_"))
    kinds = [kind for kind in known if spellings.get(kind, name) in known[kind]]
    if not kinds:
        raise unknown("name", name, {each for some in known.values() for each in some})
    for place, kind in enumerate(kinds):
        if len(kinds) > 1:
            print("\n" * (place > 0) + f"--- the {kind} {name} ---\n")
        show[kind](spellings.get(kind, name))


# --- one kind of name each -----------------------------------------------------------------------


def _algorithm(name: str) -> None:
    from burnish.cli import example
    from burnish.core import algorithms

    algo = algorithms.get(name)
    print(f"{_prose(algorithms.notes()[name])}\n")
    _made_of(algo)
    print("needs:")
    _print_rows(_needs(algo))
    _print_lines(example.lines(algo))
    recipe = "ppo" if algo.needs_critic else "grpo"
    print(f"\nUse it: burnish run {recipe} algo={name} ...    or in Python: burnish.core.algorithms.{name.upper()}")


def _needs(algo: Algorithm) -> list[tuple[str, ...]]:
    """What has to be there, beside a prompt and the policy, and how many networks that makes."""
    from burnish.cli.example import compares_within_a_group, takes_steps

    several = "several" if compares_within_a_group(algo) else "one or more"
    greedy = ", and one decoded greedily, only scored" if algo.needs_greedy else ""
    graded = "for each step of a completion" if takes_steps(algo) else "for each completion"
    networks = ["the policy"]
    if algo.needs_critic:
        networks.append("a critic that learns beside it")
    if algo.needs_reference:
        networks.append("a frozen reference (with LoRA the policy's own base)")
    rows: list[tuple[str, ...]] = [
        ("completions", f"{several} of each prompt, by the policy{greedy}"),
        ("reward", f"one number {graded}, from a rule or a reward model (one more network)"),
        ("networks", f"{len(networks)}: {' + '.join(networks)}"),
    ]
    if algo.pretraining:
        rows.append(("text", "of the kind the policy was pretrained on"))
    return rows


def _preference(name: str) -> None:
    from burnish.cli import judged
    from burnish.core import preference
    from burnish.core.links import OfPairs

    loss = preference.get(name)
    print(f"{_prose(preference.notes()[name])}\n")
    _made_of(loss)
    print("needs:")
    pairs = isinstance(loss.link, OfPairs)
    rows: list[tuple[str, ...]] = [
        ("answers", "two or more to a prompt, ranked" if pairs else "single ones, each good or bad; pairs will do")
    ]
    rows += [("data", _claim(judged.lack(loss)))] if judged.lack(loss) else []
    rows.append(("networks", _networks(loss.needs.reference)))
    if loss.needs.reference:
        rows.append(("reference", "read once where it stays the same: its log-probs of the data are kept on disk"))
    if loss.needs.statistics:
        rows.append(("more work", "one more forward pass of each mini-batch, for numbers of all of it"))
    if loss.needs.mismatched:
        rows.append(("more rows", "for each element its prompt with an answer to another one, only read"))
    _print_rows(rows)
    _print_lines(judged.lines(loss))
    recipe = "dpo" if pairs else "kto"
    print(f"\nUse it: burnish run {recipe} loss={name} ...    or in Python: burnish.core.preference.{name.upper()}")


def _reward_model(name: str) -> None:
    from burnish.cli import judged
    from burnish.core import reward_models
    from burnish.core.process import STEP
    from burnish.types import needs_of

    loss = reward_models.get(name)
    print(f"{_prose(reward_models.notes()[name])}\n")
    _made_of(loss)
    print("needs:")
    heads = needs_of(loss).heads
    rows: list[tuple[str, ...]] = [
        ("head", f"{each}: {head.out} number{'s' * (head.out > 1)} {PLACES[head.at]}") for each, head in heads.items()
    ]
    rows += [("data", _claim(judged.lack(loss)))] if judged.lack(loss) else []
    rows += [("networks", "1: the reward model, a language model of which that head is read and no log-prob")]
    _print_rows(rows)
    _print_lines(judged.lines(loss))
    recipe = "process-reward-model" if STEP in heads else "reward-model"
    print(f"\nUse it: burnish run {recipe} loss={name} ...    or in Python: burnish.core.reward_models.{name.upper()}")


def _online(name: str) -> None:
    from burnish.cli import judged
    from burnish.core import online

    method = online.get(name)
    print(f"{_prose(online.notes()[name])}\n")
    _made_of(method)
    print("needs:")
    share = method.rival
    rival = "" if share is None else f", and as many of a rival: {_rival(share)}"
    teacher = " + a teacher with the same tokenizer" * method.needs_teacher
    rows = [
        ("completions", f"{'one or more' if method.needs_teacher or share else 'two or more'} of each prompt{rival}")
    ]
    rows += [] if method.needs_teacher else [("reward", "one number for each, from a rule, a reward model or a judge")]
    _print_rows([*rows, ("networks", _networks(method.needs_reference, teacher))])
    _print_lines(judged.online(method))
    use = "distill" if method.needs_teacher else f"online-dpo algo={name}"
    print(f"\nUse it: burnish run {use} ...    or in Python: burnish.core.online.{name.upper()}")


def _rival(share: float) -> str:
    return "the reference" if share == 1 else f"the policy mixed with the reference, which has a share of {share:g}"


def _networks(reference: bool, more: str = "") -> str:
    frozen = " + a frozen reference (with LoRA the policy's own base)" * reference
    return f"{1 + reference + bool(more)}: the policy{frozen}{more}"


def _claim(message: str) -> str:
    """What an error asks for, without what is wrong."""
    return message.rpartition(": ")[2]


def _recipe(name: str) -> None:
    from burnish import config
    from burnish.recipes import catalog

    recipe = catalog.get(name)
    print(f"{_prose(recipe.__doc__ or '')}\n")
    columns = {scale: dict(config.describe(settings)) for scale, settings in recipe.SCALES.items()}
    fullest_first = sorted(columns.values(), key=len, reverse=True)  # the order of the keys is best kept by this one
    keys = dict.fromkeys(key for settings in fullest_first for key in settings)
    print("settings that differ between scales:")
    rows = [("", *columns)]
    for key in keys:
        values = [_cut(settings[key]) if key in settings else "" for settings in columns.values()]
        if len(set(values)) > 1:
            rows.append((key, *values))
    _print_rows(rows)
    print(f"\nall settings: burnish schema {name}")


def _reward(name: str) -> None:
    from burnish.rewards import catalog

    cls = catalog.get(name)
    print(f"{_prose(inspect.getdoc(cls) or '')}\n")
    own = fields(cls)  # type: ignore[arg-type]
    if own:
        print("settings:")
        _print_rows([(f.name, "to be given" if f.default is MISSING else _shown(f.default)) for f in own])
        print()
    given = ", ".join(f"{f.name}=..." for f in own if f.default is MISSING)
    module, _, made = catalog.REWARDS[name].home.partition(":")
    typed = f'"{name}({given})"' if given else name
    print(f"Use it: burnish run grpo reward={typed} ...    or in Python: burnish.rewards.{module}.{made}")


def _judge(name: str) -> None:
    from burnish.loops.judges import FORMS

    kind, _ = FORMS[name]
    print(f"{_prose(inspect.getdoc(kind) or '')}\n")
    print(f"Use it: burnish run grpo reward='{name}(model=\"DIR\")' ... asks a model in this process,")
    print(f'        reward=\'{name}(model="NAME", url="http://...")\' an OpenAI-compatible endpoint.')


def _task(name: str) -> None:
    from burnish.tasks import catalog

    task = catalog.get(name)
    print(f"{_prose(inspect.getdoc(type(task)) or '')}\n")
    _print_rows([(f.name, _shown(getattr(task, f.name))) for f in fields(task)])  # type: ignore[arg-type]
    try:
        problems, gold = catalog.get_split(name, "test"), getattr(task, "gold", None)
        len(problems)
    except InputError as error:  # data that have to be fetched or installed
        print(f"\nits problems are not here: {error}")
        return
    print(f"\nthree problems of its test split, {'with a right reply' if gold else 'played turn by turn'}:")
    for index in range(3):
        print(textwrap.indent(problems[index].messages[-1]["content"], "  "))
        if gold:
            print(textwrap.indent(gold(problems[index]), "    "))


def _environment(name: str) -> None:
    from burnish.tasks import catalog

    env = catalog.environment(name)
    print(f"{_prose(inspect.getdoc(type(env)) or '')}\n")
    _print_rows([(f.name, _shown(getattr(env, f.name))) for f in fields(env)])  # type: ignore[arg-type]
    print(f"\nUse it: burnish run grpo task=NAME env={name} env.SETTING=VALUE ...")


def _order(name: str) -> None:
    from burnish.core import orders

    cls = getattr(orders, name)
    print(f"{_prose(inspect.getdoc(cls) or '')}\n")
    _print_rows([(f.name, _shown(getattr(cls(), f.name))) for f in fields(cls)])
    print(
        f'\nUse it: burnish run grpo rl.order={name} ..., or with settings rl.order="{{kind: {name}, SETTING: VALUE}}"'
    )


def _curation(name: str) -> None:
    from burnish.cli import curate
    from burnish.loops.curate import catalog

    print(f"{_prose(inspect.getdoc(catalog.get(name)) or '')}\n")
    rows: list[tuple[str, ...]] = []
    for key, value in curate.settings(name).items():
        text = "to be given" if value is inspect.Parameter.empty else _shown(value)
        rows.append((key, textwrap.shorten(text, LINE - 20, placeholder=" ...")))
    _print_rows(rows)
    print(
        f"\nUse it: burnish curate {name} ... SETTING=VALUE --out FILE.jsonl    (burnish curate --help has the options)"
    )


def _made_of(value: Any) -> None:
    """The parts of a frozen value that are not at their defaults, and the names of the others; all, if all are."""
    own = fields(value)
    used = [f.name for f in own if getattr(value, f.name) != f.default] or [f.name for f in own]
    if not used:
        return
    print("made of:")
    _print_rows([(each, _shown(getattr(value, each))) for each in used])
    if rest := ", ".join(f.name for f in own if f.name not in used):
        print(textwrap.fill(f"at their defaults: {rest}", LINE, initial_indent="  ", subsequent_indent="    "))
    print()


# --- text ----------------------------------------------------------------------------------------


def _shown(value: Any) -> str:
    """A setting as a person writes it: functions and named losses by their names, nested choices with their fields."""
    if known := _loss_name(value):
        return known
    if is_dataclass(value) and not isinstance(value, type):
        inner = ", ".join(f"{f.name}={_shown(getattr(value, f.name))}" for f in fields(value))
        return f"{type(value).__name__}({inner})"
    if inspect.isfunction(value):
        return value.__name__
    return "none" if value is None else str(value) or '""'


def _loss_name(value: Any) -> str:
    """The name of a loss that a table has as it is; empty for all else."""
    from burnish.core import preference, reward_models

    tables = (preference.table(), reward_models.table())
    return next((name for table in tables for name, loss in table.items() if loss == value), "")


def _prose(docstring: str) -> str:
    """A docstring without the marks that are for documentation tools."""
    return re.sub(r":\w+:`~?([^`]+)`", r"\1", docstring).replace("``", "").strip()


def _print_lines(lines: Iterable[str]) -> None:
    print()
    for line in lines:
        print(line)


def _cut(value: Any) -> str:
    text = "none" if value is None else str(value)
    return text if len(text) <= WIDTH else f"{text[: WIDTH - 3]}..."


def _print_rows(rows: Sequence[tuple[str, ...]]) -> None:
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    for row in rows:
        print("  " + "  ".join(text.ljust(width) for text, width in zip(row, widths, strict=True)).rstrip())
