"""The engine: ask about a picture, look where the model looks, crop, and ask again on the same prefix."""

from __future__ import annotations

import contextlib
import os
import threading
from collections.abc import Callable, Iterable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any, NoReturn, Unpack

from vicrop_engine.builder import resolve
from vicrop_engine.counters import Counters, Tally
from vicrop_engine.engine_dir.manifest import Manifest
from vicrop_engine.engine_dir.verify import checked_manifest
from vicrop_engine.errors import BatchError, SettingError, ViCropError, shown
from vicrop_engine.external.toolbox import Toolbox
from vicrop_engine.images.cache import Source, source_of
from vicrop_engine.images.picture import ImageInput
from vicrop_engine.model.model import Model
from vicrop_engine.model.opening import Place, open_model
from vicrop_engine.model.probe import prove_once
from vicrop_engine.runtime.heap import settled
from vicrop_engine.timing import Stopwatch
from vicrop_engine.vicrop.answer import Answer
from vicrop_engine.vicrop.ask import encode, opened_picture, run_ask
from vicrop_engine.vicrop.fitting import fitted
from vicrop_engine.vicrop.localizers.localizer import Localization
from vicrop_engine.vicrop.localizers.methods import NONE
from vicrop_engine.vicrop.params import ALWAYS, NEVER, AskKeywords, AskParams, plain_int
from vicrop_engine.vicrop.planning import plan_request
from vicrop_engine.vicrop.prefill import prefill
from vicrop_engine.vicrop.target_asking import name_target
from vicrop_engine.vicrop.text_alone import TEXT_ALONE, plan_text, run_text


