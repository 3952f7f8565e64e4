"""The local engine: one network in this process, on CPU or one GPU, behind the verbs of :class:`burnish.types.Model`."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor, nn
from transformers import AutoConfig, AutoModelForCausalLM

from burnish import files
from burnish.core import keys
from burnish.core.logprobs import logprobs_at, token_logprobs
from burnish.data.batching import micro_batches
from burnish.data.chat import Chat

# Importing online_merging makes its optimizers choices, importing table its model type known.
from burnish.engines import attention, lora, neftune, online_merging, optim, table  # noqa: F401
from burnish.engines.lora import LoRA
from burnish.engines.optim import AdamW, Optimizer
from burnish.engines.teacher import check_teacher, compare
from burnish.errors import InputError
from burnish.types import Batch, Head, Loss, Metrics, Needs, Outputs, add_metrics, needs_of

HEADS = "heads.safetensors"
EVERYTHING = Needs()
DTYPES = {"float32": torch.float32, "bfloat16": torch.bfloat16, "float64": torch.float64}


@dataclass(frozen=True)
class Engine:
    """How a model is held and trained. ``dtype`` "auto" takes bfloat16 where its products are faster than float32 ones.

    ``adapter`` None trains all weights. ``token_budget`` bounds the tokens of one micro-batch (a shared prompt counts
    once). ``activation_checkpointing`` recomputes each layer in the backward pass: less memory, a third more work.
    ``neftune`` is the size of the noise on the embeddings in training passes (NEFTune's alpha; 5 is usual), 0 for none.
    """

    adapter: LoRA | None = None
    optimizer: Optimizer = field(default_factory=AdamW)
    dtype: str = "auto"
    device: str = "auto"
    token_budget: int = 8192
    activation_checkpointing: bool = False
    neftune: float = 0.0

    def __post_init__(self) -> None:
        if self.dtype not in ("auto", *DTYPES):
            raise ValueError(f"dtype must be auto, {', '.join(DTYPES)}, not '{self.dtype}'")
        self.optimizer.check(adapter=self.adapter is not None)
        if not 0 <= self.neftune < float("inf"):
            raise ValueError(f"neftune is 0 or the positive size of a noise, not {self.neftune}")

    def best_device(self) -> str:
        """The device, "auto" being the GPU if there is one."""
        return self.device if self.device != "auto" else ("cuda" if torch.cuda.is_available() else "cpu")

    def resolved(self) -> Engine:
        """With "auto" replaced by what this machine is best at. Reads a clock, so the answer is stored with the run."""
        device = self.best_device()
        return replace(self, device=device, dtype=fastest_dtype(device) if self.dtype == "auto" else self.dtype)


def fastest_dtype(device: str) -> str:
    """ "bfloat16" where a product of the size of a small model's is at least 1.2 times as fast as in float32."""
    if device != "cpu":
        return "bfloat16"

    def seconds(dtype: torch.dtype) -> float:
        x, w = torch.ones(256, 576, dtype=dtype), torch.ones(1536, 576, dtype=dtype)
        best = float("inf")
        for _ in range(8):
            start = time.perf_counter()
            x @ w.T
            best = min(best, time.perf_counter() - start)
        return best

    return "bfloat16" if seconds(torch.bfloat16) * 1.2 < seconds(torch.float32) else "float32"


def load_network(directory: Path, dtype: str, device: str) -> nn.Module:
    """The causal language model of a Hugging Face directory, with this engine's attention and no dropout."""
    try:
        return _load_network(directory, dtype, device)
    except InputError:
        raise
    except (OSError, ValueError, SafetensorError) as error:
        raise InputError(
            f"{directory} holds no usable model ({error}): it needs config.json and model.safetensors"
        ) from error


def outline(directory: Path, engine: Engine) -> Outline:
    """The model that ``config.json`` in ``directory`` describes, without weights: nothing else is read.

    Raises InputError where there is no such file, or transformers cannot use it.
    """
    try:
        config = AutoConfig.from_pretrained(directory, local_files_only=True)
        with torch.device("meta"):
            network: nn.Module = AutoModelForCausalLM.from_config(
                config, dtype=DTYPES[engine.dtype], attn_implementation=attention.NAME
            )
    except (OSError, ValueError, KeyError) as error:
        raise InputError(
            f"{directory / 'config.json'} describes no model that transformers can build ({error})"
        ) from error
    return Outline(engine, network, lora.adapt(network, engine.adapter, torch.Generator()) if engine.adapter else {})


def _load_network(directory: Path, dtype: str, device: str) -> nn.Module:
    config = AutoConfig.from_pretrained(directory, local_files_only=True)
    for name in ("attention_dropout", "resid_pdrop", "embd_pdrop", "attn_pdrop", "hidden_dropout"):
        if getattr(config, name, 0):
            setattr(config, name, 0.0)
    if getattr(config, "final_logit_softcapping", None):
        raise InputError(f"{directory}: models with soft-capped logits are not supported by the local engine")
    network: nn.Module = AutoModelForCausalLM.from_pretrained(
        directory, config=config, dtype=DTYPES[dtype], attn_implementation=attention.NAME, local_files_only=True
    )
    if dtype == "float64":
        _exact_norms(network)
    return network.to(device).eval()


def _exact_norms(network: nn.Module) -> None:
    """Transformers computes RMS norms in float32 whatever the input; in float64 runs that rounding would hide errors.

    A norm that is not the plain one (Gemma's adds 1 to its weight) is left as it is.
    """
    for module in list(network.modules()):
        for name, child in module.named_children():
            if type(child).__name__.endswith("RMSNorm") and isinstance(child.weight, nn.Parameter):
                size = child.weight.shape[0]
                exact = nn.RMSNorm(size, eps=float(getattr(child, "variance_epsilon", 1e-6)), dtype=torch.float64)
                exact.weight = child.weight
                probe = torch.linspace(-1, 1, size, dtype=torch.float64)
                if torch.allclose(child(probe), exact(probe), atol=1e-5):
                    setattr(module, name, exact)


class Outline:
    """The names and shapes of a model with its adapter in place. That is enough for a plan: weights need not be there."""

    def __init__(self, engine: Engine, network: nn.Module, adapted: dict[str, lora.LoRALinear]) -> None:
        self.engine, self.network, self.adapted = engine, network, adapted
        self._live = {n: p for n, p in network.named_parameters() if p.requires_grad}

    @property
    def hidden_size(self) -> int:
        return int(self.head_weight.shape[1])

    @property
    def head_weight(self) -> Tensor:
        return self.network.get_output_embeddings().weight  # type: ignore[operator, no-any-return]

    @property
    def context(self) -> int:
        """The most tokens a prompt and its completion may have together."""
        return int(getattr(self.network.config, "max_position_embeddings", 2**31))

    def parameter_counts(self) -> tuple[int, int]:
        """(trained, total) numbers of parameters; an adapter's own are not part of the total."""
        trained = sum(p.numel() for p in self._live.values())
        total = sum(p.numel() for n, p in self.network.named_parameters() if "lora_" not in n)
        return trained, total + sum(layer.weight.numel() for layer in self.adapted.values())


class LocalModel(Outline):
    """Policy, critic, reference or reward model: a network, its chat template, its adapter, its optimizer.

    Raises InputError where the directory is no usable model. Construction reads the directory; nothing is written.
    """

    def __init__(
        self, directory: Path, engine: Engine, *, seed: int = 0, heads: Mapping[str, Head] | None = None
    ) -> None:
        self.directory, self.chat = directory, Chat.load(directory)
        self.device = torch.device(engine.device)
        self.teacher: LocalModel | None = None
        network = load_network(directory, engine.dtype, engine.device)
        generator = torch.Generator().manual_seed(keys.derive(seed, "adapter") % 2**63)
        super().__init__(engine, network, lora.adapt(network, engine.adapter, generator) if engine.adapter else {})
        self.heads = {name: self._head(name, head, generator) for name, head in (heads or {}).items()}
        self._at = {name: head.at for name, head in (heads or {}).items()}
        if engine.activation_checkpointing:
            whole: Any = network  # transformers renamed the method in 5.23
            enable = getattr(whole, "activation_checkpointing_enable", None) or whole.gradient_checkpointing_enable
            enable({"use_reentrant": False})
            network.train()
        self._live |= {f"heads.{n}.{k}": p for n, head in self.heads.items() for k, p in head.named_parameters()}

    @cached_property
    def masters(self) -> optim.Masters:
        """What the optimizer updates. Made when training begins: a model that only samples or scores needs none."""
        return optim.Masters(self._live)

    @cached_property
    def optimizer(self) -> torch.optim.Optimizer:
        return self.engine.optimizer.build(self.masters.params)

    def _head(self, name: str, head: Head, generator: torch.Generator) -> nn.Linear:
        precise = torch.promote_types(DTYPES[self.engine.dtype], torch.float32)
        linear = nn.Linear(self.hidden_size, head.out, dtype=precise)
        with torch.no_grad():
            linear.weight.normal_(0, head.spread * (self.hidden_size + 1) ** -0.5, generator=generator)
            linear.bias.zero_()
        self._fill(linear, name, head)
        return linear.to(self.device)

    def _fill(self, linear: nn.Linear, name: str, head: Head) -> None:
        """Take over a head that was exported with the model, of this name or the one that it is to begin like."""
        path = self.directory / HEADS
        saved = load_file(path) if path.exists() else {}
        name = name if f"{name}.weight" in saved else head.like
        if f"{name}.weight" not in saved:
            return
        if saved[f"{name}.weight"].shape != linear.weight.shape:
            raise InputError(f"{path} has a head '{name}' of another size; remove the file to start with a new head")
        with torch.no_grad():
            linear.weight.copy_(saved[f"{name}.weight"])
            linear.bias.copy_(saved[f"{name}.bias"])

    def learn_from(self, teacher: LocalModel) -> None:
        """Compare with this teacher in losses that need a divergence. Raises InputError unless both share a vocabulary."""
        check_teacher(self, teacher)
        self.teacher = teacher

    def hidden(self, tokens: Tensor, positions: Tensor, plan: attention.Plan, noise: Tensor | None = None) -> Tensor:
        """[rows, S] token ids -> [rows, S, D] final hidden states. ``noise`` [rows, S, D] is added to the embeddings."""
        tokens = tokens.to(self.device)
        source = {"input_ids": tokens}
        if noise is not None:
            source = {"inputs_embeds": neftune.embedding(self.network)(tokens) + noise.to(self.device)}
        decoder = self.network.get_decoder()  # type: ignore[operator]
        out: Tensor = decoder(
            **source, position_ids=positions.to(self.device), use_cache=False, plan=plan
        ).last_hidden_state
        return out

    def outputs(self, batch: Batch, needs: Needs = EVERYTHING, *, noisy: bool = False) -> Outputs:
        """Log-probs, entropy and heads of every completion token, in one packed pass. Differentiable where enabled.

        Where the batch has ``kept_ids``, a token's distribution is the one over its kept ids, whichever model this is: a
        reference that sees the batch is truncated to the policy's sets, so that ratios and KLs compare like with like. The
        same goes for ``suppressed`` ids, which no distribution is over.
        ``noisy`` adds the engine's noise to the embeddings.
        """
        packed = attention.Packed.rows_of(batch, apart=noisy)
        noise = None
        if noisy:
            width, dtype = self.hidden_size, self.head_weight.dtype
            noise = neftune.noise(batch, packed.rows, width, self.engine.neftune, dtype)[None]
        hidden = self.hidden(packed.tokens[None], packed.positions[None], packed, noise)[0]
        states = hidden.index_select(0, packed.predictors.to(self.device))

        def rows(values: Tensor) -> Tensor:
            return packed.unflat(values, batch.tokens.shape[1])

        logprobs, entropy = self._scored(states, batch, needs, packed)
        at_ids = divergence = None
        if needs.at_ids:
            ids = packed.flat(batch.extra("ids")).to(self.device)
            at_ids = rows(logprobs_at(states, self.head_weight, ids, batch.temperature))
        if needs.divergence is not None:
            found = compare(self, self.teacher, states, packed, needs.divergence, batch.temperature, batch.suppressed)
            divergence = rows(found)
        heads = {name: self._read(name, hidden, states, packed, batch) for name in self.heads}
        return Outputs(rows(logprobs), rows(entropy), heads, at_ids, divergence)

    def _scored(self, states: Tensor, batch: Batch, needs: Needs, packed: attention.Packed) -> tuple[Tensor, Tensor]:
        """[N] log-probs of the completion tokens and entropies, NaN where the loss needs none."""
        _, kept = batch.extras.get("kept_ids", ("token", None))
        if kept is not None and (needs.at_ids or needs.divergence is not None):
            raise InputError(
                "distillation compares whole distributions, but these rows are trained under a truncated one: "
                "sample with truncation=full"
            )
        if batch.suppressed and needs.at_ids:
            raise InputError(
                "what was stored of the teacher is over all tokens, but these rows are trained without some: sample without "
                "suppress, or let the teacher read along"
            )
        if not needs.logprobs:
            nothing = states.new_full((len(states),), torch.nan, dtype=torch.float32)
            return nothing, nothing
        targets = packed.flat(batch.tokens).to(self.device)
        kept = None if kept is None else packed.flat(kept).to(self.device)
        return token_logprobs(states, self.head_weight, targets, batch.temperature, kept, batch.suppressed)

    def _read(self, name: str, hidden: Tensor, states: Tensor, packed: attention.Packed, batch: Batch) -> Tensor:
        """What a head says in front of every token, behind every token, or behind the last one."""
        head, at = self.heads[name], self._at[name]
        behind = {"steps": packed.places, "last": packed.ends}
        read = states if at == "tokens" else hidden.index_select(0, behind[at].to(self.device))
        value: Tensor = head(read.to(head.weight.dtype))
        value = value.squeeze(-1) if head.out_features == 1 else value
        if at == "last":
            return value.index_select(0, torch.argsort(torch.tensor(packed.rows)).to(self.device))
        return packed.unflat(value, batch.tokens.shape[1])

    @torch.no_grad()
    def forward(self, batch: Batch, needs: Needs = EVERYTHING) -> Outputs:
        """Outputs of the whole batch without a gradient, on the CPU, micro-batch by micro-batch."""
        parts, order = [], list[int]()
        for index in micro_batches(batch, self.engine.token_budget):
            parts.append(_cpu(self.outputs(batch.select(index), needs)))
            order += index
        return _reorder(parts, order)

    def forward_backward(self, batch: Batch, loss: Loss) -> tuple[Metrics, Outputs]:
        """Add the gradient of ``loss`` to what has been accumulated. Any number of calls, batches and losses.

        Returns the additive metrics and what was computed (detached, on the CPU), rows in the order of the batch.
        """
        _ = self.masters  # made before the first backward pass: they collect its gradient
        metrics: Metrics = {}
        parts, order = [], list[int]()
        noisy = self.engine.neftune > 0
        for index in micro_batches(batch, self.engine.token_budget, apart=noisy):
            micro = batch.select(index)
            outputs = self.outputs(micro, needs_of(loss), noisy=noisy)
            value, found = loss(outputs, micro.to(self.device))
            value.backward()
            metrics = add_metrics(metrics, found)
            parts.append(_cpu(outputs))
            order += index
        return metrics, _reorder(parts, order)

    def optim_step(self, lr: float) -> Metrics:
        """Clip, update, publish the new weights, zero the gradient. A non-finite gradient changes nothing."""
        metrics = optim.step(self.optimizer, self.masters, lr, self.engine.optimizer.clip)
        if not metrics["grad/skipped"][0]:
            for layer in self.adapted.values():
                layer.merge()
        return metrics

    def discard_gradient(self) -> None:
        """Forget what has been accumulated since the last step (an interrupted step starts again)."""
        self.masters.zero()

    @contextmanager
    def base_weights(self) -> Iterator[None]:
        """Within: the adapters are off, and this is the model before training. Only for models with adapters."""
        for layer in self.adapted.values():
            layer.plain = True
        try:
            yield
        finally:
            for layer in self.adapted.values():
                layer.plain = False

    def weights(self) -> Mapping[str, Tensor]:
        """Live weights by their names in the model directory, adapters merged. Not copies."""
        own = {name: p.detach() for name, p in self.network.named_parameters() if "lora_" not in name}
        return own | {f"{name}.weight": layer.weight for name, layer in self.adapted.items()}

    def state_bytes(self) -> int:
        """The size of a checkpoint: masters and what the optimizer remembers."""
        masters = sum(p.numel() * p.element_size() for p in self.masters.params.values())
        return (1 + self.engine.optimizer.slots) * masters

    def checkpoint(self, directory: Path) -> None:
        """Masters and optimizer state; the base weights stay where they are and are not copied."""
        state = optim.state_tensors(self.optimizer, self.masters)
        files.write_safetensors(directory / "masters.safetensors", _portable(self.masters.params))
        files.write_safetensors(directory / "optimizer.safetensors", _portable(state))

    def restore(self, directory: Path) -> None:
        """The exact state of :meth:`checkpoint`, copied into this model's own storage."""
        saved = load_file(directory / "masters.safetensors")
        if {n: t.shape for n, t in saved.items()} != {n: p.shape for n, p in self.masters.params.items()}:
            raise InputError(f"{directory} was written by another model or adapter; start the stage again without it")
        with torch.no_grad():
            for name, value in saved.items():
                self.masters.params[name].copy_(value)
        self.masters.publish()
        self.masters.zero()
        for layer in self.adapted.values():
            layer.merge()
        self.optimizer.state.clear()
        optim.load_state_tensors(self.optimizer, self.masters, load_file(directory / "optimizer.safetensors"))

    def export(self, directory: Path) -> None:
        """A Hugging Face directory: merged weights, tokenizer, template; with LoRA also ``adapter/`` in peft's format.

        Heads beside the language model's are in ``heads.safetensors``, from where a model with a head of that name begins.
        """
        tied = set(getattr(self.network, "_tied_weights_keys", None) or ())
        config: Any = self.network.config
        drop = tied if getattr(config, "tie_word_embeddings", False) else set()
        tensors = _portable({n: w for n, w in self.weights().items() if n not in drop})
        files.write_safetensors(directory / "model.safetensors", tensors, {"format": "pt"})
        config.save_pretrained(directory)
        self.network.generation_config.save_pretrained(directory)  # type: ignore[operator, union-attr]
        self.chat.tokenizer.save_pretrained(directory)
        if self.heads:
            heads = {f"{n}.{k}": p for n, head in self.heads.items() for k, p in head.named_parameters()}
            files.write_safetensors(directory / HEADS, _portable(heads))
        if self.engine.adapter:
            adapter, settings = lora.peft_adapter(self.adapted, self.engine.adapter, str(self.directory))
            folder = files.make_directory(directory / "adapter")
            files.write_safetensors(folder / "adapter_model.safetensors", adapter, {"format": "pt"})
            files.write_json(folder / "adapter_config.json", settings)


def _portable(tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    return {name: tensor.detach().cpu().contiguous() for name, tensor in tensors.items()}


def _cpu(outputs: Outputs) -> Outputs:
    return _each(lambda values: values[0].detach().cpu(), [outputs])


def _reorder(parts: list[Outputs], order: list[int]) -> Outputs:
    back = torch.argsort(torch.tensor(order))
    return _each(lambda values: torch.cat(values)[back], parts)


def _each(join: Callable[[list[Tensor]], Tensor], parts: list[Outputs]) -> Outputs:
    """Field by field what ``join`` makes of the parts, all of which have the same ones."""

    def optional(values: list[Tensor | None]) -> Tensor | None:
        there = [value for value in values if value is not None]
        return join(there) if there else None

    return Outputs(
        join([part.logprobs for part in parts]),
        join([part.entropy for part in parts]),
        {name: join([part.heads[name] for part in parts]) for name in parts[0].heads},
        optional([part.at_ids for part in parts]),
        optional([part.divergence for part in parts]),
    )
