"""The page in a real browser: what is asked of the server, and what of its answer is shown."""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Any

import pytest
from playwright.sync_api import Page, Route, expect

from tests.server.running import SECONDS, demo_picture, demo_text, serving
from tests.server_page.acting import (
    COLOURS,
    HOTTEST,
    ask,
    drop_example,
    is_wider_than_its_window,
    paste_example,
    text,
    window_shares,
)
from tests.server_page.conftest import PHONE, Open
from vicrop_engine import ViCropEngine
from vicrop_engine.examples import signs
from vicrop_engine.serving.handle import RequestHandle
from vicrop_engine.serving.scheduler import Scheduler

WITHOUT_CROP, WITH_CROP = "7", "1"  # the answers about the demo picture


def test_a_dropped_picture_is_asked_about_and_all_of_the_answer_is_shown(
    open_page: Open, engine: ViCropEngine
) -> None:
    page = open_page()
    drop_example(page)
    ask(page)
    wanted = engine.ask(demo_picture(), demo_text())
    assert wanted.crop_box is not None
    assert wanted.heatmap is not None
    assert (text(page, "first"), text(page, "final")) == (wanted.answer_without_crop, wanted.answer)
    assert wanted.answer_without_crop != wanted.answer
    x0, y0, x1, y1 = wanted.crop_box
    width, height = wanted.image_size
    shares = [x0 / width, y0 / height, (x1 - x0) / width, (y1 - y0) / height]
    assert window_shares(page) == pytest.approx(shares, abs=0.004)
    assert f"{x0}, {y0} to {x1}, {y1} of {width} × {height} pixels" in text(page, "details")
    hottest = page.eval_on_selector("#heat", HOTTEST)
    row, col = divmod(int(wanted.heatmap.argmax()), wanted.heatmap.shape[1])
    assert hottest["alpha"] > 150
    assert 0.005 < hottest["seen"] < 0.9
    assert hottest["x"] == pytest.approx((col + 0.5) / wanted.heatmap.shape[1], abs=0.05)
    assert hottest["y"] == pytest.approx((row + 0.5) / wanted.heatmap.shape[0], abs=0.05)
    assert page.get_attribute("#crop", "width") == str(x1 - x0)
    assert page.eval_on_selector("#crop", COLOURS) > 100
    assert "finding the crop" in text(page, "legend")
    assert page.locator("#bar i").count() == page.locator("#legend li").count() > 4
    assert "prompt tokens" in text(page, "details")
    assert text(page, "engine") == "llava-signs · fp32 · CPU"


def test_what_was_reused_is_told(open_page: Open) -> None:
    page = open_page()
    drop_example(page)
    ask(page)
    ask(page, "What is written on the black square sign?")
    said = text(page, "details").split("reused")[1]
    reused, whole = (int(word) for word in said.split() if word.isdecimal())
    assert 0 < reused < whole


def test_heatmap_and_window_are_hidden_and_shown(open_page: Open) -> None:
    page = open_page()
    drop_example(page)
    ask(page)
    for button, drawn in (("#show-heat", "#heat"), ("#show-window", "#window")):
        expect(page.locator(drawn)).to_have_css("opacity", "1")
        page.click(button)
        expect(page.locator(drawn)).to_have_css("opacity", "0")
        expect(page.locator(button)).to_have_attribute("aria-pressed", "false")


class HeldBack(Scheduler):
    """A scheduler that stops after the first answer's first word until it is released."""

    def __init__(self, engine: ViCropEngine) -> None:
        super().__init__(engine)
        self.release = threading.Event()

    def submit(
        self, *request: Any, on_first_answer: Callable[[str], None] | None = None, **keywords: Any
    ) -> RequestHandle:
        if on_first_answer is None:
            return super().submit(*request, **keywords)

        def heard(said: str) -> None:
            on_first_answer(said)
            assert self.release.wait(SECONDS)

        return super().submit(*request, on_first_answer=heard, **keywords)


def test_the_first_answer_stands_there_while_the_crop_is_on_its_way(
    open_page: Open, engine: ViCropEngine
) -> None:
    with HeldBack(engine) as scheduler, serving(scheduler) as running:
        page = open_page(running)
        drop_example(page)
        page.fill("#question", demo_text())
        page.click("#go")
        try:
            expect(page.locator("#first")).to_have_text(WITHOUT_CROP)
            assert text(page, "final") == ""
            assert page.get_attribute("#final", "aria-busy") == "true"
            assert text(page, "go") == "Stop"
        finally:
            scheduler.release.set()
        expect(page.locator("#final")).to_have_text(WITH_CROP)
        expect(page.locator("#final")).to_have_attribute("aria-busy", "false")
        expect(page.locator("#go")).to_have_text("Ask")


def test_escape_gives_a_question_up_and_another_can_be_asked(open_page: Open, engine: ViCropEngine) -> None:
    with HeldBack(engine) as scheduler, serving(scheduler) as running:
        page = open_page(running)
        drop_example(page)
        page.fill("#question", demo_text())
        page.keyboard.press("Enter")
        try:
            expect(page.locator("#first")).to_have_text(WITHOUT_CROP)
            page.keyboard.press("Escape")
            assert page.locator("#result").is_hidden()
            assert page.locator("#error").is_hidden()
            assert text(page, "go") == "Ask"
        finally:
            scheduler.release.set()
        ask(page)
        assert text(page, "final") == WITH_CROP


