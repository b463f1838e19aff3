"""System messages that ask for nothing: clients send one with every request, and it must change no answer.

Knows words; nothing of requests. A text is neutral where each of its sentences is one that models are
published with, or only says that somebody is a helpful assistant, in words that bear no wish for the answer.
"""

from __future__ import annotations

import re
import unicodedata

# Sentences of the messages that come with Vicuna, Llama 2, LLaVA, Qwen and clients of these, word by word.
_PUBLISHED = """
a chat between a curious human and an artificial intelligence assistant
a chat between a curious user and an artificial intelligence assistant
the assistant gives helpful detailed and polite answers to the human's questions
the assistant gives helpful detailed and polite answers to the user's questions
always answer as helpfully as possible while being safe
your answers should not include any harmful unethical racist sexist toxic dangerous or illegal content
please ensure that your responses are socially unbiased and positive in nature
if you don't know the answer to a question please don't share false information
you are able to understand the visual content that the user provides
you are qwen
du bist ein hilfreicher assistent
vous êtes un assistant utile
tu es un assistant utile
eres un asistente útil
sei un assistente utile
你是一个有用的助手
你是一个乐于助人的助手
"""
_LONG_ONES = (
    "if a question does not make any sense or is not factually coherent explain why instead of answering "
    "something not correct",
    "you are able to understand the visual content that the user provides and assist the user with a variety "
    "of tasks using natural language",
)
# "You are …", "Answer …": what such a sentence may consist of and ask for nothing that is not done anyway.
_PLAIN = """
a an the and very always can will to about on of for regarding with as based that who which your my their
helpful respectful honest harmless friendly polite kind safe useful good great nice smart clever intelligent
knowledgeable trustworthy reliable truthful accurate capable competent powerful professional advanced expert
ai artificial intelligence digital virtual personal language vision visual multimodal multi-modal
vision-language large model llm vlm mllm assistant chatbot bot helper agent system
help helps assist assists answer answers answering respond responds question questions
image images picture pictures photo photos user users user's people human humans
"""
_BEGINNINGS = (
    r"(?:you are|you're|you will be|you act as|act as|i am|i'm|be|please|answer|help|assist"
    r"|your (?:job|task|role|goal) is to)"
)
_NAME = r"(?:[\w-]+ (?=an? |the ))?"  # "You are Ada, a helpful assistant"
_MAKERS = re.compile(
    r" (?:named|called) [\w-]+| (?:created|developed|trained|made|built) by [\w-]+(?: [\w-]+){0,4}$"
)
_TURNS_ROUND = {"not", "never", "no", "only", "hardly"}
_SENTENCE_END = re.compile(r"[.!?;](?:\s+|$)|[\n\u3002]+")

PUBLISHED = {*filter(None, _PUBLISHED.split("\n")), *_LONG_ONES}
PLAIN = {*_PLAIN.split()}


def is_neutral(text: str) -> bool:
    """Whether a system message asks for nothing."""
    plain = unicodedata.normalize("NFKC", text).replace("\u2019", "'").lower()
    return all(_asks_nothing(sentence) for sentence in _SENTENCE_END.split(plain))


def _asks_nothing(sentence: str) -> bool:
    words = re.sub(r"[^\w'-]+", " ", sentence).split()
    said = _MAKERS.sub("", " ".join(words))
    if not said or said in PUBLISHED:
        return True
    presented = re.fullmatch(rf"{_BEGINNINGS} {_NAME}(.+)", said)
    return presented is not None and not _TURNS_ROUND & {*words} and PLAIN.issuperset(presented[1].split())
