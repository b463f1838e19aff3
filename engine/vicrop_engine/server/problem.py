"""What a client is told when there is no answer: status, sentence, and OpenAI's error document.

Decides which of the engine's errors may be told as they are; everything else stays in the log, so that no
answer holds a path or a traceback.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

from starlette.responses import Response

from vicrop_engine import errors
from vicrop_engine.server.json_documents import encode

NO_MEMORY = "not_enough_memory"
RETRY_SECONDS = 2  # after which there may be memory again
LONGEST = 600  # characters of a sentence that may quote what the client sent

PARAMS: dict[type[errors.ViCropError], str | None] = {  # the first that fits
    errors.SchemaError: "response_format",
    errors.BodyError: None,
    errors.ImageError: "messages.image_url",
    errors.QuestionError: "messages",
    errors.UnknownMethodError: "vicrop.method",
    errors.LayerError: "vicrop.layers",
    errors.BoxError: "vicrop.box",
    errors.SettingError: None,
}


class Problem(Exception):
    """A request that gets no answer: HTTP status, sentence, the key that is wrong, a word for programs."""

    def __init__(
        self,
        status: int,
        message: str,
        *,
        param: str | None = None,
        code: str | None = None,
        headers: Mapping[str, str] | None = None,
    ) -> None:
        message = message if len(message) <= LONGEST else f"{message[:LONGEST]}…"
        super().__init__(message)
        self.status, self.message, self.param, self.code = status, message, param, code
        self.headers = dict(headers or {})

    @property
    def kind(self) -> str:
        """OpenAI's `type`."""
        if self.status >= 500:
            return "server_error"
        names = {401: "authentication_error", 429: "rate_limit_error"}
        return names.get(self.status, "invalid_request_error")

    def to_json(self) -> dict[str, Any]:
        """The body of the answer."""
        facts = {"message": self.message, "type": self.kind, "param": self.param, "code": self.code}
        return {"error": facts}

    def response(self) -> Response:
        """The answer."""
        return Response(encode(self.to_json()), self.status, self.headers, "application/json")


def bad_request(message: str, param: str | None = None, code: str | None = None) -> Problem:
    """Status 400."""
    return Problem(400, message, param=param, code=code)


def problem_of(error: BaseException) -> Problem:
    """What to tell a client whose request ended in `error`."""
    if isinstance(error, Problem):
        return error
    if isinstance(error, errors.PictureTooLargeError):
        return Problem(413, str(error), param=PARAMS[errors.ImageError], code="picture_too_large")
    if errors.ran_out_of_memory(error):
        message = "the server has too little memory for this request now; ask again a little later"
        return Problem(503, message, code=NO_MEMORY, headers={"Retry-After": str(RETRY_SECONDS)})
    for kind, param in PARAMS.items():
        if isinstance(error, kind):
            return bad_request(str(error), param)
    if isinstance(error, errors.ToolMissingError):
        return bad_request("this server has no model for that method; take rel-att", "vicrop.method")
    if isinstance(error, errors.QueueFullError):
        seconds = max(1, math.ceil(error.retry_after))
        return Problem(429, str(error), code="queue_full", headers={"Retry-After": str(seconds)})
    if isinstance(error, errors.DeadlineError):
        return Problem(504, str(error), code="deadline_exceeded")
    if isinstance(error, errors.ClosedError | errors.RequestCancelledError):
        return Problem(503, "the server is stopping and takes no more requests", code="stopping")
    return Problem(500, "the request failed inside the server, whose log says more", code="internal_error")


class ClientGone(Exception):
    """Nobody is there any more to take the answer."""
