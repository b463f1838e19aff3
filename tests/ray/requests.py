"""Chat requests over HTTP."""

from __future__ import annotations

import base64
from typing import Any


def chat(question: str, picture: bytes, kind: str, **more: Any) -> dict[str, Any]:
    """A chat request's document about an encoded picture of this kind."""
    url = {"url": f"data:image/{kind};base64,{base64.b64encode(picture).decode()}"}
    parts = [{"type": "text", "text": question}, {"type": "image_url", "image_url": url}]
    return {"messages": [{"role": "user", "content": parts}], **more}
