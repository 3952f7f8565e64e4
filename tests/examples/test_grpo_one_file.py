"""The example that stands alone says what the library says, and learns."""

from __future__ import annotations

import ast
import importlib.util
import re
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from types import ModuleType

import pytest
import torch
from torch import Tensor

from burnish.core.algorithms import GRPO
from burnish.types import Batch, Outputs
from rows import batch_of, rollout

ROOT = Path(__file__).parents[2]
FILE = ROOT / "examples" / "grpo_one_file.py"
SEEDS = pytest.mark.parametrize("seed", range(8))
EXACT = {"rtol": 1e-10, "atol": 1e-14}


@pytest.fixture(scope="module")
def example() -> ModuleType:
    spec = importlib.util.spec_from_file_location("grpo_one_file", FILE)
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture(autouse=True)
def own_random_state() -> Iterator[None]:
    """The example seeds torch's global generator, which belongs to all tests."""
    with torch.random.fork_rng(devices=[]):
        yield


# --- the loss is the library's -----------------------------------------------------------------------

Case = tuple[Tensor, Batch]


def ragged(seed: int) -> Case:
    """Current log-probs and a batch of groups of 1 to 6 in shuffled rows, of 1 to 9 tokens with gaps in the mask.

    Rewards repeat, one group's are all equal, one group has one member. Where rewards differ they are binary fractions, so
    that one at the mean of its group has an advantage of exactly 0, and no sign, in both ways of computing.
    Old and reference differ from the current log-probs by enough to clip; what is outside the mask would overflow.
    """
    dice = torch.Generator().manual_seed(seed)

    def draw(low: int, high: int) -> int:
        return int(torch.randint(low, high, (), generator=dice))

    kinds = [lambda: draw(0, 3) / 2, lambda: draw(-5, 6) / 8, lambda: 0.1, lambda: 1.0, lambda: draw(0, 2) / 1024]
    sizes = [draw(2, 7), 6, 3, 1, draw(2, 7)]
    rows = []
    for group, (size, reward) in enumerate(zip(sizes, kinds, strict=True)):
        for _ in range(size):
            length = draw(1, 10)
            mask = [draw(0, 5) > 0 for _ in range(length)]
            rows.append(rollout(length, reward(), group=7 * group + 3, mask=mask))
    order = torch.randperm(len(rows), generator=dice).tolist()
    batch = batch_of([replace(rows[place], episode=number) for number, place in enumerate(order)])
    current = -3 * torch.rand(batch.mask.shape, generator=dice, dtype=torch.float64)

    def near(spread: float) -> Tensor:
        noise = torch.randn(batch.mask.shape, generator=dice, dtype=torch.float64)
        return torch.where(batch.mask, current + spread * noise, -1e4)

    return current, replace(batch, old_logprobs=near(0.3), ref_logprobs=near(1.0))


def library(logprobs: Tensor, batch: Batch) -> tuple[Tensor, dict[str, float]]:
    loss, metrics = GRPO.loss(Outputs(logprobs, torch.zeros_like(logprobs)), GRPO.loss.prepare(batch))
    return loss, {name: value / count for name, (value, count) in metrics.items()}


def ours(example: ModuleType, logprobs: Tensor, batch: Batch) -> tuple[Tensor, dict[str, float]]:
    assert batch.token_rewards is not None
    arguments = (batch.old_logprobs, batch.ref_logprobs, batch.token_rewards.sum(1), batch.mask, batch.groups)
    loss, seen = example.grpo_loss(logprobs, *arguments)
    return loss, seen


def slope(loss: Callable[[Tensor], tuple[Tensor, dict[str, float]]], at: Tensor) -> Tensor:
    leaf = at.clone().requires_grad_()
    (gradient,) = torch.autograd.grad(loss(leaf)[0], leaf)
    return gradient


@SEEDS
def test_loss_gradient_and_what_is_printed(example: ModuleType, seed: int) -> None:
    current, batch = ragged(seed)
    batch = GRPO.credit(batch, GRPO.init())
    theirs, metrics = library(current, batch)
    mine, seen = ours(example, current, batch)
    torch.testing.assert_close(mine, theirs, **EXACT)
    gradient = slope(lambda leaf: ours(example, leaf, batch), current)
    torch.testing.assert_close(gradient, slope(lambda leaf: library(leaf, batch), current), **EXACT)
    assert seen["kl"] == pytest.approx(metrics["kl/ref"], rel=1e-10)
    assert 0 < seen["clipped"] == pytest.approx(metrics["ratio/clip_frac"], rel=1e-10)
    assert gradient.isfinite().all() and not gradient[~batch.mask].any()


