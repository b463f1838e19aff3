"""vicrop-engine: answer questions about pictures with a second look at the place the model looked at.

Names are loaded when they are first used, so that importing the package costs nothing.
"""

from __future__ import annotations

import os as _os
import typing as _typing

if _typing.TYPE_CHECKING:
    from vicrop_engine.answer_form import AnswerForm
    from vicrop_engine.engine import ViCropEngine
    from vicrop_engine.errors import ViCropError
    from vicrop_engine.vicrop.answer import Answer
    from vicrop_engine.vicrop.localizers.localizer import Localization, Localizer
    from vicrop_engine.vicrop.params import AskParams
    from vicrop_engine.vicrop.request_state import RequestState
    from vicrop_engine.vicrop.request_state import RequestState as Reading

# ONNX Runtime for Linux reports its use over the network unless this is set before it is imported.
_os.environ.setdefault("ORT_DISABLE_TELEMETRY", "1")

__all__ = [
    "Answer",
    "AnswerForm",
    "AskParams",
    "Localization",
    "Localizer",
    "Reading",
    "RequestState",
    "ViCropEngine",
    "ViCropError",
]

_HOMES = {
    "Answer": "vicrop_engine.vicrop.answer",
    "AnswerForm": "vicrop_engine.answer_form",
    "AskParams": "vicrop_engine.vicrop.params",
    "Localization": "vicrop_engine.vicrop.localizers.localizer",
    "Localizer": "vicrop_engine.vicrop.localizers.localizer",
    "RequestState": "vicrop_engine.vicrop.request_state",
    "ViCropEngine": "vicrop_engine.engine",
    "ViCropError": "vicrop_engine.errors",
}
_FORMER = {"Reading": "RequestState"}  # names of version 0.1, for one more version


def __getattr__(name: str) -> object:
    name = _FORMER.get(name, name)
    if name not in _HOMES:
        raise AttributeError(f"module 'vicrop_engine' has no attribute {name!r}")
    from importlib import import_module

    value: object = getattr(import_module(_HOMES[name]), name)
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
