"""The mask covers exactly what the policy has to emit, and what a sampler is given is what training saw."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Sequence
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from rich.console import Console
from transformers import PreTrainedTokenizerFast

from burnish.data.chat import Chat
from burnish.errors import InputError
from burnish.types import Message

MakeChat = Callable[..., Chat]
QUIET = settings(deadline=None, max_examples=150)
CONTENT = st.text(st.sampled_from("ab \n\té日😀<|>/") | st.characters(codec="utf-8"), min_size=1, max_size=12)


def dialogue(*contents: str, system: str | None = None) -> list[Message]:
    opening: list[Message] = [] if system is None else [{"role": "system", "content": system}]
    return opening + [{"role": ("user", "assistant")[i % 2], "content": text} for i, text in enumerate(contents)]


def trained_spans(mask: Sequence[bool]) -> list[tuple[int, int]]:
    edges = [i for i in range(len(mask) + 1) if (i < len(mask) and mask[i]) != (i > 0 and mask[i - 1])]
    return list(zip(edges[::2], edges[1::2], strict=True))


@QUIET
@given(contents=st.lists(CONTENT, min_size=2, max_size=8), system=st.none() | CONTENT)
def test_mask_is_content_and_end_of_turn_and_prompts_are_prefixes(
    chat: Chat, contents: list[str], system: str | None
) -> None:
    messages = dialogue(*contents, system=system)
    tokens, mask = chat.encode_dialogue(messages)
    turns = [i for i, message in enumerate(messages) if message["role"] == "assistant"]
    spans = trained_spans(mask)
    assert len(mask) == len(tokens)
    assert len(spans) == len(turns)
    for turn, (start, end) in zip(turns, spans, strict=True):
        assert chat.decode(tokens[start:end], special=True) == messages[turn]["content"] + "<|im_end|>"
        assert tokens[end - 1] in chat.eos_ids
        assert chat.encode_prompt(messages[:turn]) == tokens[:start]
    rendered = chat.tokenizer.apply_chat_template(messages, tokenize=False)
    assert chat.decode(tokens, special=True) == rendered


def test_a_hand_written_case(chatml: Chat) -> None:
    tokens, mask = chatml.encode_dialogue(dialogue("Hi", "Yo", "And?", "Bye"))
    trained = [chatml.decode([t], special=True) for t, m in zip(tokens, mask, strict=True) if m]
    assert "".join(trained) == "Yo<|im_end|>Bye<|im_end|>"
    assert not mask[-1], "the newline after the last end-of-turn token is the template's"


def test_plain_text_is_tokenised_as_the_stock_template_does(chat: Chat) -> None:
    messages = dialogue("Hello there", "I am well.", "And you?", "Fine thanks.")
    stock = chat.tokenizer.apply_chat_template(messages, return_dict=False)
    assert list(chat.encode_dialogue(messages)[0]) == list(stock)


def test_a_merge_across_the_header_does_not_change_the_prompt(chatml: Chat) -> None:
    messages = dialogue("Hello", "\n\nFine", "And you?", "\n\n\nFine")
    stock = tuple(chatml.tokenizer.apply_chat_template(messages, return_dict=False))
    prompt = chatml.encode_prompt(messages[:1])
    assert stock[: len(prompt)] != prompt, "this tokenizer has to merge the newlines for the test to mean something"
    tokens, _ = chatml.encode_dialogue(messages)
    assert tokens[: len(prompt)] == prompt
    longer = chatml.encode_prompt(messages[:3])
    assert tokens[: len(longer)] == longer


def test_several_assistant_messages_in_a_row_are_all_trained(chatml: Chat) -> None:
    messages = [*dialogue("Hi", "Yo"), *dialogue("", "again")[1:]]
    _, mask = chatml.encode_dialogue(messages)
    assert len(trained_spans(mask)) == 2


THINK = (
    "{% for m in messages %}<|im_start|>{{ m['role'] }}\n"
    "{% if m['role'] == 'assistant' and not loop.last %}{{ m['content'].split('</think>')[-1] }}"
    "{% else %}{{ m['content'] }}{% endif %}<|im_end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)


def test_a_template_that_strips_old_reasoning_is_refused_with_the_first_differing_token(make_chat: MakeChat) -> None:
    chat = make_chat(THINK)
    messages = dialogue("Q", "<think>x</think>A", "Q2", "B")
    with pytest.raises(InputError) as caught:
        chat.encode_dialogue(messages)
    with pytest.raises(InputError):
        chat.encode_prompt(messages[:3])
    position = int(re.findall(r"token (\d+) is '<' first and 'A'", str(caught.value))[0])
    kept, _ = chat.encode_dialogue(messages[:2])
    assert position == len(chat.encode_prompt(messages[:1]))
    assert chat.decode(kept[position : position + 1]) == "<"
    assert "ssistant\\n', token" in str(caught.value), "the context is shown"


def test_the_self_check_finds_it_and_allows_it_on_single_turns(make_chat: MakeChat, chat: Chat) -> None:
    chat.check()
    make_chat(THINK).check(turns=1)
    with pytest.raises(InputError, match="rewrites earlier turns"):
        make_chat(THINK).check()


ALWAYS_STRIPS = THINK.replace("and not loop.last ", "")
NO_HEADER = "{% for m in messages %}<|im_start|>{{ m['role'] }}\n{{ m['content'] }}<|im_end|>\n{% endfor %}"
NO_END = "{% for m in messages %}{{ m['role'] }}: {{ m['content'] }}\n{% endfor %}"
REFUSES = "{% if messages[0]['role'] == 'system' %}{{ raise_exception('no system') }}{% endif %}"


@pytest.mark.parametrize(
    ("template", "message"),
    [
        (ALWAYS_STRIPS, "drops part of the assistant message"),
        (NO_HEADER, "ignores add_generation_prompt"),
        (NO_END, "does not close assistant turns"),
    ],
)
def test_templates_that_cannot_be_masked_are_refused(make_chat: MakeChat, template: str, message: str) -> None:
    with pytest.raises(InputError, match=message):
        make_chat(template).encode_dialogue(dialogue("Q", "<think>x</think>A"))


def test_a_template_that_refuses_a_role_says_so(make_chat: MakeChat) -> None:
    with pytest.raises(InputError, match=r"refuses messages with the roles system, user.*no system"):
        make_chat(REFUSES).encode_prompt(dialogue("Q", system="S"))


def test_a_template_without_generation_prompt_but_without_header_is_fine(make_chat: MakeChat) -> None:
    chat = make_chat(
        "{% for m in messages %}{% if m['role'] == 'user' %}[INST] {{ m['content'] }} [/INST]"
        "{% else %} {{ m['content'] | trim }} <|im_end|>{% endif %}{% endfor %}"
    )
    tokens, mask = chat.encode_dialogue(dialogue("Hi", " Yo\n", "And?", "Bye"))
    trained = chat.decode([t for t, m in zip(tokens, mask, strict=True) if m], special=True)
    assert trained == " Yo <|im_end|> Bye <|im_end|>"


def test_only_the_first_end_of_turn_token_is_trained(make_chat: MakeChat) -> None:
    template = (
        "{% for m in messages %}<|im_start|>{{ m['role'] }}\n{{ m['content'] }}<|im_end|>"
        "{% if loop.last %}<|endoftext|>{% endif %}{% endfor %}"
        "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
    )
    with pytest.raises(InputError, match="rewrites earlier turns"):  # the user's turn would end differently
        make_chat(template).encode_dialogue(dialogue("Hi", "Yo"))
    template = template.replace("{% if loop.last %}", "{% if loop.last and m['role'] == 'assistant' %}")
    chat = make_chat(template, eos="<|endoftext|>")
    assert len(chat.eos_ids) == 2
    tokens, mask = chat.encode_dialogue(dialogue("Hi", "Yo", "And?", "Bye"))
    trained = chat.decode([t for t, m in zip(tokens, mask, strict=True) if m], special=True)
    assert trained == "Yo<|im_end|>Bye<|im_end|>"
    assert chat.decode(tokens, special=True).endswith("<|im_end|><|endoftext|>")


@pytest.mark.parametrize(
    ("messages", "message"),
    [
        ([], "message list is empty"),
        (["Hi"], "message 1 .* needs a 'role'"),
        ([{"role": "user"}], "message 1 .* needs a 'role' and a 'content'"),
        ([{"content": "Hi"}], "message 1 .* needs a 'role'"),
        ([{"role": "user", "content": [{"type": "image"}]}], "content of message 1 .* is a list"),
        ([{"role": "user", "content": None}], "content of message 1 .* is a NoneType"),
    ],
)
def test_messages_that_cannot_be_encoded(chatml: Chat, messages: list[Message], message: str) -> None:
    for encode in (chatml.encode_prompt, chatml.encode_dialogue):
        with pytest.raises(InputError, match=message):
            encode(messages)


def test_dialogues_that_cannot_be_trained(chatml: Chat, make_chat: MakeChat) -> None:
    with pytest.raises(InputError, match="no assistant message"):
        chatml.encode_dialogue(dialogue("Hi"))
    with pytest.raises(InputError, match="starts with an assistant message"):
        chatml.encode_dialogue(dialogue("Hi", "Yo")[1:])
    with pytest.raises(InputError, match="contains the end-of-turn token"):
        chatml.encode_dialogue(dialogue("Hi", "Yo<|im_end|>more"))
    with pytest.raises(InputError, match="no tokens"):
        make_chat("{% for m in messages %}{{ m['content'] }}{% endfor %}").encode_prompt(dialogue(""))


def test_describe_marks_trained_tokens_in_plain_text_too(chatml: Chat) -> None:
    shown = chatml.describe(*chatml.encode_dialogue(dialogue("Hi [b]", "Yo 😀", "And?", "Bye")))
    assert "<|im_start|>assistant\n⟦Yo 😀<|im_end|>⟧\n<|im_start|>user" in shown.plain
    assert shown.plain.count("⟦") == shown.plain.count("⟧") == 2
    console = Console(width=80, file=open("/dev/null", "w"), record=True)  # noqa: SIM115, PTH123
    console.print(shown)
    assert "Hi [b]" in console.export_text(), "square brackets in data are no markup"
    assert {span.style for span in shown.spans} == {"dim", "bold green"}


def test_decode_leaves_special_tokens_out_unless_asked(chatml: Chat) -> None:
    tokens = chatml.encode_prompt(dialogue("Hi ."))
    assert chatml.decode(tokens) == "user\nHi .\nassistant\n"
    assert chatml.decode(tokens, special=True) == "<|im_start|>user\nHi .<|im_end|>\n<|im_start|>assistant\n"


def test_eos_ids_come_from_tokenizer_generation_config_and_template(
    tmp_path: Path, unsaved_tokenizer: Callable[..., PreTrainedTokenizerFast], chatml: Chat
) -> None:
    template = chatml.tokenizer.chat_template
    names = ["<|im_end|>", "<|endoftext|>", "<|im_start|>"]
    end, text, start = chatml.tokenizer.convert_tokens_to_ids(names)
    unsaved_tokenizer(template, "<|endoftext|>").save_pretrained(tmp_path)
    assert Chat.load(tmp_path).eos_ids == {text, end}
    config = tmp_path / "generation_config.json"
    config.write_text(json.dumps({"eos_token_id": [text, start]}))
    assert Chat.load(tmp_path).eos_ids == {text, end, start}
    config.write_text(json.dumps({"eos_token_id": "two"}))
    with pytest.raises(InputError, match=r"eos_token_id.*make it a token id"):
        Chat.load(tmp_path)


def test_directories_that_hold_no_chat(
    tmp_path: Path, unsaved_tokenizer: Callable[..., PreTrainedTokenizerFast]
) -> None:
    with pytest.raises(InputError, match="does not exist"):
        Chat.load(tmp_path / "nowhere")
    (tmp_path / "config.json").write_text("{}")
    with pytest.raises(InputError, match=r"has no tokenizer: copy tokenizer.json"):
        Chat.load(tmp_path)
    unsaved_tokenizer(None).save_pretrained(tmp_path)
    with pytest.raises(InputError, match="no chat template: use an instruction-tuned model"):
        Chat.load(tmp_path)
    (tmp_path / "tokenizer.json").write_text('{"version": ')
    with pytest.raises(InputError, match="not valid JSON"):
        Chat.load(tmp_path)