def test_a_pasted_picture_is_asked_about(open_page: Open) -> None:
    page = open_page()
    paste_example(page)
    ask(page)
    assert text(page, "final") == WITH_CROP


def test_a_skipped_crop_is_said(open_page: Open, engine: ViCropEngine) -> None:
    sure = next(
        (image, example.question)
        for image, example in signs()
        if engine.ask(image, example.question, when="auto").crop_skipped
    )
    page = open_page()
    page.set_input_files("#file", sure[0])
    page.select_option("#when", "auto")
    ask(page, sure[1])
    assert "no crop was made" in text(page, "note")
    for hidden in ("#first-card", "#crop", "#show-window"):
        assert page.locator(hidden).is_hidden()
    expect(page.locator("#window")).to_have_css("opacity", "0")


def test_what_the_server_refuses_is_said_in_its_sentence(open_page: Open) -> None:
    page = open_page()
    drop_example(page)
    page.select_option("#method", "none")
    page.select_option("#high-res", "on")
    ask(page)
    assert text(page, "error") == (
        "Got high_res 'on' and method 'none', which makes no heatmap; leave one of them out."
    )
    assert page.locator("#result").is_hidden()
    page.select_option("#high-res", "off")
    ask(page)
    assert page.locator("#error").is_hidden()
    assert text(page, "final-title") == "Answer"


def test_what_is_missing_or_no_picture_is_said_without_asking(open_page: Open) -> None:
    page = open_page()
    page.click("#go")
    assert "Choose a picture first" in text(page, "error")
    drop_example(page)
    page.click("#go")
    assert "Write a question" in text(page, "error")
    page.set_input_files("#file", {"name": "notes.png", "mimeType": "image/png", "buffer": b"no picture"})
    expect(page.locator("#error")).to_contain_text("notes.png” is not a picture this browser can show")
    ask(page)  # about the picture that was there before
    assert text(page, "final") == WITH_CROP


def test_a_server_that_wants_a_key_gets_one(open_page: Open) -> None:
    def guard(route: Route) -> None:
        if route.request.headers.get("authorization") == "Bearer right":
            route.continue_()
        else:
            route.fulfill(status=401, json={"error": {"message": "this key is not known here"}})

    page = open_page()
    page.route("**/v1/chat/completions", guard)
    drop_example(page)
    assert page.locator("#key").is_hidden()
    ask(page)
    assert "wants an API key" in text(page, "error")
    expect(page.locator("#key")).to_be_focused()
    page.keyboard.type("wrong")
    page.keyboard.press("Enter")
    expect(page.locator("#error")).to_have_text("This key is not known here.")
    page.fill("#key", "right")
    page.keyboard.press("Enter")
    expect(page.locator("#final")).to_have_text(WITH_CROP)


def test_a_server_that_has_gone_is_said(open_page: Open) -> None:
    page = open_page()
    drop_example(page)
    page.route("**/v1/chat/completions", lambda route: route.abort())
    ask(page)
    assert "The server does not answer" in text(page, "error")


def tab_to(page: Page, selector: str) -> None:
    """Press Tab until the element has the focus."""
    for _ in range(12):
        page.keyboard.press("Tab")
        if page.evaluate("wanted => document.activeElement === document.querySelector(wanted)", selector):
            return
    raise AssertionError(f"{selector} is not reached with Tab")


def test_all_can_be_done_with_the_keyboard(open_page: Open) -> None:
    page = open_page()
    tab_to(page, "#example")
    page.keyboard.press("Enter")
    expect(page.locator("#question")).to_be_focused()
    expect(page.locator("#question")).to_have_value(demo_text())
    page.keyboard.press("Enter")
    expect(page.locator("#final")).to_have_text(WITH_CROP)
    tab_to(page, "#method")
    page.keyboard.type("no")
    tab_to(page, "#go")
    assert page.evaluate("getComputedStyle(document.activeElement).outlineStyle") == "solid"
    page.keyboard.press("Enter")
    expect(page.locator("#final-title")).to_have_text("Answer")
    page.keyboard.press("Shift+Tab")
    names = page.eval_on_selector_all(
        "button:not([hidden]), select, textarea, input:not([hidden])",
        "all => all.map(each => each.ariaLabel || each.innerText || each.labels[0]?.innerText)",
    )
    assert all(names), names


def test_a_phone_shows_one_column_and_nothing_to_scroll_sideways(open_page: Open) -> None:
    page = open_page(viewport=PHONE, has_touch=True, is_mobile=True, device_scale_factor=2)
    assert not is_wider_than_its_window(page)
    page.tap("#example")
    page.wait_for_selector("#picture:visible")
    page.tap("#go")
    expect(page.locator("#final")).to_have_text(WITH_CROP)
    assert not is_wider_than_its_window(page)
    expect(page.locator("#result")).to_be_in_viewport()
    stage, form = (page.locator(each).bounding_box() for each in ("#stage", "#form"))
    assert stage is not None
    assert form is not None
    assert form["y"] >= stage["y"] + stage["height"]
    for button in page.locator("button:visible, select:visible, label.quiet:visible").all():
        box = button.bounding_box()
        assert box is not None
        assert box["height"] >= 40
