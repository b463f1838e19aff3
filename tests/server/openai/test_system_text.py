"""System messages: those that ask for nothing change nothing, others are read and not looked with."""

from __future__ import annotations

from typing import Any

import pytest

from tests.server.running import Running, chat, demo_text
from vicrop_engine.server.openai.chat import Served, read_chat
from vicrop_engine.server.openai.system_text import is_neutral
from vicrop_engine.server.settings import ServerSettings

SERVED = Served(("llava-signs",), 1024)
VICUNA = (
    "A chat between a curious human and an artificial intelligence assistant. "
    "The assistant gives helpful, detailed, and polite answers to the human's questions."
)
LLAMA_2 = (
    "You are a helpful, respectful and honest assistant. Always answer as helpfully as possible, while being "
    "safe. Your answers should not include any harmful, unethical, racist, sexist, toxic, dangerous, or "
    "illegal content. Please ensure that your responses are socially unbiased and positive in nature.\n\nIf "
    "a question does not make any sense, or is not factually coherent, explain why instead of answering "
    "something not correct. If you don't know the answer to a question, please don't share false information."
)
LLAVA = (
    "You are LLaVA, a large language and vision assistant trained by UW Madison WAIV Lab. You are able to "
    "understand the visual content that the user provides, and assist the user with a variety of tasks using "
    "natural language."
)
NEUTRAL = [
    *("You are a helpful assistant.", "you are a helpful assistant", "  You are a helpful assistant!\n", ""),
    *("You are a helpful, respectful and honest assistant.", "You\u2019re an AI assistant named Ada."),
    *("You are Qwen, created by Alibaba Cloud. You are a helpful assistant.", VICUNA, LLAMA_2, LLAVA),
    *("You are ChatGPT, a large language model trained by OpenAI.", "Act as a helpful vision assistant."),
    *("You are a helpful assistant that answers questions about images.", "你是一个有用的助手。"),
    "Answer the user's questions about the picture.",
]
WISHES = [
    *(
        "Be brief.",
        "You read signs.",
        "You are a helpful assistant. Answer in German.",
        "Answer in capitals.",
    ),
    *("You are a helpful assistant that answers in French.", "You are not a helpful assistant."),
    *("You are a pirate.", "Answer with yes or no.", "You are a helpful assistant; be concise."),
]


@pytest.mark.parametrize("text", NEUTRAL)
def test_what_asks_for_nothing_is_known(text: str) -> None:
    assert is_neutral(text)


@pytest.mark.parametrize("text", WISHES)
def test_what_asks_for_something_is_kept(text: str) -> None:
    assert not is_neutral(text)


def with_system(content: Any, role: str = "system", **more: Any) -> dict[str, Any]:
    """The demo's request behind a message of the system's."""
    document = chat(**more)
    document["messages"].insert(0, {"role": role, "content": content})
    return document


@pytest.mark.parametrize("role", ["system", "developer"])
@pytest.mark.parametrize("parts", [False, True])
def test_a_neutral_message_makes_the_very_same_request(role: str, parts: bool) -> None:
    plain = read_chat(chat(), ServerSettings(), SERVED)
    for text in (NEUTRAL[0], VICUNA, LLAMA_2):
        content = [{"type": "text", "text": part} for part in text.split("\n\n")] if parts else text
        assert read_chat(with_system(content, role), ServerSettings(), SERVED) == plain


def test_a_wish_is_read_and_not_looked_with(server: Running) -> None:
    asked = read_chat(with_system("You read signs."), ServerSettings(), SERVED)
    assert asked.question == f"You read signs.\n{demo_text()}"
    assert asked.params.localize == demo_text()
    plain, other = (server.post(each).json() for each in (chat(), with_system("You read signs.")))
    assert other["vicrop"]["crop_box"] == plain["vicrop"]["crop_box"]
    assert other["usage"]["prompt_tokens"] > plain["usage"]["prompt_tokens"]
    assert other["vicrop"]["reused"]["prefix"] == 1  # the picture's prefix is shared with plain requests


def test_the_clients_own_words_to_look_with_are_taken() -> None:
    document = with_system("You read signs.", vicrop={"localize": "the white circle sign"})
    assert read_chat(document, ServerSettings(), SERVED).params.localize == "the white circle sign"


def test_the_served_answer_is_the_same_with_the_usual_message(server: Running) -> None:
    plain, other = (server.post(each).json() for each in (chat(), with_system(NEUTRAL[0])))
    assert other["choices"][0]["message"] == plain["choices"][0]["message"]
    assert other["vicrop"]["crop_box"] == plain["vicrop"]["crop_box"]
    assert other["usage"]["prompt_tokens"] == plain["usage"]["prompt_tokens"]
