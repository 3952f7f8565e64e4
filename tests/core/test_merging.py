"""Merging methods against their formulas; what leaves models as they are; seeded masks and their mean."""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Mapping

import pytest
import torch
from torch import Tensor

from burnish.core import merging
from burnish.core.keys import derive, uniforms
from burnish.core.merging import DARE, EMA, TIES, Average, Merge, Share, TaskVectors
from burnish.errors import InputError

SHAPES = {"model.embed_tokens.weight": (5, 4), "model.layers.0.mlp.up_proj.weight": (4, 4),
          "model.layers.1.mlp.up_proj.weight": (4, 4), "model.norm.weight": (4,)}  # fmt: skip
UP0, UP1 = "model.layers.0.mlp.up_proj.weight", "model.layers.1.mlp.up_proj.weight"


def model(seed: int, dtype: torch.dtype = torch.float64) -> dict[str, Tensor]:
    generator = torch.Generator().manual_seed(seed)
    return {n: torch.randn(s, generator=generator, dtype=torch.float64).to(dtype) for n, s in SHAPES.items()}


BASE, MODELS = model(0), [model(1), model(2), model(3)]
TAUS = {n: [m[n] - BASE[n] for m in MODELS] for n in SHAPES}

METHODS: dict[str, Merge] = {
    "average": Average(),
    "weighted": Average((1.0, 0.0, 3.0)),
    "shares": Average(shares=(Share((0.2, 0.3, 0.5), layers=(1, 1)),)),
    "ema": EMA(0.7),
    "task-vectors": TaskVectors(0.4),
    "ties": TIES(0.5, 0.7),
    "dare": DARE(0.3, TaskVectors(0.5), seed=4),
    "dare-ties": DARE(0.5, TIES(keep=1.0)),
}
every_method = pytest.mark.parametrize("method", METHODS.values(), ids=METHODS.keys())


def assert_close(found: Mapping[str, Tensor], expected: Mapping[str, Tensor]) -> None:
    assert found.keys() == expected.keys()
    for name, tensor in expected.items():
        assert torch.allclose(found[name], tensor, rtol=0, atol=1e-10), name


def ties(taus: list[Tensor], keep: float, scale: float) -> Tensor:
    """Entry by entry, in plain Python."""
    cut = []
    for tau in taus:
        flat = tau.flatten().tolist()
        floor = sorted(map(abs, flat), reverse=True)[: max(1, round(keep * len(flat)))][-1]
        cut.append([x if abs(x) >= floor else 0.0 for x in flat])
    out = []
    for entries in zip(*cut, strict=True):
        sign = math.copysign(1, sum(entries))
        same = [x for x in entries if x * sign > 0]
        out.append(scale * sum(same) / max(1, len(same)))
    return torch.tensor(out, dtype=torch.float64).view_as(taus[0])


def dare(taus: list[Tensor], name: str, drop: float, seed: int) -> list[Tensor]:
    out = []
    for place, tau in enumerate(taus):
        drawn = torch.from_numpy(uniforms(derive("dare", seed, place, name), tau.numel())).view_as(tau)
        out.append(tau * (drawn < 1 - drop) / (1 - drop))
    return out


REFERENCES: dict[str, Callable[[str], Tensor]] = {
    "average": lambda n: sum(m[n] for m in MODELS) / 3,  # type: ignore[return-value]
    "weighted": lambda n: (MODELS[0][n] + 3 * MODELS[2][n]) / 4,
    "shares": lambda n: (
        0.2 * MODELS[0][n] + 0.3 * MODELS[1][n] + 0.5 * MODELS[2][n] if n == UP1 else sum(m[n] for m in MODELS) / 3  # type: ignore[return-value]
    ),
    "ema": lambda n: 0.7 * (0.7 * MODELS[0][n] + 0.3 * MODELS[1][n]) + 0.3 * MODELS[2][n],
    "task-vectors": lambda n: BASE[n] + 0.4 * sum(TAUS[n]),
    "ties": lambda n: BASE[n] + ties(TAUS[n], 0.5, 0.7),
    "dare": lambda n: BASE[n] + 0.5 * sum(dare(TAUS[n], n, 0.3, 4)),
    "dare-ties": lambda n: BASE[n] + ties(dare(TAUS[n], n, 0.5, 0), 1.0, 1.0),
}


@pytest.mark.parametrize("name", METHODS)
def test_every_method_equals_its_formula(name: str) -> None:
    found = METHODS[name](MODELS, BASE if METHODS[name].needs_base else None)
    assert_close(found, {n: REFERENCES[name](n) for n in SHAPES})


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.bfloat16, torch.float16], ids=str)
@pytest.mark.parametrize("method", ["average", "weighted", "shares", "ema"])
def test_what_averages_equal_models_gives_them_back_bit_for_bit(method: str, dtype: torch.dtype) -> None:
    """With a third each too, which no binary fraction is."""
    same = model(7, dtype)
    for name, tensor in METHODS[method]([same, same, same]).items():
        assert tensor.dtype == dtype and torch.equal(tensor, same[name]), name