class ViCropEngine:
    """An open engine. Asks from several threads run one after the other."""

    def __init__(self, model: Model) -> None:
        self._model = model
        self._lock = threading.Lock()
        self._asking: int | None = None  # the thread that has the lock

    @classmethod
    def load(
        cls,
        engine: str | os.PathLike[str],
        *,
        threads: int | None = None,
        cache_bytes: int | None = None,
        verify: bool = False,
        share_weights: bool = False,
        provider: str | None = None,
        device: int | None = None,
        clip: str | os.PathLike[str] | None = None,
        yolo: str | os.PathLike[str] | None = None,
        sam: str | os.PathLike[str] | None = None,
        probe: bool = True,
        huge_pages: bool = True,
    ) -> ViCropEngine:
        """Open an engine directory, or a model by name (built once into the cache when it never was).

        `threads` is how many cores to use (all when None); `cache_bytes` bounds what is kept of pictures for
        later questions (None: 1 GiB, or one picture if that is more); `verify` hashes the weights again.
        `share_weights` maps them from a copy packed for this processor, made in the cache when there is none
        and twice their size: processes then share one copy in memory. An engine for cuda or tensorrt runs on
        GPU number `device`, or with `provider` "cpu" on the processor, slowly, to try it where there is none.
        `clip`, `yolo` and `sam` are directories made by `build` of that name, for these methods; else those
        in the cache are taken.
        The first time on a processor and ONNX Runtime the engine's probe is run, unless `probe` is False.
        With `huge_pages` a thread moves packed weights onto them beside the first questions, where Linux can:
        tokens are decoded faster from then on, see docs/performance.md.
        Raises SettingError, EngineDirectoryError, EngineDamagedError, UnknownModelError, ProviderError, and
        ProbeError where the graphs give other numbers than where the engine was built.
        """
        threads = _whole("threads", threads, 1)
        cache_bytes = _whole("cache_bytes", cache_bytes, 0)
        directory = Path(resolve(engine))
        manifest = checked_manifest(directory, verify=verify)
        tools = Toolbox({"clip": clip, "yolo": yolo, "sam": sam}, threads)
        place = Place(provider, device)
        with settled(huge=huge_pages):
            model = open_model(directory, manifest, threads, cache_bytes, share_weights, tools, place)
        if probe:
            prove_once(model, directory)
        return cls(model)

    def __reduce__(self) -> NoReturn:
        """An open engine stays in its process. Raises TypeError, with what to hand over instead."""
        raise TypeError(
            "an open engine cannot be pickled: its graphs and KV buffers are this process's; hand over the "
            "directory's name and load it there, with share_weights=True to hold the weights once"
        )

    @property
    def model(self) -> Model:
        """Its parts, for what works on an engine."""
        return self._model

    @property
    def manifest(self) -> Manifest:
        """What the engine is."""
        return self._model.manifest

    @property
    def provider(self) -> str:
        """The execution provider the graphs really run on."""
        return self._model.provider

    @property
    def counters(self) -> Counters:
        """What has been run since loading."""
        return self._model.tally.snapshot()

    @property
    def tally(self) -> Tally:
        """What counts, and reads the clock."""
        return self._model.tally

    def as_given(self) -> ViCropEngine:
        """The same open engine, whose prompts hold a question as it is given.

        Else the published sentence that asks for a single word or phrase is put after it: benchmarks write
        that, or something else, themselves. What is kept of pictures is shared; ask one of the two at a time.
        """
        return ViCropEngine(replace(self._model, prompts=self._model.prompts.as_given()))

    def forget(self, *, prefixes: bool = True) -> None:
        """Let go of what is kept of pictures, as if none had been asked about; else of image embeds alone."""
        with self._alone():
            if prefixes:
                self._model.forget()
            else:
                self._model.forget_embeds()

    def check_integrity(self) -> None:
        """Raises AssertionError when a cache does not hold what it says it holds."""
        self._model.check_integrity()

    def ask(
        self,
        image: ImageInput,
        question: str,
        *,
        on_first_answer: Callable[[str], None] | None = None,
        **settings: Unpack[AskKeywords],
    ) -> Answer:
        """Answer `question` about `image`, with and without a crop of the place that matters.

        `settings` are the fields of `AskParams`, which says what each does: method="rel-att",
        high_res="auto", layers=None, max_new_tokens=20, first_answer=True, compat=None, box=None,
        localize=None, when="always", crop_tokens="all". `on_first_answer` hears the answer without crop as it
        grows, while the crop is on its way.
        Raises ImageError, QuestionError, or the error of the setting that cannot be used.
        """
        return self.answer(image, question, AskParams.of(settings), on_first_answer)

    def answer(
        self,
        image: ImageInput | Source,
        question: str,
        params: AskParams,
        on_text: Callable[[str], None] | None = None,
    ) -> Answer:
        """`ask` with a record of its settings; `on_text` hears the first answer as it grows.

        In place of a picture TEXT_ALONE has the language model answer by itself.
        """
        model = self._model
        if (
            image is not TEXT_ALONE and params.box is None and params.when != NEVER
        ):  # opened before the watch starts, as graphs are
            model.tools.prepare(params.method)
        watch = Stopwatch(model.tally.clock)
        told = None if on_text is None else model.prompts.decoded(on_text, params.answer_form)
        if image is TEXT_ALONE:
            request = plan_text(model, question, params)
            with self._alone():
                return run_text(model, request, watch, told)
        request = plan_request(model, question, params)
        opened = opened_picture(model, request, source_of(image), watch)
        request = fitted(model, request, opened.seen.layout)
        with self._alone():
            return run_ask(model, request, opened, watch, told)

    def locate(self, image: ImageInput, question: str, **settings: Unpack[AskKeywords]) -> Localization:
        """Where `ask` would crop, without answering: half the work of an answer with rel-att.

        `settings` are those of `ask` that say how to look. The picture's prefix is kept for an ask that
        follows. Raises SettingError for method "none", and what `ask` raises.
        """
        params = replace(AskParams.of(settings), first_answer=False, max_new_tokens=1, when=ALWAYS)
        if params.method == NONE:
            raise SettingError("method 'none' finds no crop; give another one")
        self._model.tools.prepare(params.method)
        request, watch = plan_request(self._model, question, params), Stopwatch()
        assert request.localizer is not None, "every other method has one"
        opened = opened_picture(self._model, request, source_of(image), watch)
        with self._alone(), encode(self._model, request, opened, watch) as state:
            name_target(state, request)
            prefill(state)
            return request.localizer.locate(state)

    @contextlib.contextmanager
    def _alone(self) -> Iterator[None]:
        """While no other ask is answered. Raises SettingError inside another one's callback."""
        self._refuse_inside()
        with self._lock:
            self._asking = threading.get_ident()
            try:
                yield
            finally:
                self._asking = None

    def _refuse_inside(self) -> None:
        if self._asking == threading.get_ident():
            raise SettingError(
                "this engine was asked inside on_first_answer of an ask, which has not ended; ask once that "
                "has returned, or another engine"
            )

    def ask_batch(
        self,
        items: Iterable[tuple[ImageInput, str]],
        *,
        return_errors: bool = False,
        **settings: Unpack[AskKeywords],
    ) -> list[Any]:
        """Answer every (image, question), with the same results as one by one but for last bits.

        They go through the stages several at a time and share what they can: see serving. One bad item does
        not lose the others: all are asked, then BatchError is raised, its `results` holding an Answer or a
        ViCropError for each; with `return_errors` that list is returned instead.
        """
        from vicrop_engine.serving.ask_batch import answer_all

        self._refuse_inside()
        results = answer_all(self, items, AskParams.of(settings))
        if not return_errors and any(isinstance(result, ViCropError) for result in results):
            raise BatchError(results)
        return results


def _whole(name: str, value: int | None, least: int) -> int | None:
    """A whole number from `least` up, or None. Raises SettingError."""
    value = plain_int(value)
    if value is not None and (isinstance(value, bool) or not isinstance(value, int) or value < least):
        raise SettingError(f"got {name} {shown(value)}, wanted a whole number from {least} up")
    return value
