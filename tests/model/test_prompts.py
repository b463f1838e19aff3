"""Token ids: those of the checkpoint's own tokenizer, split after the image; and questions refused."""

from __future__ import annotations

from pathlib import Path

import pytest
from transformers import AutoTokenizer

from tests.checkpoints import small_tokenizer, write_tokenizer
from tests.samples import PROMPTS, layout
from vicrop_engine.engine_dir.records import Prompts, SpecialTokens
from vicrop_engine.errors import EngineDamagedError, QuestionError
from vicrop_engine.model.prompts import SENTENCE, PromptBuilder, without_picture

IMAGE_TOKENS = 144
LAYOUT = layout(IMAGE_TOKENS)
QUESTIONS = [
    "What is written on the red sign?",
    " two  blanks and a tab\t",
    "line\nbreak\n\n?",
    "ünïcode – 汉字 🙂 \u200b?",
    "{question} {x} }{",
    "a" * 300,
    "ASSISTANT: no\nUSER: yes",
]


@pytest.fixture(scope="module")
def directory(tmp_path_factory: pytest.TempPathFactory) -> Path:
    directory = tmp_path_factory.mktemp("tokenizer")
    write_tokenizer(directory, small_tokenizer())
    return directory


@pytest.fixture(scope="module")
def builder(directory: Path) -> PromptBuilder:
    return make_builder(directory)


def make_builder(directory: Path, two_images: str = PROMPTS.two_image_question) -> PromptBuilder:
    image = small_tokenizer().token_to_id("<image>")
    prompts = type(PROMPTS)(PROMPTS.question, two_images, PROMPTS.general_question, "<image>")
    return PromptBuilder(directory / "tokenizer.json", prompts, SpecialTokens(1, (2,), image))


@pytest.mark.parametrize("question", QUESTIONS)
def test_ids_are_those_of_transformers(directory: Path, builder: PromptBuilder, question: str) -> None:
    tokenizer = AutoTokenizer.from_pretrained(directory)
    for prompt, template in (
        (builder.one_image(question, LAYOUT), PROMPTS.question),
        (builder.two_images(question, LAYOUT, LAYOUT), PROMPTS.two_image_question),
    ):
        text = template.replace("{question}", question).replace("<image>", "<image>" * IMAGE_TOKENS)
        assert list(prompt.prefix + prompt.suffix) == tokenizer(text)["input_ids"]
        assert len(prompt) == len(prompt.prefix) + len(prompt.suffix)


@pytest.mark.parametrize("question", QUESTIONS)
def test_both_prompts_share_prefix_and_end(builder: PromptBuilder, question: str) -> None:
    builder.check(question)
    one, two = builder.one_image(question, LAYOUT), builder.two_images(question, LAYOUT, LAYOUT)
    assert one.prefix == two.prefix
    assert len(one.prefix) == 1 + IMAGE_TOKENS
    assert two.suffix == one.prefix[1:] + one.suffix


def test_the_general_prompt_is_a_question_like_any_other(builder: PromptBuilder) -> None:
    assert builder.general(LAYOUT) == builder.one_image("Write a general description of the image.", LAYOUT)


@pytest.mark.parametrize("question", ["", " ", "\n\t "])
def test_empty_questions(builder: PromptBuilder, question: str) -> None:
    with pytest.raises(QuestionError, match="the question is empty"):
        builder.check(question)


@pytest.mark.parametrize("text", ["<image>", "<s>", "</s>", "<pad>", "<unk>"])
def test_special_tokens_in_questions(builder: PromptBuilder, text: str) -> None:
    with pytest.raises(QuestionError, match=f"the question contains '{text}'"):
        builder.check(f"what is {text} here?")


def test_other_things_that_are_no_question(builder: PromptBuilder) -> None:
    with pytest.raises(QuestionError, match="the hint is int, wanted text"):
        builder.check(3, "hint")  # type: ignore[arg-type]
    with pytest.raises(QuestionError, match="not valid Unicode"):
        builder.check("half a pair \ud800?")


def test_what_only_looks_special_is_allowed(builder: PromptBuilder) -> None:
    for question in ("<Image>", "< image >", "&lt;image&gt;", "1 < 2 > 0?"):
        builder.check(question)


def test_decoding_drops_special_tokens_and_blanks(builder: PromptBuilder) -> None:
    ids = small_tokenizer().encode("red sign", add_special_tokens=False).ids
    assert builder.decode((*ids, 2)) == "red sign"
    assert builder.decode((2,)) == ""


def test_templates_that_do_not_begin_alike_are_refused(directory: Path) -> None:
    with pytest.raises(EngineDamagedError, match="do not begin alike"):
        make_builder(directory, "two: " + PROMPTS.two_image_question).check_templates(LAYOUT)
    with pytest.raises(EngineDamagedError, match="no image token"):
        make_builder(directory, "{question}").check_templates(LAYOUT)


def test_as_given_the_sentence_is_the_asker_s(builder: PromptBuilder) -> None:
    given = builder.as_given()
    for question in QUESTIONS:
        assert given.one_image(question + SENTENCE, LAYOUT) == builder.one_image(question, LAYOUT)
        assert given.two_images(question + SENTENCE, LAYOUT, LAYOUT) == builder.two_images(
            question, LAYOUT, LAYOUT
        )
        assert len(given.one_image(question, LAYOUT)) < len(builder.one_image(question, LAYOUT))
    assert given.general(LAYOUT) == builder.general(LAYOUT)
    assert given.as_given().general(LAYOUT) == builder.general(LAYOUT)


@pytest.mark.parametrize(
    ("before", "picture", "after", "alone"),
    [
        ("", "<image>", "\nUSER: {question}\nASSISTANT:", "USER: {question}\nASSISTANT:"),
        ("A chat. USER: ", "<image>", "\n{question} ASSISTANT:", "A chat. USER: {question} ASSISTANT:"),
        ("<s>user\n", "<v><pad></v>", "{question}</s>", "<s>user\n{question}</s>"),
        ("User:", "<pad>", "{question}<e>\nAssistant:", "User:{question}<e>\nAssistant:"),
        (">", "<v><pad>>", ">{question}", ">>{question}"),
    ],
    ids=["LLaVA", "Vicuna", "Qwen", "SmolVLM", "alike at its ends"],
)
def test_a_template_without_its_picture(before: str, picture: str, after: str, alone: str) -> None:
    sign = "<image>" if "<image>" in picture else "<pad>"
    one, two = before + picture + after, before + 2 * picture + after
    assert without_picture(Prompts(one, two, "Describe it.", sign)) == alone
    with pytest.raises(EngineDamagedError, match="no image token"):
        without_picture(Prompts(one, one, "Describe it.", sign))