@SEEDS
def test_advantages(example: ModuleType, seed: int) -> None:
    _, batch = ragged(seed)
    assert batch.token_rewards is not None
    theirs = GRPO.credit(batch, GRPO.init()).advantages
    assert theirs is not None
    mine = example.group_advantages(batch.token_rewards.sum(1), batch.groups)
    torch.testing.assert_close(mine[:, None] * batch.mask, theirs, **EXACT)
    silent = torch.isin(batch.groups, torch.tensor([17, 24]))  # equal rewards, and a group of one
    assert (mine[silent] == 0).all() and mine[~silent].any()


@dataclass(frozen=True)
class Drawn:
    """Completions of a small float64 policy, and the batch that the library makes of the same tokens."""

    tokens: Tensor
    batch: Batch


def drawn(example: ModuleType, policy: torch.nn.Module, reference: torch.nn.Module, seed: int) -> Drawn:
    torch.manual_seed(seed)
    prompts, _ = example.split()
    groups = torch.arange(6).repeat_interleave(5)
    tokens = example.sample(policy, prompts[torch.randint(len(prompts), (6,))][groups])
    mask = example.completion_mask(tokens)
    rewards = torch.randint(0, 3, (30,)).double()
    rewards[:5] = 1.0
    rows = [
        rollout(example.LIMIT, reward, group=group, episode=row, tokens=line[example.PROMPT :], mask=chosen)
        for row, (line, chosen, reward, group) in enumerate(
            zip(tokens.tolist(), mask.tolist(), rewards.tolist(), groups.tolist(), strict=True)
        )
    ]
    with torch.no_grad():
        old, ref = example.token_logprobs(policy, tokens), example.token_logprobs(reference, tokens)
    return Drawn(tokens, replace(batch_of(rows), old_logprobs=old, ref_logprobs=ref))


def test_several_updates_of_a_small_model(example: ModuleType) -> None:
    """Two epochs of three minibatches of whole groups. Credit is given once, on the whole batch; the example recomputes it.

    At every update the gradient of every weight agrees; from the second on, the current policy is not the old one.
    """
    torch.manual_seed(0)
    policy, reference = (example.Policy(width=16, heads=2, layers=1).double() for _ in range(2))
    data = drawn(example, policy, reference, 1)
    assert 0 < data.batch.mask.sum() < data.batch.mask.numel()
    credited = GRPO.credit(data.batch, GRPO.init())
    optimizer = torch.optim.SGD(policy.parameters(), lr=2.0)
    moved = []
    for part in (*torch.arange(6).chunk(3), *torch.tensor([5, 2, 0, 3, 1, 4]).chunk(3)):
        rows = torch.isin(data.batch.groups, part).nonzero()[:, 0]
        mini = credited.select(rows)
        logprobs = example.token_logprobs(policy, data.tokens[rows])
        theirs, _ = library(logprobs, mini)
        mine, seen = ours(example, logprobs, mini)
        torch.testing.assert_close(mine, theirs, **EXACT)
        weights = list(policy.parameters())
        mine_of = torch.autograd.grad(mine, weights, retain_graph=True)
        theirs_of = torch.autograd.grad(theirs, weights, retain_graph=True)
        for name, left, right in zip(dict(policy.named_parameters()), mine_of, theirs_of, strict=True):
            torch.testing.assert_close(
                left, right, rtol=1e-10, atol=1e-12, msg=lambda text, name=name: f"{name}: {text}"
            )
        assert mini.old_logprobs is not None
        moved.append((float((logprobs.detach() - mini.old_logprobs)[mini.mask].abs().max()), seen["clipped"]))
        example.update(policy, optimizer, mine)
    assert moved[0] == (0.0, 0.0) and all(change > 0.01 for change, _ in moved[1:])
    assert any(clipped > 0 for _, clipped in moved)


# --- the rest of the file ----------------------------------------------------------------------------


