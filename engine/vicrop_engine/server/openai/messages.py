"""OpenAI's messages to one question about one picture, and what was said before.

The picture comes first in every prompt, so that its prefix is shared; system text that asks for something
stands in front of the question, where the model reads it. What is looked for is the user's words alone.
"""

from __future__ import annotations

from typing import Any, NamedTuple

from vicrop_engine.server.openai.manner import Manner
from vicrop_engine.server.openai.parts import SYSTEM, Turn, read_turn
from vicrop_engine.server.openai.system_text import is_neutral
from vicrop_engine.server.problem import bad_request

SPEAKERS = {"user": "User", "assistant": "Assistant", "tool": "Tool", "function": "Tool"}


class Asked(NamedTuple):
    """A picture's URL, the user's words about it, the system text that asks for something, earlier turns.

    Without a URL the words are all there is.
    """

    image_url: str | None
    words: str
    system: str
    history: tuple[str, ...] = ()

    @property
    def question(self) -> str:
        """What is answered."""
        return f"{self.system}\n{self.words}" if self.system else self.words

    @property
    def localize(self) -> str | None:
        """What is looked with where it is not the question."""
        return self.words if self.system else None


def read_messages(messages: list[Any], manner: Manner) -> Asked:
    """What the messages ask. Raises Problem."""
    turns = [read_turn(message, f"messages[{index}]", manner) for index, message in enumerate(messages)]
    for turn in turns:
        if turn.role in SYSTEM and turn.images:
            problem = bad_request(
                f"got a picture in a {turn.role} message, wanted it in the user's", turn.where
            )
            manner.leave_out(problem, f"the picture in a {turn.role} message was left out")
    said = [text for turn in turns if turn.role in SYSTEM for text in turn.texts if not is_neutral(text)]
    others = [turn for turn in turns if turn.role not in SYSTEM]
    if not any(turn.role == "user" for turn in others):
        raise bad_request("got no user message, wanted one with a question and a picture", "messages")
    asked = _one_question(others) if manner.strict else _conversation(others, manner)
    return asked._replace(system="\n".join(said))


def _one_question(turns: list[Turn]) -> Asked:
    """The only user's message, with its only picture. Raises Problem."""
    if len(turns) > 1:
        message = "got several user messages, wanted one: a request is one question"
        raise bad_request(message, turns[1].where)
    (asked,) = turns
    if len(asked.images) != 1:
        got = f"{len(asked.images) or 'no'} picture{'s' if len(asked.images) != 1 else ''}"
        raise bad_request(
            f"got {got}, wanted exactly one part of type 'image_url' in the user message", "messages"
        )
    if asked.is_blank:
        raise bad_request("got a picture and no question; ask something about it", "messages")
    return Asked(asked.images[0], asked.text, "")


def _conversation(turns: list[Turn], manner: Manner) -> Asked:
    """The last thing a user asked, about the latest picture; what else was said is text. Raises Problem."""
    asking = [turn for turn in turns if turn.role == "user" and not turn.is_blank]
    if not asking:
        raise bad_request("got a picture and no question; ask something about it", "messages")
    others = [turn for turn in turns if turn is not asking[-1] and not turn.is_blank]
    history = tuple(f"{SPEAKERS[turn.role]}: {turn.text}" for turn in others)
    if history:
        manner.note("messages", "the model's prompt has one turn: what was said before is text in it")
    images = [image for turn in turns for image in turn.images]
    if len(images) > 1:
        manner.note("messages", f"of {len(images)} pictures only the latest was looked at")
    if not images:
        manner.note("messages", "no picture came: the language model answered alone and nothing was cropped")
    return Asked(images[-1] if images else None, asking[-1].text, "", history)
