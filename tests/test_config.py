"""Configuration: what is accepted, what is refused, and how the refusal reads."""

from __future__ import annotations

import json
import sys
from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import dataclass, field
from enum import Enum
from pathlib import Path
from typing import Literal

import pytest
import yaml

from burnish import config
from burnish import names as registry
from burnish.errors import InputError, unknown


class Level(Enum):
    TOKEN = "token"
    SEQUENCE = "sequence"


@dataclass(frozen=True)
class KL:
    coef: float = 0.04
    level: Level = Level.TOKEN


@dataclass(frozen=True)
class Clip:
    low: float = 0.2
    high: float = 0.2

    def __post_init__(self) -> None:
        if self.low > self.high:
            raise ValueError(f"low {self.low} is above high {self.high}")


@dataclass(frozen=True)
class Plain:
    scale: float = 1.0


@dataclass(frozen=True)
class Algorithm:
    surrogate: Clip | Plain = Clip()
    kl: KL | None = None


GRPO = Algorithm(kl=KL())
DR_GRPO = Algorithm(Clip(0.2, 0.28))


@dataclass(frozen=True)
class Loop:
    steps: int = 40
    lr: float = 1e-5
    algo: Algorithm = GRPO
    warm: bool = False
    mode: Literal["auto", "fp32"] = "auto"


def score(completion: str) -> float:
    return float(len(completion))


@dataclass(frozen=True)
class Part:
    name: str
    weight: float = 1.0


@dataclass(frozen=True)
class Config:
    model: str = "nano"
    data: Path | None = None
    stop: tuple[str, ...] = ()
    parts: tuple[Part, ...] = ()
    limit: float | str = "none"
    reward: Callable[[str], float] = score
    extra: dict[str, float] = field(default_factory=dict)
    rl: Loop = Loop()


def _by_name(name: str) -> Algorithm:
    table = {"grpo": GRPO, "dr_grpo": DR_GRPO}
    if name not in table:
        raise unknown("algorithm", name, table)
    return table[name]


@pytest.fixture
def names(monkeypatch):
    monkeypatch.setattr(registry, "NAMED", table := {})
    monkeypatch.setattr(config, "NAMED", table)
    registry.named(Algorithm, _by_name)


@pytest.mark.parametrize(
    ("override", "get", "expected"),
    [
        ("rl.steps=3", lambda c: c.rl.steps, 3),
        ("rl.lr=1e-4", lambda c: c.rl.lr, 1e-4),
        ("limit=1e-4", lambda c: c.limit, 1e-4),
        ("rl.warm=true", lambda c: c.rl.warm, True),
        ("rl.mode=fp32", lambda c: c.rl.mode, "fp32"),
        ("model=2024", lambda c: c.model, "2024"),
        ("model=no", lambda c: c.model, "no"),
        ("model=[draft", lambda c: c.model, "[draft"),
        ("model=a=b", lambda c: c.model, "a=b"),
        ("data=my/data.jsonl", lambda c: c.data, Path("my/data.jsonl")),
        ("data=null", lambda c: c.data, None),
        ("stop=[a, b]", lambda c: c.stop, ("a", "b")),
        ("extra={a: 1}", lambda c: c.extra, {"a": 1.0}),
        ("parts=[{name: format, weight: 0.1}]", lambda c: c.parts, (Part("format", 0.1),)),
        ("rl.algo.surrogate.high=.3", lambda c: c.rl.algo.surrogate, Clip(0.2, 0.3)),
        ("rl.algo.surrogate=Plain", lambda c: c.rl.algo.surrogate, Plain()),
        ("rl.algo.surrogate={kind: Plain, scale: 2}", lambda c: c.rl.algo.surrogate, Plain(2.0)),
        ("rl.algo.kl.level=sequence", lambda c: c.rl.algo.kl, KL(0.04, Level.SEQUENCE)),
        ("rl.algo.kl=null", lambda c: c.rl.algo.kl, None),
        ("rl.algo=dr_grpo", lambda c: c.rl.algo, DR_GRPO),
    ],
)
@pytest.mark.usefixtures("names")
def test_override(override, get, expected):
    got = get(config.apply(Config(), [override]))
    assert got == expected
    assert type(got) is type(expected)


def test_a_field_cannot_have_the_name_of_the_class_in_records():
    @dataclass(frozen=True)
    class Own:
        kind: str = "mine"

    with pytest.raises(InputError, match="Own has a field 'kind': rename it"):
        config.plain(Own())


@pytest.mark.usefixtures("names")
def test_the_last_override_wins_and_parts_follow_the_whole():
    changed = config.apply(Config(), ["rl.steps=1", "rl.algo=dr_grpo", "rl.algo.kl.coef=0.1", "rl.steps=2"])
    assert changed.rl.steps == 2
    assert changed.rl.algo == Algorithm(Clip(0.2, 0.28), KL(0.1))
    assert config.apply(Config(), ["rl.algo.kl.coef=0.1", "rl.algo=dr_grpo"]).rl.algo == DR_GRPO


