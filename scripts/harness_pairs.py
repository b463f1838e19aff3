"""Answers and labels that reach every branch of the scorers, drawn by a seed. Standard library alone."""

from __future__ import annotations

import random
from typing import TypedDict

SEED, COUNT = 19, 2_000
_TEXT = r"""
a an the A The An none zero one two three ten Ten seven no yes red Red blue stop exit sign coca cola nike
pepsi isnt isn't dont don't cant can't couldnt've y'all yall'd've somebody'd lets let's its it's dog dogs
dog's dogs' nasa NASA St. Dr. U.S.A. 3 3. 3.5 .5 1,000 1,,000 10,000.50 12:30 5'10" 50% $5 #1 2-3 7-up
e-mail co-op www.site.com and/or over under (left) [right] {x} "quoted" 'single' <tag> user@mail back\slash
a/b snake_case tick`s plus+minus a=b yes! yes? yes, no. no; co., inc., 4th 1st café Café naïve Ångström straße
STRASSE 日本 数字 １２３ Ⅳ ½ — – … “curly” it’s élan 🙂
"""
WORDS = [*_TEXT.split(), "\u00a0x", "tab\tbed", "line\nbreak"]
SIGNS = [
    "", "", "", "", ".", ",", "!", "?", ";", " ,", " .", ". ", ", ", "-", "/", "'s", " 's", "\n", "\t",
    "  ",
]  # fmt: skip
AFFIXES = [
    "The answer is {}", "{}.", " {} ", "({})", "{}, I think", "It is {}", "It says \"{}\"", "{} {}",
    "{}\n{}",
]  # fmt: skip
OPTIONS = [
    "rubber", "cotton", "leather", "a red car", "The left side", "Blue", "dog", "no", "1", "2.5", "3",
    "café",
]  # fmt: skip
LETTERED = [
    "{l}", "({l})", "{l}.", "{l})", "[{l}]", "{l}: {t}", "({l}) {t}", "{l}. {t}", "{t}", "{T}", "{lower}",
    "{lower}.", "Answer: {l}", "The answer is {l}", "the correct answer is **{l}**.", "THE OPTION IS {l}",
    "choice {l}", "The best answer is {l}", "Best option: {l}", "The answer {t}", "Option {l} and {m}",
    "{l} or {m}", "{l}{m}", "I would say {l} because a dog is there and more words follow here now",
    "{t} and {u}", "Z", "Z.", "", " ",
    "It could be {l} but the thing in the picture is hard to see from here", "none of these", "(", ")",
    "xyz", "Sorry, I can't help with images of people yet.", "I can't process this file. {l}",
    "Cannot determine the answer", "Failed to obtain answer via API {l}", "<answer>{l}</answer>",
    "<answer> {lower} </answer>", "#{l}#", "*{l}*", "a photo of {t}",
    "{t} {t} {t} {t} {t} {t} {t} {t} {t} {t} {t} {t}", "ſ", "K", "éa", "答案 {l}", "{l}\n{m}",
    "the answer is e", "a dog sits on the left side of the big red car near the old wooden house", "E",
    "(E)", "\n{l}", "A {t}", "In A, the {t} is B", "d", "Definitely {t}",
    "{l} is the answer to this question of yours",
]  # fmt: skip
YES_NO = [
    "yes", "no", "Yes", "No", "YES", "NO", "Yes.", "No.", "yes, it is", "no, there is not", "yes and no",
    " yes ", "nope", "There is a dog.", "", " ", "y", "n", "yep", "not at all", "Yes!", "no;", "no/yes",
    "(yes)", "[no]", "es", "on", "The answer is yes", "The answer is no", "yes\nit is", "no\tdog",
    "unknown", "I do not know", "ja", "да", "はい", "yés", "eyes", "noyes", "yes-no", "YeS it Is", "no one",
    "none", "0", "1", "true", "false", "nothing", "yes yes yes yes yes yes yes yes yes ",
]  # fmt: skip


class Pair(TypedDict, total=False):
    """An answer with what is right: `labels`, and of questions with options their texts."""

    answer: str
    labels: list[str]
    options: list[str]


def words(rng: random.Random, most: int = 4) -> str:
    """A few words with signs between them."""
    count = rng.randint(1, most)
    return "".join(
        rng.choice(WORDS).strip("\n") + rng.choice(SIGNS) + rng.choice(["", " "]) for _ in range(count)
    )


def near(rng: random.Random, text: str) -> str:
    """The text, often changed a little."""
    change = rng.randrange(9)
    if change == 0:
        return text.upper()
    if change == 1:
        return text.lower().capitalize()
    if change == 2 and text:
        place = rng.randrange(len(text))
        return text[:place] + text[place + 1 :]
    if change == 3:
        return rng.choice(AFFIXES).format(text, text)
    if change == 4:
        return text + rng.choice(SIGNS)
    if change == 5:
        return f"{rng.choice(['a', 'the', 'An'])} {text}"
    if change == 6:
        return words(rng)
    return text


def answer_to(rng: random.Random, labels: list[str]) -> str:
    """Mostly something like a label, sometimes nothing."""
    return rng.choice(["", " ", words(rng)]) if rng.random() < 0.1 else near(rng, rng.choice(labels))


def votes(rng: random.Random) -> Pair:
    """Ten people's answers, several alike."""
    base = [words(rng) for _ in range(rng.randint(1, 4))]
    labels = [near(rng, rng.choice(base)) if rng.random() < 0.3 else rng.choice(base) for _ in range(10)]
    return {"answer": answer_to(rng, labels), "labels": labels}


def several(rng: random.Random) -> Pair:
    """One to four answers that are all right; empty ones among them."""
    labels = [words(rng, 6) if rng.random() < 0.97 else "" for _ in range(rng.randint(1, 4))]
    return {"answer": answer_to(rng, labels), "labels": labels}


def single(rng: random.Random) -> Pair:
    """One answer."""
    labels = [words(rng)]
    return {"answer": answer_to(rng, labels), "labels": labels}


def yes_no(rng: random.Random) -> Pair:
    """Yes or no."""
    plain = rng.random() < 0.3
    answer = rng.choice(YES_NO[: YES_NO.index("Yes.")]) if plain else near(rng, rng.choice(YES_NO))
    return {"answer": answer, "labels": [rng.choice(["yes", "no"])]}


def letters(rng: random.Random) -> Pair:
    """Four options, and a letter."""
    options = rng.sample(OPTIONS, 4)
    one, other = rng.sample(range(4), 2)
    names = {
        "l": "ABCD"[one], "m": "ABCD"[other], "lower": "abcd"[one],
        "t": options[one], "T": options[one].upper(), "u": options[other],
    }  # fmt: skip
    answer = rng.choice(LETTERED).format(**names)
    answer = near(rng, answer) if rng.random() < 0.25 else answer
    return {
        "answer": answer,
        "labels": ["ABCD"[rng.choice([one, other, rng.randrange(4)])]],
        "options": options,
    }


KINDS = {"votes": votes, "several": several, "single": single, "yes_no": yes_no, "letters": letters}


def pairs() -> dict[str, list[Pair]]:
    """COUNT pairs of each kind, the same each time."""
    found = {}
    for kind, draw in KINDS.items():
        rng = random.Random(f"{SEED} {kind}")
        found[kind] = [draw(rng) for _ in range(COUNT)]
    return found
