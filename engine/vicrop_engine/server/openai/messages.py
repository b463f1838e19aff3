"""OpenAI's messages to one question about one picture.

The picture comes first in every prompt, so that its prefix is shared; system text that asks for something
stands in front of the question, where the model reads it. What is looked for is the user's words alone.
"""

from __future__ import annotations

from typing import Any, NamedTuple

from vicrop_engine.errors import one_of, shown
from vicrop_engine.server.openai.fields import check_keys, given, typed
from vicrop_engine.server.openai.system_text import is_neutral
from vicrop_engine.server.problem import bad_request

SYSTEM = ("system", "developer")
DETAILS = ("auto", "low", "high")


class Content(NamedTuple):
    """A message's texts and the URLs of its pictures, in order."""

    texts: list[str]
    images: list[str]


class Asked(NamedTuple):
    """A picture's URL, the user's words about it, and the system text that asks for something."""

    image_url: str
    words: str
    system: str

    @property
    def question(self) -> str:
        """What is answered."""
        return f"{self.system}\n{self.words}" if self.system else self.words

    @property
    def localize(self) -> str | None:
        """What is looked with where it is not the question."""
        return self.words if self.system else None


def read_messages(messages: list[Any]) -> Asked:
    """What the messages ask. Raises Problem."""
    texts: list[str] = []
    asked: Content | None = None
    for index, message in enumerate(messages):
        where = f"messages[{index}]"
        role, content = _message(message, where)
        if role in SYSTEM:
            if content.images:
                raise bad_request(f"got a picture in a {role} message, wanted it in the user's", where)
            texts = [*texts, *content.texts]
        elif asked is not None:
            raise bad_request("got several user messages, wanted one: a request is one question", where)
        else:
            asked = content
    if asked is None:
        raise bad_request("got no user message, wanted one with a question and a picture", "messages")
    if len(asked.images) != 1:
        got = f"{len(asked.images) or 'no'} picture{'s' if len(asked.images) != 1 else ''}"
        raise bad_request(
            f"got {got}, wanted exactly one part of type 'image_url' in the user message", "messages"
        )
    if not any(text.strip() for text in asked.texts):
        raise bad_request("got a picture and no question; ask something about it", "messages")
    system = [text for text in texts if not is_neutral(text)]
    return Asked(asked.images[0], "\n".join(asked.texts), "\n".join(system))


def _message(message: Any, where: str) -> tuple[str, Content]:
    if not isinstance(message, dict):
        raise bad_request(f"got {where} {shown(message)}, wanted an object with role and content", where)
    message = given(message)
    role = typed(message, "role", str, where)
    if role in ("assistant", "tool", "function"):
        raise bad_request(
            f"got a message of role {role!r}; a request is one question without history: "
            "put what matters of it into the user message",
            f"{where}.role",
        )
    if role not in ("user", *SYSTEM):
        raise bad_request(one_of("role", str(role)[:100], ("user", *SYSTEM)), f"{where}.role")
    check_keys(message, ("role", "content", "name"), where)
    content = message.get("content")
    if isinstance(content, str):
        return role, Content([content], [])
    if not isinstance(content, list):
        raise bad_request(f"got {where}.content {shown(content)}, wanted text or a list of parts", where)
    return role, _parts(content, f"{where}.content")


def _parts(parts: list[Any], where: str) -> Content:
    content = Content([], [])
    for index, part in enumerate(parts):
        place = f"{where}[{index}]"
        if not isinstance(part, dict):
            raise bad_request(f"got {place} {shown(part)}, wanted an object with a type", place)
        part = given(part)
        kind = typed(part, "type", str, place)
        if kind == "text":
            check_keys(part, ("type", "text"), place)
            if "text" not in part:
                raise bad_request(f"{place} is of type 'text' and has no text", place)
            content.texts.append(typed(part, "text", str, place))
        elif kind == "image_url":
            check_keys(part, ("type", "image_url"), place)
            content.images.append(_image_url(part, place))
        else:
            raise bad_request(one_of("type of part", str(kind)[:100], ("text", "image_url")), f"{place}.type")
    return content


def _image_url(part: dict[str, Any], where: str) -> str:
    image = typed(part, "image_url", dict, where)
    where = f"{where}.image_url"
    if image is None:
        raise bad_request(f"{where} is missing, wanted an object with a url", where)
    check_keys(image, ("url", "detail"), where)
    detail = typed(image, "detail", str, where)
    if detail is not None and detail not in DETAILS:
        raise bad_request(one_of("detail", detail[:100], DETAILS), f"{where}.detail")
    url = typed(image, "url", str, where)
    if not url:
        raise bad_request(f"{where}.url is missing, wanted a data: URL with a picture", f"{where}.url")
    return str(url)
