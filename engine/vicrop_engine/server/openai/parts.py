"""OpenAI's messages and their parts, read one by one: who speaks, texts, and the URLs of pictures.

A lenient server also takes what other APIs call the same: parts of `/v1/responses`, of Anthropic's messages
and of Qwen's examples.
"""

from __future__ import annotations

from typing import Any, NamedTuple

from vicrop_engine.errors import one_of, shown
from vicrop_engine.server.openai.fields import check_keys, given, typed
from vicrop_engine.server.openai.manner import Manner
from vicrop_engine.server.problem import bad_request

SYSTEM = ("system", "developer")
EARLIER = ("assistant", "tool", "function")
DETAILS = ("auto", "low", "high")
TEXTS = {"text": "text", "input_text": "text", "output_text": "text", "refusal": "refusal"}
IMAGES = ("image_url", "input_image", "image")


class Turn(NamedTuple):
    """A message: where it stands, its role, its texts and the URLs of its pictures, in order."""

    where: str
    role: str
    texts: list[str]
    images: list[str]

    @property
    def text(self) -> str:
        """All of its texts, one under the other."""
        return "\n".join(self.texts)

    @property
    def is_blank(self) -> bool:
        """Whether it says nothing."""
        return not any(text.strip() for text in self.texts)


def read_turn(message: Any, where: str, manner: Manner) -> Turn:
    """One message. Raises Problem."""
    if not isinstance(message, dict):
        raise bad_request(f"got {where} {shown(message)}, wanted an object with role and content", where)
    message = given(message)
    role = typed(message, "role", str, where)
    if manner.strict and role in EARLIER:
        raise bad_request(
            f"got a message of role {role!r}; a request is one question without history: "
            "put what matters of it into the user message",
            f"{where}.role",
        )
    known = ("user", *SYSTEM) if manner.strict else ("user", *SYSTEM, *EARLIER)
    if role not in known:
        raise bad_request(one_of("role", str(role)[:100], known), f"{where}.role")
    check_keys(message, ("role", "content", "name"), where, manner)
    content = message.get("content")
    if isinstance(content, str):
        return Turn(where, role, [content], [])
    if content is None and role == "assistant":  # whose message is a call of a tool
        return Turn(where, role, [], [])
    if not isinstance(content, list):
        raise bad_request(f"got {where}.content {shown(content)}, wanted text or a list of parts", where)
    turn = Turn(where, role, [], [])
    for index, part in enumerate(content):
        _read_part(part, f"{where}.content[{index}]", turn, manner)
    return turn


def _read_part(part: Any, place: str, turn: Turn, manner: Manner) -> None:
    if isinstance(part, str) and not manner.strict:
        turn.texts.append(part)
        return
    if not isinstance(part, dict):
        raise bad_request(f"got {place} {shown(part)}, wanted an object with a type", place)
    part = given(part)
    kind = typed(part, "type", str, place)
    texts, images = (("text",), ("image_url",)) if manner.strict else (tuple(TEXTS), IMAGES)
    if kind in texts:
        key = TEXTS[kind]
        check_keys(part, ("type", key), place, manner)
        if key not in part:
            raise bad_request(f"{place} is of type {kind!r} and has no {key}", place)
        turn.texts.append(typed(part, key, str, place))
    elif kind in images:
        check_keys(part, ("type", "image_url", *_OTHER_KEYS.get(kind, ())), place, manner)
        turn.images.append(_image_url(part, place, manner))
    else:
        raise bad_request(one_of("type of part", str(kind)[:100], ("text", "image_url")), f"{place}.type")


_OTHER_KEYS = {"input_image": ("detail",), "image": ("image", "source")}


def _image_url(part: dict[str, Any], where: str, manner: Manner) -> str:
    if not manner.strict:
        found = _url_elsewhere(part, where)
        if found is not None:
            return found
    image = typed(part, "image_url", dict, where)
    where = f"{where}.image_url"
    if image is None:
        raise bad_request(f"{where} is missing, wanted an object with a url", where)
    check_keys(image, ("url", "detail"), where, manner)
    detail = image.get("detail") if not manner.strict else typed(image, "detail", str, where)
    if detail is not None and detail not in DETAILS:
        problem = bad_request(one_of("detail", str(detail)[:100], DETAILS), f"{where}.detail")
        manner.leave_out(problem, f"detail {shown(detail)} means nothing here; see vicrop.high_res")
    url = typed(image, "url", str, where)
    if not url:
        raise bad_request(f"{where}.url is missing, wanted a data: URL with a picture", f"{where}.url")
    return str(url)


def _url_elsewhere(part: dict[str, Any], where: str) -> str | None:
    """The URL where it is a text of its own, or a picture by another API's names."""
    for key in ("image_url", "image"):
        if isinstance(part.get(key), str) and part[key]:
            return str(part[key])
    source = part.get("source")
    if part["type"] == "image" and isinstance(source, dict):
        data, url = source.get("data"), source.get("url")
        if isinstance(data, str):
            return f"data:image;base64,{data}"
        if isinstance(url, str):
            return url
        raise bad_request(f"{where}.source has neither data nor url; give one of them", f"{where}.source")
    return None
