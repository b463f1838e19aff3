"""Which option an answer means, by the rules of each harness; "" or "Z" where none can be told."""

from __future__ import annotations

import re
from collections.abc import Mapping

UNTOLD = "Z"
_FIRST_OF = (  # on the answer in capitals, the first that matches
    r"^([A-D])\s*[\.)\]]*",
    r"(?:THE\s+)?(?:ANSWER|CHOICE|OPTION)(?:\s+IS)?[\s:]+([A-D])",
    r"\(([A-D])\)",
    r"([A-D])\s*(?:\.|\)|])",
    r"(?:^|\s)([A-D])(?:\s|$)",
)
_BEGINS = re.compile(r"[(\s]*([A-Z])[).\s]*", re.IGNORECASE)
_MME_PREFIXES = (
    *("The best answer is", "The correct answer is", "The answer is", "The answer"),
    *("The best option is", "The correct option is", "Best answer:", "Best option:"),
)
_MME_WORDS = 10
_REFUSALS = (
    "Sorry, I can't help with images of people yet.",
    "I can't process this file.",
    "I'm sorry, but without the image provided",
    "Cannot determine the answer",
)
_FAILED = "Failed to obtain answer via API"
_SIGNS = str.maketrans(dict.fromkeys(".()[],:;!*#{}", " "))
_TOLD_AT_LENGTH = re.compile(r"(?:correct\s+)?answer\s+is\s+\**([ABCD])\**", re.IGNORECASE)
_FROM_THE_END = 5  # words among which a letter has to be


def vstar_letter(answer: str) -> str:
    """lmms-eval's for V*: an answer that begins with a letter from A to D means that, whatever follows."""
    capitals = answer.strip().upper()
    for pattern in _FIRST_OF:
        found = re.search(pattern, capitals, re.IGNORECASE)
        if found:
            return found[1].upper()
    letters = re.findall("[A-D]", capitals)
    return letters[0] if len(letters) == 1 else ""


def cv_letter(answer: str) -> str:
    """lmms-eval's for CV-Bench: the letter that the answer begins with, in or without brackets."""
    found = _BEGINS.match(answer.strip())
    return found[1].upper() if found else ""


def mme_letter(answer: str, options: tuple[str, ...] = ("(A)", "(B)", "(C)", "(D)", "(E)")) -> str:
    """Both harnesses' for MME-RealWorld: the first capital A to E, else the first option that holds it.

    They call it with bare letters as options, so that an empty answer means A.
    """
    left = answer.strip()
    for prefix in _MME_PREFIXES:
        left = left.replace(prefix, "")
    found = re.search("[ABCDE]", left)
    if found:
        return found[0]
    if len(left.split()) > _MME_WORDS:
        return ""
    return next((option[1] for option in options if left.lower() in option.lower()), "")


def inferred(answer: str, options: Mapping[str, str]) -> str:
    """lmms-eval's for HR-Bench before it asks a judge: a letter among the words, else an option's text."""
    return _letter_among(answer, options, late=False) or _text_within(answer, options)


def inferred_late(answer: str, options: Mapping[str, str]) -> str:
    """VLMEvalKit's: the letter among the last words, or told at length; no option's text in a long answer."""
    found = _letter_among(answer, options, late=True)
    if found or len(answer.lower()) > 2 * sum(map(len, options.values())):
        return found
    return _text_within(answer, options)


def _letter_among(answer: str, options: Mapping[str, str], *, late: bool) -> str:
    if _FAILED in answer:
        return ""
    if any(refusal in answer for refusal in _REFUSALS):
        return UNTOLD
    words = answer.translate(_SIGNS).split()
    said = [letter for letter in options if letter in words]
    if len(said) == 1 and not (late and words.index(said[0]) <= len(words) - _FROM_THE_END):
        return said[0]
    if not said and UNTOLD in words:
        return UNTOLD
    told = _TOLD_AT_LENGTH.search(answer) if late else None
    return told[1].upper() if told and told[1].upper() in options else ""


def _text_within(answer: str, options: Mapping[str, str]) -> str:
    lowered = answer.lower()
    within = [letter for letter, option in options.items() if option.lower() in lowered]
    return within[0] if len(within) == 1 else ""