def test_one_model_and_its_base() -> None:
    only = [MODELS[0]]
    assert_close(TaskVectors()(only, BASE), MODELS[0])
    assert_close(TIES(keep=1.0)(only, BASE), MODELS[0])
    assert_close(DARE(drop=0.0)(only, BASE), MODELS[0])
    for method in (TaskVectors(0.0), TIES(scale=0.0), DARE(into=TaskVectors(0.0))):
        assert_close(method(MODELS, BASE), BASE)


def test_task_vectors_with_weights_that_add_up_to_one_are_an_average() -> None:
    weights = (0.2, 0.5, 0.3)
    assert_close(TaskVectors(weights=weights)(MODELS, BASE), Average(weights)(MODELS))
    assert_close(DARE(0.0, into=Average(weights))(MODELS, BASE), Average(weights)(MODELS))


def test_a_negative_weight_takes_a_task_away() -> None:
    found = TaskVectors(weights=(1.0, -1.0))([MODELS[0], MODELS[0]], BASE)
    assert_close(found, BASE)


def test_the_order_matters_to_the_moving_average_alone() -> None:
    assert_close(Average()(MODELS), Average()(MODELS[::-1]))
    assert not torch.allclose(EMA(0.7)(MODELS)[UP0], EMA(0.7)(MODELS[::-1])[UP0])


def test_ties_by_hand() -> None:
    """Keep 2 of 4: (5, -4) and (-3, 6) stay. First entry: 5 against -3, so 5. Second: -4 alone. Third: 6 alone."""
    one, two = torch.tensor([5.0, -4.0, 1.0, 0.5]), torch.tensor([-3.0, 0.1, 6.0, -0.2])
    method = TIES(keep=0.5)
    assert method.tensor("w", [one, two], torch.zeros(4)).tolist() == [5.0, -4.0, 6.0, 0.0]
    both = method.tensor("w", [one, one + torch.tensor([2.0, 0, 0, 0])], torch.zeros(4))
    assert both.tolist() == [6.0, -4.0, 0.0, 0.0], "those that agree are averaged"


def test_an_entry_without_a_majority_stays_at_the_base() -> None:
    tau = torch.tensor([1.0, 2.0])
    assert TIES(keep=1.0).tensor("w", [1 + tau, 1 - tau], torch.ones(2)).tolist() == [1.0, 1.0]


def test_trimming_keeps_the_largest_and_at_least_one() -> None:
    tau = torch.tensor([[0.1, -3.0], [2.0, -0.5]])
    assert merging.trimmed(tau, 0.5).tolist() == [[0.0, -3.0], [2.0, 0.0]]
    assert merging.trimmed(tau, 0.001).tolist() == [[0.0, -3.0], [0.0, 0.0]]
    assert merging.trimmed(tau, 1.0) is tau
    assert merging.trimmed(torch.tensor(2.0), 0.1) == 2.0 and merging.trimmed(torch.empty(0), 0.1).shape == (0,)


def test_rescaling_restores_the_length() -> None:
    tau = torch.tensor([1.0, -3.0, 0.5], dtype=torch.float64)
    thin = merging.rescaled(merging.trimmed(tau, 0.3), tau)
    assert thin.tolist() == [0.0, -4.5, 0.0]
    assert merging.rescaled(torch.zeros(2), torch.ones(2)).tolist() == [0.0, 0.0], "nothing is left to stretch"


def test_the_mean_over_all_masks_of_what_is_dropped_is_the_vector() -> None:
    """Exactly: every mask of three entries with its probability."""
    tau, keep = torch.tensor([2.0, -1.0, 0.5], dtype=torch.float64), 0.3
    mean = torch.zeros_like(tau)
    for bits in itertools.product([True, False], repeat=3):
        mean += keep ** sum(bits) * (1 - keep) ** (3 - sum(bits)) * merging.dropped(tau, torch.tensor(bits), keep)
    assert torch.allclose(mean, tau, rtol=0, atol=1e-12)


def test_masks_follow_from_seed_model_and_name_and_have_their_share() -> None:
    big = {"w": torch.ones(200, 100, dtype=torch.float64), "v": torch.ones(200, 100, dtype=torch.float64)}
    base = {n: torch.zeros_like(t) for n, t in big.items()}

    def drawn(seed: int) -> list[Tensor]:
        parts = [DARE(0.9, TaskVectors(weights=w), seed)([big, big], base) for w in ((1.0, 0.0), (0.0, 1.0))]
        return [part[n] for part in parts for n in big]

    masks = drawn(0)
    assert all(torch.equal(a, b) for a, b in zip(masks, drawn(0), strict=True))
    assert all(not torch.equal(a, b) for a, b in itertools.combinations([*masks, *drawn(1)], 2))
    for mask in masks:
        assert mask.unique().tolist() == [0.0, pytest.approx(10.0)]
        assert abs(float((mask > 0).double().mean()) - 0.1) < 4 * (0.09 / 20_000) ** 0.5