def test_checks_see_only_the_final_values():
    changed = config.apply(Config(), ["rl.algo.surrogate.low=0.5", "rl.algo.surrogate.high=0.6"])
    assert changed.rl.algo.surrogate == Clip(0.5, 0.6)


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("rl.step=3", r"unknown key 'rl.step'. Did you mean 'rl.steps'\? Keys of 'rl': steps, lr"),
        ("rl.low=3", r"unknown key 'rl.low'. Did you mean 'rl.algo.surrogate.low'\?"),
        ("lr=3", r"unknown key 'lr'. Did you mean 'rl.lr'\?"),
        ("rl.algo.surrogate.hihg=1", r"Did you mean 'rl.algo.surrogate.high'\?"),
        ("rl.algo.surrogate.scale=1", "unknown key"),  # of the other class of the union
        ("parts=[{nam: x}]", r"unknown key 'parts\[0\].nam'"),
        ("parts=[{weight: 1}]", r"parts\[0\].name is missing: Part needs name"),
        ("rl.wram=1", r"Did you mean 'rl.warm'\? Keys"),  # here, before anything elsewhere
        ("rl.algo.kl=KI", r"rl.algo.kl=KI: expected KL \| None, got str. Did you mean 'KL'\?"),
        ("rl.lr=nan", "rl.lr is not a number: give one"),
        ("limit=.nan", "limit is not a number"),
        ("rl.steps=many", "rl.steps=many: expected int, got str .*valid integer"),
        ("rl.steps=1.5", "rl.steps=1.5: expected int, got float"),
        ("rl.steps=yes", "rl.steps=yes: expected int, got bool"),
        ("rl.mode=fp16", r"rl.mode=fp16: expected Literal\['auto', 'fp32'\]"),
        ("rl.algo.surrogate=3", r"rl.algo.surrogate=3: expected Clip \| Plain"),
        ("rl.algo.surrogate={kind: Soft}", "rl.algo.surrogate.kind must be one of Clip, Plain, not 'Soft'"),
        ("stop=x", r"stop=x: expected tuple\[str, ...\]"),
        ("rl.steps.x=1", "rl.steps.x cannot be set: rl.steps is 40"),
        ("rl.algo=grpoo", r"rl.algo: unknown algorithm 'grpoo'. Did you mean 'grpo'\?"),
        ("rl.algo.surrogate.low=9", "rl.algo.surrogate.low: low 9.0 is above high 0.2"),
        ("reward=len", "reward=len: expected Callable"),
        ("steps", "'steps' is not an override"),
        ("=3", "'=3' is not an override"),
        ("rl..steps=3", "is not an override"),
    ],
)
@pytest.mark.usefixtures("names")
def test_refusals_name_key_value_and_fix(override, message):
    with pytest.raises(InputError, match=message):
        config.apply(Config(), [override])


@pytest.mark.usefixtures("names")
def test_yaml_changes_what_it_names(tmp_path):
    path = tmp_path / "c.yaml"
    path.write_text("model: smollm2-135m\nrl:\n  lr: 1e-4\n  algo: {surrogate: {high: 0.3}}\n")
    changed = config.from_yaml(Config(), path)
    assert changed == Config(model="smollm2-135m", rl=Loop(lr=1e-4, algo=Algorithm(Clip(0.2, 0.3), KL())))
    path.write_text("")
    assert config.from_yaml(Config(), path) == Config()


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("a: [", "not valid YAML.*line"),
        ("- 1", "holds a list"),
        ("rl: {stepz: 1}", "'rl.steps'"),
        (None, "cannot read"),
    ],
)
def test_bad_yaml(tmp_path, text, message):
    path = tmp_path / "c.yaml"
    if text is not None:
        path.write_text(text)
    with pytest.raises(InputError, match=f"(?s){message}"):
        config.from_yaml(Config(), path)


def test_plain_is_json_and_reads_back(tmp_path):
    settings = Config(
        data=Path("d"),
        stop=("x",),
        parts=(Part("a"),),
        extra={"cap": float("inf")},
        rl=Loop(algo=Algorithm(Plain(3.0))),
    )
    recorded = config.plain(settings)
    json.dumps(recorded, allow_nan=False)
    assert recorded["kind"] == "Config"
    assert recorded["rl"]["algo"]["surrogate"] == {"kind": "Plain", "scale": 3.0}
    assert recorded.pop("reward") == f"{__name__}:score"
    (tmp_path / "c.yaml").write_text(yaml.safe_dump(recorded))
    assert config.from_yaml(Config(), tmp_path / "c.yaml") == settings


@pytest.mark.parametrize("value", [lambda _: 0.0, object()])
def test_plain_refuses_what_cannot_be_recorded(value):
    with pytest.raises(InputError, match=r"config.reward is a .*cannot be recorded"):
        config.plain(Config(reward=value))


