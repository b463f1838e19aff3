"""The thing that a question asks for, found in its words by a rule, and the prompts to look for it with.

Knows words; nothing of models, pictures or prompts' templates.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Literal

Source = Literal["given", "noun phrase", "model", "question"]

MOST_WORDS = 6  # of a noun phrase


def _words(text: str) -> frozenset[str]:
    return frozenset(text.split())


DETERMINERS = _words(
    "the a an this that these those his her its their my your our any some each every another which"
)
# A phrase ends before these: they join it to something else, or say what it is or does.
ENDS = DETERMINERS | _words(
    "of in on at by with from to for into onto over under above below behind between beside near next "
    "around through against inside outside and or but if as than like is are was were be been being am do "
    "does did has have had can could will would should may might must not who whom whose what where when "
    "why how there here it they he she you i we say says said read reads show shows shown display "
    "displays tell tells mean means look looks looking make makes made wear wears wearing worn hold holds "
    "holding held carry carries carrying stand stands standing sit sits sitting ride rides riding play "
    "plays playing walk walks walking drive drives driving hang hangs hanging lie lies lying eat eats "
    "eating drink drinks drinking use uses using written printed painted placed located visible called "
    "named doing facing pointing"
)
# The picture itself, a place in it, and properties are not things to look for: what they are of is.
PICTURE = _words("image picture photo photograph scene screenshot")
PLACES = _words(
    "left right top bottom middle center centre side front back background foreground corner edge end"
)
PROPERTIES = _words(
    "name names color colour colors colours number numbers text word words title brand kind type sort size "
    "shape material make model price time date year letter letters digit digits amount value position "
    "direction pattern style gender age height answer meaning purpose total"
)
TARGET_TOKENS = 12  # the most that a model is let say of the thing asked for
ASKED = "Which object in the image is this question about: {question}"
SOUGHT = "Where is the {target}"


@dataclass(frozen=True)
class Target:
    """What is looked for, and who said so: the user, the rule, the model, or, failing all, the question."""

    text: str
    source: Source

    @property
    def prompt(self) -> str:
        """The question whose last word is the target's."""
        return SOUGHT.format(target=self.text)


def find_target(given: str | None, question: str) -> Target | None:
    """The target that was given, else the question's noun phrase; None where it has none.

    A leading article of one that was given is left out, for the prompt has one.
    """
    if given is not None:
        return Target(without_article(given), "given")
    phrase = noun_phrase(question)
    return None if phrase is None else Target(phrase, "noun phrase")


def noun_phrase(question: str) -> str | None:
    """The first phrase of an English question that names a thing; None where there is none.

    A phrase is up to MOST_WORDS words after a determiner or after "how many", and ends before any of ENDS, a
    comma or a stop. One whose last word is the picture, a place in it or a property is passed over, so that
    of "the name of the store on the left" the store is left.
    """
    words = re.findall(r"[^\W_]+(?:['’.-][^\W_]+)*(?:['’])?|[^\w\s]", question)
    for begin in _begins([word.lower() for word in words]):
        phrase = _phrase_from(words, begin)
        if phrase and phrase[-1].lower() not in PICTURE | PLACES | PROPERTIES:
            return " ".join(phrase)
    return None


def from_reply(reply: str, question: str) -> Target:
    """The target that a model named: its reply's first line without article and closing stop.

    The question itself where that leaves no word.
    """
    line = reply.strip().splitlines()[0] if reply.strip() else ""
    text = without_article(line.strip(" \t.,:;!?\"'"))
    if not re.search(r"\w", text):
        return Target(question.strip().rstrip("?"), "question")
    return Target(text, "model")


def without_article(text: str) -> str:
    """The text without a leading "the", "a" or "an", if something is left."""
    return re.sub(r"^(?:the|an?)\s+(?=\S)", "", text.strip(), flags=re.IGNORECASE)


def _begins(words: list[str]) -> list[int]:
    """Where phrases begin: behind a determiner, and behind "how many"."""
    behind_many = {at + 2 for at in range(len(words) - 1) if words[at : at + 2] == ["how", "many"]}
    return sorted({at + 1 for at, word in enumerate(words) if word in DETERMINERS} | behind_many)


def _phrase_from(words: list[str], begin: int) -> list[str]:
    phrase: list[str] = []
    for word in words[begin : begin + MOST_WORDS]:
        if word.lower() in ENDS or not re.match(r"\w", word):
            break
        phrase.append(word)
    return phrase
