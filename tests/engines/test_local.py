"""The local engine: what it computes, what it writes, and what it refuses."""

from __future__ import annotations

import json
from dataclasses import dataclass, replace
from pathlib import Path

import pytest
import torch
from torch import Tensor
from transformers import AutoModelForCausalLM, AutoTokenizer

from burnish.core import keys
from burnish.core.losses import NLL
from burnish.data.batching import collate
from burnish.data.chat import Chat
from burnish.engines.local import Engine, LocalModel, outline
from burnish.engines.lora import LoRA
from burnish.engines.reference import Reference
from burnish.errors import InputError
from burnish.types import Batch, Head, Metrics, Outputs
from rows import rollout
from tiny import plain_distributions, plain_logprobs, plain_network, three_token_model

EXACT = Engine(dtype="float64", device="cpu")
ADAPTED = replace(EXACT, adapter=LoRA(rank=4))
LENGTHS = (5, 2, 3, 1)


def data(temperature: float = 1.0, count: int = 4) -> Batch:
    """Two prompts, interleaved, ragged."""
    prompts = [(40, 41, 42), (50, 51)]
    rows = [
        rollout(n, tokens=[20 + (i * 7 + t) % 50 for t in range(n)], prompt=prompts[i % 2], group=i % 2, episode=i)
        for i, n in enumerate(LENGTHS[:count])
    ]
    return NLL().prepare(collate(rows, temperature=temperature))


def train(model: LocalModel, steps: int = 2, lr: float = 0.01) -> LocalModel:
    for _ in range(steps):
        model.forward_backward(data(), NLL())
        model.optim_step(lr)
    return model


def gradient(model: LocalModel) -> dict[str, Tensor]:
    found = {name: p.grad.clone() for name, p in model.masters.params.items() if p.grad is not None}
    model.discard_gradient()
    return found


# ----------------------------------------------------------------------------------------------- log-probs and entropy


@pytest.mark.parametrize("temperature", [1.0, 0.7])
def test_outputs_are_those_of_the_plain_network(nano: Path, temperature: float) -> None:
    model, plain, batch = LocalModel(nano, EXACT), plain_network(nano), data(temperature)
    outputs = model.forward(batch)
    assert outputs.logprobs.shape == outputs.entropy.shape == batch.tokens.shape
    for row, n in enumerate(LENGTHS):
        tokens = batch.tokens[row, :n]
        raw = plain_distributions(plain, batch.prompts[row].tolist(), tokens.tolist())
        full = torch.log_softmax(raw / temperature, -1)
        assert torch.allclose(outputs.logprobs[row, :n], full.gather(1, tokens[:, None])[:, 0], rtol=1e-10)
        assert torch.allclose(outputs.entropy[row, :n], -(full.exp() * full).sum(-1), rtol=1e-10)
        assert (outputs.logprobs[row, n:] == 0).all() and (outputs.entropy[row, n:] == 0).all()


def test_rows_of_one_pass_come_back_in_their_order(nano: Path) -> None:
    """Prompts p q r p q are laid out as p p q q r: an order that is not its own inverse."""
    model = LocalModel(nano, EXACT, heads={"h": Head(at="last", spread=1.0)})
    prompts = [(40, 41), (50,), (60, 61, 62), (40, 41), (50,)]
    rows = [rollout(1 + i, prompt=prompt, group=i, episode=i) for i, prompt in enumerate(prompts)]
    with torch.no_grad():
        together = model.outputs(collate(rows))
        for i, row in enumerate(rows):
            alone = model.outputs(collate([row]))
            assert torch.allclose(together.logprobs[i, : i + 1], alone.logprobs[0], rtol=1e-10)
            assert torch.allclose(together.entropy[i, : i + 1], alone.entropy[0], rtol=1e-10)
            assert together.heads["h"][i].item() == pytest.approx(alone.heads["h"].item(), rel=1e-10)


def test_training_returns_what_scoring_returns_in_the_same_order(nano: Path) -> None:
    model = LocalModel(
        nano, replace(EXACT, token_budget=9), heads={"value": Head(spread=1.0), "score": Head(at="last", spread=1.0)}
    )
    scored = model.forward(data())
    _, seen = model.forward_backward(data(), NLL())
    assert torch.equal(scored.logprobs, seen.logprobs) and torch.equal(scored.entropy, seen.entropy)
    assert all(torch.equal(scored.heads[name], seen.heads[name]) for name in ("value", "score"))
    assert not seen.logprobs.requires_grad and not scored.logprobs.requires_grad


