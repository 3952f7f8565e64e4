"""The loop over fixed data."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path

import pytest

from burnish.core.losses import NLL
from burnish.data.chat import Chat
from burnish.engines.local import Engine, LocalModel
from burnish.engines.optim import Schedule
from burnish.errors import InputError
from burnish.loops.fit import FitConfig, Job, encode_heldout, fit
from burnish.loops.fixed import encode_all
from burnish.run import Run
from burnish.stage import Stage
from burnish.types import Example
from burnish.view import View


@dataclass(frozen=True)
class Rows:
    """Questions with one-word answers; every conversation ends with the assistant."""

    count: int = 4
    answer: str = "yes"

    def __len__(self) -> int:
        return self.count

    def __getitem__(self, index: int) -> Example:
        question = {"role": "user", "content": f"is it {index}?"}
        return Example((question, {"role": "assistant", "content": self.answer}))


CONFIG = FitConfig(
    steps=30, batch=4, schedule=Schedule(lr=3e-3, warmup=2), engine=Engine(dtype="float32", device="cpu"), eval_every=10
)


@pytest.fixture
def run(tmp_path: Path) -> Iterator[Run]:
    with Run.open(tmp_path / "run", recipe="t", scale="tiny", config=CONFIG, seed=0, view=View(quiet=True)) as run:
        yield run


def losses(run: Run, name: str = "loss") -> list[float]:
    lines = (run.directory / "s" / "metrics.jsonl").read_text().splitlines()
    return [m[name] for line in lines if name in (m := json.loads(line))]


def test_overfits_one_batch_to_nearly_zero(run: Run, nano: Path) -> None:
    run.stage(fit, "s", nano, Rows(), cfg=CONFIG)
    assert losses(run)[0] > 3
    assert losses(run)[-1] < 0.05


def test_held_out_loss_is_reported(run: Run, nano: Path) -> None:
    run.stage(fit, "s", nano, Rows(), cfg=CONFIG, heldout=Rows(2, "no"))
    assert len(losses(run, "eval/loss")) == 3
    assert losses(run, "eval/loss")[-1] > 1  # it has only ever seen "yes"


def test_epochs_count_passes_over_the_data(run: Run, nano: Path) -> None:
    run.stage(fit, "s", nano, Rows(12), cfg=replace(CONFIG, steps=0, epochs=2))
    assert len(losses(run)) == 6


def test_the_model_trains_on_the_answer_only(nano: Path) -> None:
    chat = Chat.load(nano)
    ((row,), *_) = encode_all(chat, Rows(1), 100, drop_long=False)
    assert chat.decode([t for t, m in zip(row.tokens, row.mask, strict=True) if m], special=True) == "yes<|end|>"


def test_long_rows_are_an_error_that_names_them_and_the_fix(nano: Path) -> None:
    with pytest.raises(InputError, match=r"1 of 1 rows are longer than 10 tokens \(row 1: .*drop_long=true"):
        encode_all(Chat.load(nano), Rows(1), 10, drop_long=False)
    with pytest.raises(InputError, match="no row to train on"):
        encode_all(Chat.load(nano), Rows(1), 10, drop_long=True)


def test_plain_texts_are_trained_in_windows(run: Run, nano: Path) -> None:
    texts = ["Once there was a number. " * 3, "It grew."]
    cfg = replace(CONFIG, max_length=16)
    run.stage(fit, "s", nano, texts, cfg=cfg, heldout=texts)
    assert losses(run)[-1] < losses(run)[0] - 1
    tokens = len(Chat.load(nano).tokenizer(texts[0])["input_ids"])
    rows = encode_all(Chat.load(nano), texts[:1], 16, drop_long=False)
    assert sum(len(row.tokens) for unit in rows for row in unit) == tokens, "all but the first, and the end of text"


def test_noise_of_a_step_follows_from_the_seed_and_the_step(nano: Path, tmp_path: Path) -> None:
    cfg = replace(CONFIG, steps=4, engine=replace(CONFIG.engine, neftune=5.0))
    found = []
    for name, seed in (("a", 0), ("b", 0), ("c", 1)):
        with Run.open(tmp_path / name, config=cfg, seed=seed, view=View(quiet=True)) as run:
            run.stage(fit, "s", nano, Rows(4), cfg=cfg)  # one batch: the order of the rows is all a seed changes else
            found.append(losses(run))
    assert found[0] == found[1] and abs(found[0][0] - found[2][0]) > 1e-5
    job = Job.of(_stage(tmp_path), nano, Rows(4), cfg, NLL(), None, None)
    seeds = [job.batch(step).extra("noise") for step in (0, 0, 1)]
    assert seeds[0].equal(seeds[1]) and not seeds[0].equal(seeds[2]) and len(set(seeds[0].tolist())) == 4


def _stage(tmp_path: Path) -> Stage:
    return Stage(tmp_path / "stage", seed=0, view=View(quiet=True), sinks=())


def test_only_the_last_message_is_measured_where_only_it_is_trained(nano: Path) -> None:
    @dataclass(frozen=True)
    class Two:
        def __len__(self) -> int:
            return 1

        def __getitem__(self, index: int) -> Example:
            said = [{"role": role, "content": "a"} for role in ("user", "assistant") * 2]
            return Example(tuple(said))  # type: ignore[arg-type]

    policy = LocalModel(nano, CONFIG.engine)
    both, last = (encode_heldout(policy, Two(), replace(CONFIG, last_only=only)) for only in (False, True))
    assert sum(both[0][0].mask) == 2 * sum(last[0][0].mask)
