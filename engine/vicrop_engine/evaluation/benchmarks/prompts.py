"""How three harnesses word questions, letter by letter. Their flaws are kept."""

from __future__ import annotations

import re
from dataclasses import replace

from vicrop_engine.evaluation.benchmarks.benchmark import Prompt, Write
from vicrop_engine.evaluation.question import Question
from vicrop_engine.evaluation.scorers.scorer import LMMS_EVAL, PAPER, VLMEVALKIT
from vicrop_engine.model.prompts import SENTENCE

SENTENCE_BELOW = "\n" + SENTENCE.strip()
LETTER_SENTENCE = "\nAnswer with the option's letter from the given choices directly."
PAPER_TOKENS = 20
OPEN_TOKENS = 128  # where a harness sets no limit, or one of thousands
LEFT_OPEN = "the harness sets no limit of tokens: 128 are taken"
VLMEVALKIT_NOTE = "the harness gives LLaVA 2,048 tokens: 128 are taken"
_OPTION = re.compile(r"\([A-D]\)\s*([^()]+?)(?=\s*\([A-D]\)|$)")
_MME_ASKS = (
    "Select the best answer to the above multiple-choice question based on the image. "
    "Respond with only the letter (A, B, C, D, or E) of the correct option."
)


def paper(question: Question) -> str:
    """The question, a space, and the sentence of the paper's template."""
    return question.text + SENTENCE


def first_line(question: Question) -> str:
    """The question of V* without its options, in the paper's template."""
    return question.text.split("\n")[0] + SENTENCE


def sentence_below(question: Question) -> str:
    """The question, and the sentence on a line of its own."""
    return question.text + SENTENCE_BELOW


def capitalised(question: Question) -> str:
    """The same with a capital first and everything else in small letters, names too."""
    return question.text.capitalize() + SENTENCE_BELOW


def stripped(question: Question) -> str:
    """The same without space around the question."""
    return question.text.strip() + SENTENCE_BELOW


def plain(question: Question) -> str:
    """The question alone."""
    return question.text


def vstar(question: Question) -> str:
    """lmms-eval's for V*: options as "A. …"; the last keeps the sentence that the data set brings along."""
    options = _OPTION.findall(question.text)
    if not options:
        return question.text + LETTER_SENTENCE
    lines = [f"{letter}. {option.strip()}" for letter, option in zip("ABCD", options, strict=False)]
    return "\n".join([question.text.split("(A)")[0].strip(), *lines]) + LETTER_SENTENCE


def lettered_lines(question: Question) -> str:
    """The options, "A. …" a line, each line ended."""
    return "".join(f"{letter}. {option}\n" for letter, option in question.lettered.items())


def hr_bench(question: Question) -> str:
    """lmms-eval's for HR-Bench."""
    return f"{question.text.strip()}\n{lettered_lines(question)}Answer the option letter directly."


def cv_bench(question: Question) -> str:
    """lmms-eval's for CV-Bench: a note before the prompt that the data set brings."""
    letters = ", ".join(question.lettered)
    note = f"Note: You only need to respond with {letters} without providing any additional information.\n"
    return f"{note}\n{question.wording}"


def mme(question: Question) -> str:
    """lmms-eval's for MME-RealWorld; its own post_prompt is not used there."""
    return f"{_mme_choices(question)}{_MME_ASKS}\nThe best answer is: "


def vlmevalkit_mme(question: Question) -> str:
    """VLMEvalKit's: a space before the line's end instead of one after the colon."""
    return f"{_mme_choices(question)}{_MME_ASKS} \nThe best answer is:"


def vlmevalkit_options(question: Question) -> str:
    """VLMEvalKit's for questions with options."""
    ends = "Please select the correct answer from the options above. \n"
    return f"Question: {question.text}\nOptions:\n{lettered_lines(question)}{ends}"


def vlmevalkit_vstar(question: Question) -> str:
    """The same of the question that V* has above its options."""
    return vlmevalkit_options(replace(question, text=question.text.split("\n")[0]))


def wording(question: Question) -> str:
    """The prompt that the data set brings."""
    return question.wording


def _mme_choices(question: Question) -> str:
    return "\n".join([f"{question.text} The choices are listed below:", *question.options, ""])


PAPER_PROMPT = {PAPER: Prompt("{question}" + SENTENCE, paper, PAPER_TOKENS)}
VLMEVALKIT_PROMPT = {
    VLMEVALKIT: Prompt("{question}" + SENTENCE_BELOW, sentence_below, OPEN_TOKENS, note=VLMEVALKIT_NOTE)
}


def vlmevalkit_letters(write: Write = vlmevalkit_options) -> dict[str, Prompt]:
    """VLMEvalKit's for questions with options."""
    template = (
        "Question: {question}\nOptions:\nA. {option}\n…\n"
        "Please select the correct answer from the options above. \n"
    )
    return {VLMEVALKIT: Prompt(template, write, OPEN_TOKENS, note=VLMEVALKIT_NOTE)}


def lmms_sentence(max_new_tokens: int) -> dict[str, Prompt]:
    """lmms-eval's for short answers."""
    return {LMMS_EVAL: Prompt("{question}" + SENTENCE_BELOW, sentence_below, max_new_tokens)}