def test_a_gradient_descends_the_loss(nano: Path) -> None:
    model = LocalModel(nano, EXACT)
    losses = []
    for _ in range(12):
        metrics, _ = model.forward_backward(data(), NLL())
        losses.append(metrics["loss"][0] / metrics["loss"][1])
        model.optim_step(0.01)
    assert losses[0] > 4 and losses[-1] < 1.0, "one batch can be learnt by heart"


def test_discarding_and_stepping_both_empty_the_gradient(nano: Path) -> None:
    model = LocalModel(nano, EXACT)
    model.forward_backward(data(), NLL())
    once = gradient(model)
    model.forward_backward(data(), NLL())
    model.discard_gradient()
    model.forward_backward(data(), NLL())
    assert all(torch.equal(value, once[name]) for name, value in gradient(model).items())
    model.forward_backward(data(), NLL())
    model.optim_step(0.0)
    model.forward_backward(data(), NLL())
    assert all(torch.equal(value, once[name]) for name, value in gradient(model).items())


@pytest.mark.parametrize("engine", [EXACT, ADAPTED], ids=["full", "lora"])
def test_activation_checkpointing_changes_no_gradient(nano: Path, engine: Engine) -> None:
    plain = LocalModel(nano, engine)
    saving = LocalModel(nano, replace(engine, activation_checkpointing=True))
    recomputed = []
    for layer in saving.network.get_decoder().layers:  # type: ignore[operator]
        layer.self_attn.register_forward_hook(lambda *_: recomputed.append(1))
    for model in (plain, saving):
        model.forward_backward(data(), NLL())
    assert len(recomputed) == 2 * saving.network.config.num_hidden_layers, "nothing was recomputed"  # type: ignore[union-attr, operator]
    left, right = gradient(plain), gradient(saving)
    assert left.keys() == right.keys()
    for name, value in left.items():
        assert (right[name] - value).norm().item() <= 1e-12 * value.norm().item(), name


def truncated(temperature: float = 1.0) -> Batch:
    """:func:`data` with each token's kept ids: itself and some others, but the whole vocabulary at one place."""
    batch = data(temperature)
    offsets = torch.arange(3) * (1 + torch.arange(batch.tokens.numel()).reshape(*batch.tokens.shape, 1) % 5)
    kept = (batch.tokens[..., None] + offsets).to(torch.int32)
    kept[:, ::2, 2] = -1
    kept[2, 1] = -1
    kept[~batch.mask] = -1
    return replace(batch, extras={**batch.extras, "kept_ids": ("token", kept)})


@pytest.mark.parametrize("temperature", [1.0, 0.7])
def test_over_kept_ids_outputs_are_those_of_the_plain_network_restricted(nano: Path, temperature: float) -> None:
    """For the policy and for the reference, which sees the same batch."""
    model, plain, batch = LocalModel(nano, EXACT), plain_network(nano), truncated(temperature)
    outputs = model.forward(batch)
    for row, n in enumerate(LENGTHS):
        tokens = batch.tokens[row, :n].tolist()
        raw = plain_distributions(plain, batch.prompts[row].tolist(), tokens).detach() / temperature
        for place, token in enumerate(tokens):
            ids = [i for i in batch.extra("kept_ids")[row, place].tolist() if i >= 0] or list(range(raw.shape[1]))
            share = torch.log_softmax(raw[place, ids], -1)
            assert outputs.logprobs[row, place].item() == pytest.approx(share[ids.index(token)].item(), rel=1e-10)
            assert outputs.entropy[row, place].item() == pytest.approx(-(share.exp() * share).sum().item(), rel=1e-10)
    assert torch.equal(Reference(model).forward(batch).logprobs, outputs.logprobs)
    with torch.no_grad():  # in one pass, whose layout is in another order than the batch
        together = model.outputs(batch)
    assert torch.allclose(together.logprobs, outputs.logprobs, rtol=1e-10)


def test_without_suppressed_ids_outputs_are_those_of_the_plain_network_over_the_others(nano: Path) -> None:
    """For the policy and for the reference, under any split."""
    batch = data(0.7)
    banned = tuple(i for i in range(5, 60) if i not in set(batch.tokens.flatten().tolist()))
    batch = replace(batch, suppressed=banned)
    model, plain = LocalModel(nano, replace(EXACT, token_budget=9)), plain_network(nano)
    outputs = model.forward(batch)
    for row, n in enumerate(LENGTHS):
        tokens = batch.tokens[row, :n].tolist()
        raw = plain_distributions(plain, batch.prompts[row].tolist(), tokens).detach() / 0.7
        raw[:, list(banned)] = -torch.inf
        share = torch.log_softmax(raw, -1)
        expected = share.gather(1, torch.tensor([tokens]).T)[:, 0]
        assert torch.allclose(outputs.logprobs[row, :n], expected, rtol=1e-10)
        entropy = torch.distributions.Categorical(logits=raw).entropy()
        assert torch.allclose(outputs.entropy[row, :n], entropy, rtol=1e-10)
    assert torch.equal(Reference(model).forward(batch).logprobs, outputs.logprobs)


