"""Request bodies as existing programs send them, read in their own code on the day docs/clients.md gives.

Only the picture and the question are ours; everything a client adds by itself is here as it adds it.
"""

from __future__ import annotations

import base64
from typing import Any

from tests.server.running import MODEL, data_url, demo_picture, demo_text


def picture_part(url: str | None = None) -> dict[str, Any]:
    """An `image_url` part."""
    return {"type": "image_url", "image_url": {"url": data_url(demo_picture()) if url is None else url}}


def text_part(text: str | None = None) -> dict[str, Any]:
    """A text part."""
    return {"type": "text", "text": demo_text() if text is None else text}


def user(*parts: dict[str, Any]) -> dict[str, Any]:
    """A user's message."""
    return {"role": "user", "content": list(parts)}


def chat(*messages: dict[str, Any], **more: Any) -> dict[str, Any]:
    """A request with these messages."""
    return {"model": MODEL, "messages": list(messages), **more}


SCHEMA = {
    "type": "object",
    "properties": {"answer": {"type": "string"}},
    "required": ["answer"],
    "additionalProperties": False,
}

LLAMA_INDEX = chat(user(text_part(), picture_part()), temperature=0.1, stream=False)
OPEN_WEBUI_SECOND_TURN = chat(
    user(text_part(), picture_part()),
    {"role": "assistant", "content": "5"},
    {"role": "user", "content": "What digit is on the red sign?"},
    stream=True,
    stream_options={"include_usage": True},
)
OPEN_WEBUI_TITLE = chat(
    {
        "role": "user",
        "content": "### Task:\nGenerate a concise, 3-5 word title.\n### Chat History:\n<chat_history>\n"
        "USER: What is this?\nASSISTANT: a street\n</chat_history>",
    },
    stream=False,
    max_completion_tokens=50,
    metadata={"task": "title_generation"},
)
LITELLM_HEALTH = chat({"role": "user", "content": "Hey how's it going?"}, max_tokens=5)
GUIDELLM = chat(
    user(text_part(), picture_part()),
    stream=True,
    stream_options={"include_usage": True, "continuous_usage_stats": True},
    max_completion_tokens=6,
    stop=None,
    ignore_eos=True,
)
VLMEVALKIT = chat(
    user({"type": "image_url", "image_url": {"url": data_url(demo_picture()), "detail": "low"}}, text_part()),
    max_tokens=32768,
    n=1,
    temperature=0,
)
LANGCHAIN_HISTORY = chat(
    {"role": "system", "content": "You are a helpful assistant."},
    user(text_part(), picture_part()),
    {"content": "5", "role": "assistant"},
    {"role": "user", "content": "Are you sure?"},
    stream=False,
)
LANGCHAIN_STRUCTURED = chat(
    user(text_part(), picture_part()),
    response_format={
        "type": "json_schema",
        "json_schema": {"name": "Reply", "strict": True, "schema": SCHEMA},
    },
    stream=False,
    parallel_tool_calls=False,
)
QWEN = chat(
    user(picture_part(f"data:image;base64,{base64.b64encode(demo_picture()).decode()}"), text_part()),
    top_p=0.8,
    top_k=20,
    repetition_penalty=1.05,
    mm_processor_kwargs={"min_pixels": 3136},
)
AGENT = chat(
    user(text_part(), picture_part()),
    tools=[{"type": "function", "function": {"name": "look", "parameters": {"type": "object"}}}],
    tool_choice="auto",
)
LMMS_EVAL = chat(user(text_part(), picture_part()), max_tokens=1024, temperature=0)

SHAPES = {
    "LlamaIndex": LLAMA_INDEX,
    "open-webui, second turn": OPEN_WEBUI_SECOND_TURN,
    "open-webui, title": OPEN_WEBUI_TITLE,
    "LiteLLM, health check": LITELLM_HEALTH,
    "guidellm, synthetic": GUIDELLM,
    "VLMEvalKit": VLMEVALKIT,
    "LangChain, history": LANGCHAIN_HISTORY,
    "LangChain, structured output": LANGCHAIN_STRUCTURED,
    "Qwen-style code": QWEN,
    "an agent": AGENT,
    "lmms-eval": LMMS_EVAL,
}
SAID = {  # what the header names
    "LlamaIndex": {"temperature"},
    "open-webui, second turn": {"messages"},
    "open-webui, title": {"messages"},
    "LiteLLM, health check": {"messages"},
    "guidellm, synthetic": set(),
    "VLMEvalKit": {"max_tokens"},
    "LangChain, history": {"messages"},
    "LangChain, structured output": set(),
    "Qwen-style code": {"top_p", "top_k", "repetition_penalty", "mm_processor_kwargs"},
    "an agent": {"tools"},
    "lmms-eval": {"max_tokens"},
}
"""By client: what a lenient server names in its header for the request above."""