def test_logprobs_are_those_the_tokens_were_drawn_with(example: ModuleType) -> None:
    """Token by token from the prefix alone: right columns, and nothing that comes later is seen."""
    torch.manual_seed(3)
    policy = example.Policy(width=16, heads=2, layers=2).double()
    tokens = torch.randint(len(example.VOCABULARY), (5, example.PROMPT + example.LIMIT))
    whole = example.token_logprobs(policy, tokens)
    for t in range(example.LIMIT):
        place = example.PROMPT + t
        alone = policy(tokens[:, :place])[:, -1].log_softmax(-1)
        torch.testing.assert_close(whole[:, t], alone[torch.arange(5), tokens[:, place]], rtol=0, atol=1e-12)


def test_sampling_follows_the_policy(example: ModuleType) -> None:
    """Frequencies of the first token, 20 000 draws: within five standard errors."""
    torch.manual_seed(4)
    policy = example.Policy(width=16, heads=2, layers=1)
    prompts = torch.tensor([[3, 8, 2, 10]]).repeat(20_000, 1)
    first = example.sample(policy, prompts)[:, example.PROMPT]
    wanted = policy(prompts[:1])[0, -1].softmax(-1).detach()
    seen = torch.bincount(first, minlength=len(wanted)) / len(first)
    assert ((seen - wanted).abs() <= 5 * (wanted * (1 - wanted) / len(first)).sqrt()).all()


@pytest.mark.parametrize(
    ("completion", "right"),
    [
        ("8.", 1),
        ("38.", 1),
        ("238.", 1),
        ("8.11", 1),
        ("83.", 0),
        ("8", 0),
        ("8388", 0),
        (".8", 0),
        ("", 0),
        ("8=.", 0),
    ],
)
def test_reward(example: ModuleType, completion: str, right: int) -> None:
    assert example.score("382=", completion) == right


def test_the_mask_ends_with_the_first_end_token(example: ModuleType) -> None:
    lines = {"8.3.": "1100", "....": "1000", "8388": "1111", "838.": "1111"}
    tokens = torch.tensor([[3, 8, 2, 10, *map(example.VOCABULARY.index, line)] for line in lines])
    mask = example.completion_mask(tokens)
    assert ["".join(map(str, row)) for row in mask.int().tolist()] == list(lines.values())
    assert example.score_all(tokens).tolist() == [1, 0, 0, 1]


def test_no_held_out_digits_are_trained_on_in_any_order(example: ModuleType) -> None:
    trained, heldout = ({tuple(sorted(row[:3])) for row in part.tolist()} for part in example.split())
    assert len(trained) == 176 and len(heldout) == 44 and not trained & heldout
    assert sum(map(len, example.split())) == 1000


def test_a_run_learns_and_repeats(example: ModuleType, capsys: pytest.CaptureFixture[str]) -> None:
    first = example.train(seed=0, steps=10)
    shown = [float(number) for number in re.findall(r"held-out accuracy (\d\.\d+)", capsys.readouterr().out)]
    assert shown == pytest.approx(first, abs=6e-4)
    assert len(first) == 3 and first[0] < 0.5 and first[-1] > 0.75, first
    torch.manual_seed(99)  # what was drawn before does not matter
    assert example.train(seed=0, steps=5) == first[:2]


# --- what the file promises --------------------------------------------------------------------------


def test_short_and_alone() -> None:
    source = FILE.read_text(encoding="utf-8")
    assert len(source.splitlines()) <= 250
    imports = [node for node in ast.walk(ast.parse(source)) if isinstance(node, ast.Import | ast.ImportFrom)]
    names = {a.name for node in imports if isinstance(node, ast.Import) for a in node.names}
    names |= {node.module or "." for node in imports if isinstance(node, ast.ImportFrom)}
    assert {name.split(".")[0] for name in names} - sys.stdlib_module_names == {"torch"}


def test_every_paper_it_names_is_in_the_index() -> None:
    cited = re.findall(r"arXiv:\d{4}\.\d{5}", FILE.read_text(encoding="utf-8"))
    index = (ROOT / "docs" / "papers.md").read_text(encoding="utf-8")
    assert "arXiv:2402.03300" in cited and not [paper for paper in cited if paper not in index]