def test_kept_ids_stay_with_their_tokens_under_any_split(nano: Path) -> None:
    found, metrics = [], []
    for budget in (8192, 9, 1):
        model = LocalModel(nano, replace(EXACT, token_budget=budget))
        metrics.append(model.forward_backward(truncated(), NLL())[0])
        found.append(gradient(model))
    for other, numbers in zip(found[1:], metrics[1:], strict=True):
        assert numbers["loss"] == pytest.approx(metrics[0]["loss"], rel=1e-10)
        assert numbers["entropy"] == pytest.approx(metrics[0]["entropy"], rel=1e-10)
        for name, value in found[0].items():
            assert (other[name] - value).norm().item() <= 1e-10 * value.norm().item(), name


# ----------------------------------------------------------------------------------------------- heads


@dataclass(frozen=True)
class Regression:
    """The sum of what a head says at masked tokens, or at each row."""

    name: str

    def __call__(self, outputs: Outputs, batch: Batch) -> tuple[Tensor, Metrics]:
        value = outputs.heads[self.name]
        live = batch.mask if value.ndim == 2 else torch.ones_like(value)
        return (value.square() * live).sum(), {}


@pytest.mark.parametrize("at", ["tokens", "steps", "last"])
def test_a_head_reads_the_state_in_front_of_a_token_or_behind_it(nano: Path, at: str) -> None:
    """At the token's place of the batch."""
    model, plain = LocalModel(nano, EXACT, heads={"h": Head(at=at, spread=1.0)}), plain_network(nano)
    head, batch = model.heads["h"], data()
    with torch.no_grad():
        head.bias.fill_(0.3)
    found = model.forward(batch).heads["h"]
    assert found.shape == ((len(batch),) if at == "last" else batch.tokens.shape)
    for row, n in enumerate(LENGTHS):
        ids = torch.cat([batch.prompts[row], batch.tokens[row, :n]])[None]
        with torch.no_grad():
            states = plain.get_decoder()(input_ids=ids, use_cache=False).last_hidden_state[0, -n - 1 :]
            values = head(states)[:, 0]
        if at != "last":
            own = values[:-1] if at == "tokens" else values[1:]
            assert torch.allclose(found[row, :n], own, rtol=1e-10) and (found[row, n:] == 0).all()
        else:
            assert found[row].item() == pytest.approx(values[-1].item(), rel=1e-10)


@pytest.mark.parametrize("at", ["tokens", "steps", "last"])
def test_a_head_is_trained_with_the_trunk_under_any_split(nano: Path, at: str) -> None:
    found = []
    for budget in (8192, 1):
        model = LocalModel(nano, replace(EXACT, token_budget=budget), heads={"h": Head(at=at, spread=1.0)})
        model.forward_backward(data(), Regression("h"))
        found.append(gradient(model))
    assert found[0].keys() == found[1].keys() and {"heads.h.weight", "heads.h.bias"} < found[0].keys()
    assert all(bool(value.any()) for name, value in found[0].items() if "layers" in name), "the trunk has a part in it"
    for name, value in found[0].items():
        assert (found[1][name] - value).norm().item() <= 1e-10 * value.norm().item(), name


@pytest.mark.parametrize("at", ["tokens", "steps", "last"])
def test_a_head_of_several_numbers_keeps_them_apart(nano: Path, at: str) -> None:
    """[B, T, out] or [B, out]: the same numbers as as many heads of one."""
    wide = LocalModel(nano, EXACT, heads={"wide": Head(out=3, at=at, spread=1.0)})
    single = LocalModel(nano, EXACT, heads={f"h{i}": Head(at=at) for i in range(3)})
    with torch.no_grad():
        for i in range(3):
            single.heads[f"h{i}"].weight.copy_(wide.heads["wide"].weight[[i]])
    expected = torch.stack(list(single.forward(data()).heads.values()), -1)
    found = wide.forward(data()).heads["wide"]
    assert found.shape == expected.shape and torch.allclose(found, expected, rtol=1e-10)