def test_describe_names_every_setting():
    rows = dict(config.describe(Config()))
    assert rows["rl.algo.surrogate"] == "Clip"
    assert rows["rl.algo.surrogate.low"] == 0.2
    assert rows["rl.steps"] == 40
    assert list(rows)[:2] == ["model", "data"]


@pytest.mark.usefixtures("names")
def test_schema_says_what_is_accepted():
    schema = config.schema(Config)
    loop = schema["properties"]["rl"]
    assert loop["additionalProperties"] is False
    assert loop["properties"]["steps"]["type"] == "integer"
    algo = loop["properties"]["algo"]["anyOf"]
    assert algo[0]["type"] == "string"
    assert [c["properties"]["kind"]["const"] for c in algo[1]["properties"]["surrogate"]["anyOf"]] == ["Clip", "Plain"]
    assert schema["properties"]["parts"]["items"]["required"] == ["name"]
    json.dumps(schema)


# --- abstract classes and functions by name ------------------------------------------------------


class Shape(ABC):
    @abstractmethod
    def area(self) -> float: ...


@dataclass(frozen=True)
class Square(Shape):
    side: float = 1.0

    def area(self) -> float:
        return self.side**2


@dataclass(frozen=True)
class Oblong(Square):
    other: float = 2.0


@dataclass(frozen=True)
class Twice(Shape):
    """Holds another of its own kind, so the schema of the kind holds itself."""

    inner: Shape

    def area(self) -> float:
        return 2 * self.inner.area()


Measure = Callable[[str, int], float]


def long(text: str, most: int) -> float:
    return float(len(text) > most)


def share(text: str, most: int) -> float:
    return len(text) / most


def other(text: str) -> float:
    return float(len(text))


@dataclass(frozen=True)
class capped:  # noqa: N801 - a function with a setting
    at: float = 1.0

    def __call__(self, text: str, most: int) -> float:
        return min(self.at, len(text) / most)


@dataclass(frozen=True)
class Drawing:
    shape: Shape = Square()
    frame: Shape | None = None
    measure: Measure = long


@pytest.fixture
def measures(monkeypatch):
    monkeypatch.setattr(registry, "NAMED", table := {})
    monkeypatch.setattr(config, "NAMED", table)
    registry.functions(Measure, "measure", sys.modules[__name__])


@pytest.mark.parametrize(
    ("override", "expected"),
    [
        ("frame=Square", Drawing(frame=Square())),
        ("frame={kind: Square, side: 2}", Drawing(frame=Square(2.0))),
        ("shape={kind: Twice, inner: {kind: Twice, inner: Square}}", Drawing(Twice(Twice(Square())))),
        ("shape.side=3", Drawing(Square(3.0))),
        ("shape={side: 3}", Drawing(Square(3.0))),
        ("frame=Oblong", Drawing(frame=Oblong())),
        ("frame=none", Drawing()),
        ("measure=share", Drawing(measure=share)),
        ("measure=capped", Drawing(measure=capped())),
        ("measure={kind: capped, at: .5}", Drawing(measure=capped(0.5))),
        (f"measure={__name__}:share", Drawing(measure=share)),
    ],
)
@pytest.mark.usefixtures("measures")
def test_subclasses_and_functions_by_name(override, expected):
    assert config.apply(Drawing(), [override]) == expected


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("shape=square2", r"shape=square2: expected Shape \(Square, Twice, Oblong\), got str. Did you mean 'Square'\?"),
        (
            "shape={kind: Twise}",
            r"shape.kind must be one of Square, Twice, Oblong, not 'Twise'. Did you mean 'Twice'\?",
        ),
        ("shape=Twice", "shape.inner is missing: Twice needs inner"),
        ("frame.side=2", "set frame first to one of Square, Twice, Oblong"),
        ("measure=shar", r"unknown measure 'shar'. Did you mean 'share'\? Known: capped, long, share\."),
        ("measure=elsewhere:share", "unknown measure 'elsewhere:share'"),
        ("measure=3", r"measure=3: expected Callable.* \(.*long, share.*\), got int\."),
    ],
)
@pytest.mark.usefixtures("measures")
def test_refusals_of_subclasses_and_functions(override, message):
    with pytest.raises(InputError, match=message):
        config.apply(Drawing(), [override])


@pytest.mark.usefixtures("measures")
def test_the_schema_of_an_abstract_class_is_stated_once():
    schema = config.schema(Drawing)
    assert schema["properties"]["shape"] == {"$ref": "#/$defs/Shape"}
    bare, square, twice, _ = schema["$defs"]["Shape"]["anyOf"]
    assert bare == {"enum": ["Square", "Oblong"]}, "the bare name of Twice does not say what is inside"
    assert square["properties"]["kind"] == {"const": "Square"}
    assert twice["properties"]["inner"] == {"$ref": "#/$defs/Shape"} and twice["required"] == ["inner"]
    names = schema["properties"]["measure"]["anyOf"][0]["enum"]
    assert {"long", "share", "capped", f"{__name__}:long"} <= set(names) and "other" not in names
    json.dumps(schema)
