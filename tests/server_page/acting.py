"""What a user does on the page, and what they see there."""

from __future__ import annotations

from playwright.sync_api import Page

from tests.server.running import demo_text

DROP = """async () => {
  const answer = await fetch("?example"), data = new DataTransfer();
  data.items.add(new File([await answer.blob()], "street.png", { type: "image/png" }));
  return data;
}"""
PASTE = """data => {
  document.body.dispatchEvent(new ClipboardEvent("paste", { clipboardData: data, bubbles: true }));
}"""
HOTTEST = """canvas => {
  const { width, height } = canvas, pixels = canvas.getContext("2d").getImageData(0, 0, width, height).data;
  let best = [0, 0, 0], seen = 0;
  for (let at = 3; at < pixels.length; at += 4) {
    seen += pixels[at] > 0;
    if (pixels[at] > best[0]) best = [pixels[at], (at >> 2) % width, Math.floor((at >> 2) / width)];
  }
  return { alpha: best[0], x: best[1] / width, y: best[2] / height, seen: seen / width / height };
}"""
COLOURS = """canvas => {
  const seen = new Set(), { width, height } = canvas;
  const pixels = canvas.getContext("2d").getImageData(0, 0, width, height).data;
  for (let at = 0; at < pixels.length; at += 4) seen.add(pixels.slice(at, at + 3).join());
  return seen.size;
}"""


def drop_example(page: Page) -> None:
    """Drop the embedded picture on the page, as from a folder."""
    page.dispatch_event("#stage", "drop", {"dataTransfer": page.evaluate_handle(DROP)})
    page.wait_for_selector("#picture:visible")


def paste_example(page: Page) -> None:
    """Paste the embedded picture, as from a screenshot."""
    page.evaluate(PASTE, page.evaluate_handle(DROP))
    page.wait_for_selector("#picture:visible")


def ask(page: Page, question: str | None = None) -> None:
    """Ask with the button, and wait for the end of it."""
    page.fill("#question", demo_text() if question is None else question)
    page.click("#go")
    page.wait_for_selector("#facts:visible, #error:visible")


def text(page: Page, id: str) -> str:
    """The text of the element."""
    return page.inner_text(f"#{id}")


def window_shares(page: Page) -> list[float]:
    """Where the crop window is drawn on the picture: left, top, width and height as shares of it."""
    picture, window = (page.locator(each).bounding_box() for each in ("#picture", "#window"))
    assert picture is not None
    assert window is not None
    across, down = picture["width"], picture["height"]
    return [
        (window["x"] - picture["x"]) / across,
        (window["y"] - picture["y"]) / down,
        window["width"] / across,
        window["height"] / down,
    ]


def is_wider_than_its_window(page: Page) -> bool:
    """Whether one can scroll sideways."""
    return bool(page.evaluate("document.documentElement.scrollWidth > document.documentElement.clientWidth"))