def test_heads_start_from_the_seed(nano: Path) -> None:
    one, same, other = (
        LocalModel(nano, EXACT, seed=s, heads={"h": Head(spread=1.0)}).heads["h"].weight for s in (0, 0, 1)
    )
    assert torch.equal(one, same) and not torch.equal(one, other)
    silent = LocalModel(nano, EXACT, heads={"value": Head(), "score": Head(at="last")}).forward(data()).heads
    assert not any(bool(values.any()) for values in silent.values()), "a critic begins by saying 0"


# ----------------------------------------------------------------------------------------------- export and reference


@pytest.mark.parametrize("tied", [True, False])
@pytest.mark.parametrize("adapter", [None, LoRA(rank=2)], ids=["full", "lora"])
@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_the_export_is_the_live_model(tmp_path: Path, tied: bool, adapter: LoRA | None, dtype: str) -> None:
    """Loaded by transformers in the same precision, with its tokenizer, template and end-of-text token."""
    start, end = tmp_path / "start", tmp_path / "end"
    end.mkdir()
    three_token_model(start, num_hidden_layers=2, tie_word_embeddings=tied)
    model = LocalModel(start, Engine(dtype=dtype, device="cpu", adapter=adapter))
    rows = [rollout(n, tokens=[(i + t) % 3 for t in range(n)], prompt=(0, 1), episode=i) for i, n in enumerate(LENGTHS)]
    batch = NLL().prepare(collate(rows))
    for _ in range(3):
        model.forward_backward(batch, NLL())
        model.optim_step(0.05)
    model.export(end)
    loaded = AutoModelForCausalLM.from_pretrained(end)
    assert str(loaded.dtype) == f"torch.{dtype}"
    written = loaded.state_dict()
    assert all(torch.equal(written[name], weight) for name, weight in model.weights().items())
    live = model.forward(batch).logprobs
    for row, n in enumerate(LENGTHS):
        with torch.no_grad():
            found = plain_logprobs(loaded.float(), (0, 1), batch.tokens[row, :n].tolist())
        assert torch.allclose(found, live[row, :n].float(), atol=1e-5 if dtype == "float32" else 0.05)
    again = LocalModel(end, Engine(dtype=dtype, device="cpu"))
    assert torch.equal(again.forward(batch).logprobs, live)
    assert (end / "adapter").exists() == (adapter is not None)
    assert AutoTokenizer.from_pretrained(end)("ab.")["input_ids"] == [0, 1, 2]
    assert Chat.load(end).eos_ids == Chat.load(start).eos_ids == {2}
    assert "attn_implementation" not in json.loads((end / "config.json").read_text())


def test_the_adapters_come_back_after_an_error(nano: Path) -> None:
    policy = train(LocalModel(nano, ADAPTED))
    now = policy.forward(data()).logprobs
    with pytest.raises(RuntimeError, match="halfway"), policy.base_weights():
        raise RuntimeError("halfway")
    assert torch.equal(policy.forward(data()).logprobs, now)


def test_weights_are_the_live_ones_under_their_names_on_disk(nano: Path) -> None:
    names = dict(plain_network(nano).named_parameters()).keys()
    for engine in (EXACT, ADAPTED):
        model = LocalModel(nano, engine)
        weights = model.weights()
        assert weights.keys() == names
        before = weights["model.layers.0.self_attn.q_proj.weight"].clone()
        train(model, steps=1 if engine is EXACT else 2)
        assert not torch.equal(weights["model.layers.0.self_attn.q_proj.weight"], before), "a copy, not the live weight"
    assert LocalModel(nano, EXACT).parameter_counts() == (sum(w.numel() for w in weights.values()),) * 2


# ----------------------------------------------------------------------------------------------- settings and errors


def test_the_global_generator_has_no_say(nano: Path) -> None:
    found = []
    for seed in (1, 2):
        torch.manual_seed(seed)
        model = LocalModel(nano, ADAPTED, heads={"h": Head(spread=1.0)})
        found.append({name: p.detach() for name, p in model.masters.params.items()})
    assert all(torch.equal(value, found[1][name]) for name, value in found[0].items())


def test_the_context_is_the_models(nano: Path) -> None:
    assert LocalModel(nano, EXACT).context == 2048


def test_auto_is_resolved_to_something_this_machine_has() -> None:
    resolved = Engine().resolved()
    assert resolved.dtype in ("float32", "bfloat16") and resolved.device in ("cpu", "cuda")
    assert resolved.resolved() == resolved and EXACT.resolved() == EXACT