def test_a_mask_drawn_in_pieces_is_the_mask(monkeypatch: pytest.MonkeyPatch) -> None:
    whole = merging.random_mask(torch.Size((7, 9)), 0.4, 12)
    monkeypatch.setattr(merging, "_CHUNK", 8)
    assert torch.equal(merging.random_mask(torch.Size((7, 9)), 0.4, 12), whole)
    assert torch.equal(whole.flatten(), torch.from_numpy(uniforms(12, 63) < 0.4))


def test_shares_go_by_layer_and_by_name_and_the_first_one_counts() -> None:
    by_layer = Share((1.0, 0.0, 0.0), layers=(0, 0))
    by_name = Share((0.0, 1.0, 0.0), match=r"up_proj|norm\.")
    found = Average((0.0, 0.0, 1.0), (by_layer, by_name))(MODELS)
    owners = {"model.embed_tokens.weight": 2, UP0: 0, UP1: 1, "model.norm.weight": 1}
    assert_close(found, {name: MODELS[owner][name] for name, owner in owners.items()})
    assert Share((1.0,), layers=(2, 5)).covers("transformer.h.3.attn.weight")
    assert not Share((1.0,), layers=(0, 5)).covers("lm_head.weight"), "outside of the layers"


@every_method
def test_types_are_kept_and_sums_are_wide(method: Merge) -> None:
    """In bf16 the result is the exact one, rounded once."""
    narrow, base = [model(s, torch.bfloat16) for s in (1, 2, 3)], model(0, torch.bfloat16)
    found = method(narrow, base)
    wide = method([{n: t.double() for n, t in m.items()} for m in narrow], {n: t.double() for n, t in base.items()})
    for name, tensor in found.items():
        assert tensor.dtype == torch.bfloat16
        assert float((tensor.double() - wide[name]).abs().max() / wide[name].abs().max()) < 2**-8
    kept = {n: t.clone() for n, t in narrow[0].items()}
    method(narrow, base)
    assert all(torch.equal(narrow[0][n], kept[n]) for n in kept), "the models are only read"


def test_numbers_that_are_not_floats_have_to_agree() -> None:
    counts = torch.tensor([1, 2])
    assert torch.equal(Average().tensor("n", [counts, counts]), counts)
    with pytest.raises(InputError, match=r"'n' holds torch\.int64 numbers that differ"):
        Average().tensor("n", [counts, counts + 1])


@pytest.mark.parametrize(
    ("method", "message"),
    [
        (TIES(), "needs the base they come from: add base="),
        (DARE(into=Average()), "needs the base"),
        (Average((1.0, 2.0)), "2 weights for 3 models"),
        (TaskVectors(weights=(1.0,)), "needs the base"),
        (Average(shares=(Share((1.0,), layers=(0, 0)),)), "1 weights for 3 models"),
        (Average(shares=(Share((1.0, 1.0, 1.0), layers=(7, 9)),)), "no tensor is covered by Share"),
    ],
    ids=["ties", "dare", "weights", "task-vectors", "share-weights", "share-layers"],
)
def test_what_does_not_fit_the_models_is_refused(method: Merge, message: str) -> None:
    with pytest.raises(InputError, match=message):
        method(MODELS)


def test_weights_are_counted_inside_of_dare_too() -> None:
    with pytest.raises(InputError, match="TaskVectors has 2 weights for 3 models"):
        DARE(into=TaskVectors(weights=(1.0, 2.0)))(MODELS, BASE)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: Average((1.0, -1.0)), "divided by their sum"),
        (lambda: Share((1.0,), match="("), "no regular expression"),
        (lambda: EMA(1.5), "between 0 and 1"),
        (lambda: TIES(keep=0.0), "keep=0.0"),
        (lambda: DARE(drop=1.0), "1 - drop=0.0"),
        (lambda: DARE(into=DARE()), "same masks"),
    ],
    ids=["zero-sum", "pattern", "decay", "keep", "drop", "dare-in-dare"],
)
def test_settings_that_mean_nothing_are_refused(make: Callable[[], object], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        make()


def test_methods_by_name() -> None:
    assert merging.get("ties") == TIES() and merging.get("Task-Vectors") == TaskVectors()
    assert [type(merging.get(n)) for n in ("average", "ema", "dare")] == [Average, EMA, DARE]
    with pytest.raises(InputError, match=r"unknown merging method 'tie'\. Did you mean 'ties'"):
        merging.get("tie")
