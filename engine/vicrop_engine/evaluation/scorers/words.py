"""Answers made alike before they are compared, as VQA's evaluation does it, in the ways of three harnesses.

Published flaws are kept: they are what the numbers everybody quotes were made with.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

PUNCTUATION = tuple(';/[]"{}()=+\\_-><@`,?!')
ARTICLES = {"a", "an", "the"}
NUMBERS = {
    word: str(number)
    for number, words in enumerate(
        ("none zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine", "ten")
    )
    for word in words.split()
}
# Contractions as they are written right; with any one of its apostrophes left out each is put right.
_RIGHT = """
'ow's'at 'twas i'd've i'm i've ain't aren't can't could've couldn't couldn't've didn't doesn't don't hadn't
hadn't've hasn't haven't he'd he'd've he's how'd how'll how's isn't it'd it'd've it'll ma'am might've mightn't
mightn't've must've mustn't needn't not've o'clock oughtn't shan't she'd've should've shouldn't shouldn't've
somebody'd've somebody'll somebody's someone'd someone'd've someone'll someone's something'd something'd've
something'll that's there'd there'd've there're there's they'd they'd've they'll they're they've wasn't
we'd've we've weren't what'll what're what's what've when's where'd where's where've who'd who'd've who'll
who's who've why'll why're why's won't would've wouldn't wouldn't've y'all y'all'd've y'all'll you'd you'd've
you'll you're you've
"""
_NEVER = ("i'd've", "i'm", "i've")  # stand in the table with a capital, which no word has by then
STOPS_REMOVED = 32  # at most: where a flag was meant, the published call gives its number as a count


def _contractions() -> dict[str, str]:
    found = {"somebody'd": "somebodyd"}
    for right in _RIGHT.split():
        marks = [place for place, letter in enumerate(right) if letter == "'" and right not in _NEVER]
        found |= {right[:place] + right[place + 1 :]: right for place in marks}
    return found


CONTRACTIONS = _contractions()


@dataclass(frozen=True)
class Normaliser:
    """A harness's way to make answers alike.

    `tokenises` first lowers, and takes commas and question marks out; `joins_lines` makes line ends and tabs
    spaces. Where `commas` matches, every sign of punctuation goes without a space in its place; of full stops
    go those that `stops` matches.
    """

    tokenises: bool
    joins_lines: bool
    commas: re.Pattern[str]
    stops: re.Pattern[str]

    def __call__(self, text: str) -> str:
        """The text as it is compared."""
        if self.tokenises:
            text = text.lower().replace(",", "").replace("?", "").replace("'s", " 's").strip()
        if self.joins_lines:
            text = text.replace("\n", " ").replace("\t", " ").strip()
        return words_alike(self.unpunctuated(text))

    def unpunctuated(self, text: str) -> str:
        """A sign of punctuation beside a space goes, any other becomes one; told by the text as it came."""
        in_number = self.commas.search(text) is not None
        left = text
        for sign in PUNCTUATION:
            beside = f"{sign} " in text or f" {sign}" in text
            left = left.replace(sign, "" if beside or in_number else " ")
        return self.stops.sub("", left, count=STOPS_REMOVED)


def words_alike(text: str) -> str:
    """Lower case, number words as digits, no articles, apostrophes where they belong."""
    numbered = (NUMBERS.get(word, word) for word in text.lower().split())
    return " ".join(CONTRACTIONS.get(word, word) for word in numbered if word not in ARTICLES)


_ANY_STOP = re.compile(r"(?!<=\d)\.(?!\d)")  # the look-behind is misspelt upstream: "3." loses its stop
_COMMAS, _COMMA = re.compile(r"(?<=\d),+(?=\d)"), re.compile(r"\d,\d")

LMMS_EVAL = Normaliser(True, True, _COMMAS, _ANY_STOP)
LMMS_EVAL_VQAV2 = Normaliser(False, True, _COMMAS, _ANY_STOP)
PAPER = Normaliser(False, False, _COMMA, _ANY_STOP)
VLMEVALKIT = Normaliser(False, True, _COMMA, re.compile(r"(?<!\d)\.(?!\d)"))