def test_a_wrong_dtype_is_refused_where_it_is_written() -> None:
    with pytest.raises(ValueError, match="auto, float32, bfloat16, float64, not 'half'"):
        Engine(dtype="half")


def test_a_directory_that_is_no_model_is_an_input_error(tmp_path: Path, nano: Path) -> None:
    with pytest.raises(InputError, match="does not exist"):
        LocalModel(tmp_path / "nowhere", EXACT)
    Chat.load(nano).tokenizer.save_pretrained(tmp_path)
    with pytest.raises(InputError, match=r"config|model"):
        LocalModel(tmp_path, EXACT)


def test_a_model_without_weights_is_an_input_error(tmp_path: Path) -> None:
    three_token_model(tmp_path)
    (tmp_path / "model.safetensors").unlink()
    with pytest.raises(InputError, match=r"weights|safetensors"):
        LocalModel(tmp_path, EXACT)


def test_keys_and_seeds_of_any_size(nano: Path) -> None:
    """Stage seeds are 128-bit keys."""
    LocalModel(nano, ADAPTED, seed=keys.derive("a stage"))


# ------------------------------------------------------------------------------------------------------- exported heads


def test_a_head_begins_as_the_one_that_was_exported(nano: Path, tmp_path: Path) -> None:
    """A reward model's head reads the end; a critic that begins as it reads in front of every token with the same weights.

    So what it says before a further token is the score of the text so far.
    """
    scorer = LocalModel(nano, EXACT, seed=1, heads={"value": Head(at="last", spread=1.0)})
    with torch.no_grad():
        scorer.heads["value"].bias.fill_(0.3)
    (tmp_path / "rm").mkdir()
    scorer.export(tmp_path / "rm")
    critic = LocalModel(tmp_path / "rm", EXACT, seed=2, heads={"value": Head(spread=1.0), "other": Head(spread=1.0)})
    longer = data()
    longer = replace(
        longer,
        tokens=torch.cat([longer.tokens, torch.zeros(len(longer), 1, dtype=torch.long)], 1),
        lengths=longer.lengths + 1,
    )
    values, scores = critic.forward(longer).heads["value"], scorer.forward(data()).heads["value"]
    for row, n in enumerate(LENGTHS):
        assert values[row, n].item() == pytest.approx(scores[row].item(), rel=1e-10)
    fresh = LocalModel(nano, EXACT, seed=2, heads={"value": Head(spread=1.0), "other": Head(spread=1.0)})
    assert not torch.equal(fresh.heads["value"].weight, critic.heads["value"].weight)
    assert torch.equal(fresh.heads["other"].weight, critic.heads["other"].weight), "a head of another name is new"


def test_a_head_begins_like_another_where_none_of_its_own_name_was_exported(nano: Path, tmp_path: Path) -> None:
    (tmp_path / "rm").mkdir()
    two = LocalModel(nano, EXACT, heads={"score": Head(spread=1.0), "value": Head(spread=1.0)})
    two.export(tmp_path / "rm")
    like = {"critic": Head(like="score"), "value": Head(like="score"), "new": Head(like="nobody")}
    found = LocalModel(tmp_path / "rm", EXACT, heads=like).heads
    assert torch.equal(found["critic"].weight, two.heads["score"].weight)
    assert torch.equal(found["value"].weight, two.heads["value"].weight), "its own name comes first"
    assert not bool(found["new"].weight.any())


def test_an_exported_head_of_another_size_is_refused(nano: Path, tmp_path: Path) -> None:
    (tmp_path / "rm").mkdir()
    LocalModel(nano, EXACT, heads={"value": Head(out=3, spread=1.0)}).export(tmp_path / "rm")
    with pytest.raises(InputError, match="another size"):
        LocalModel(tmp_path / "rm", EXACT, heads={"value": Head(spread=1.0)})


@pytest.mark.parametrize("adapter", [None, LoRA(rank=4, layers=1)], ids=["full", "lora"])
def test_an_outline_counts_what_the_model_has(nano: Path, adapter: LoRA | None) -> None:
    engine = Engine(dtype="float32", device="cpu", adapter=adapter)
    found, model = outline(nano, engine), LocalModel(nano, engine)
    assert found.parameter_counts() == model.parameter_counts()
    assert found.adapted.keys() == model.adapted.keys() and found.context == model.context
    assert found.head_weight.shape == model.head_weight.shape
    assert all(w.is_meta for w in (*found.network.state_dict().values(), *(a.weight for a in found.adapted.values())))
