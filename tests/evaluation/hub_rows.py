"""Rows of every benchmark as they stand on the hub, without their pictures. Standard library alone.

Texts are our own; columns, types and habits (an options' sentence inside V*'s text, a list written as text in
A-OKVQA, "(A)" in CV-Bench) are the hub's.
"""

from __future__ import annotations

from typing import Any

Rows = list[dict[str, Any]]
VSTAR_ENDS = "Answer with the option's letter from the given choices directly."


def vstar_text(question: str, *options: str) -> str:
    """V*'s text: options on lines of their own, and the sentence."""
    lines = [f"({letter}) {option}" for letter, option in zip("ABCD", options, strict=False)]
    return "\n".join([question, *lines, VSTAR_ENDS])


def _textvqa() -> Rows:
    asked = [
        ("what does NASA say on the sign?", "stop"),
        ("What number is on Player's shirt?", "7"),
        ("who?", "me"),
    ]
    return [
        {
            "image_id": f"00{number}abc",
            "question_id": 34602 + number,
            "question": question,
            "question_tokens": question.lower().split(),
            "image_width": 90,
            "image_height": 60,
            "flickr_original_url": "https://example.invalid/o.jpg",
            "flickr_300k_url": "https://example.invalid/s.jpg",
            "answers": [answer] * 7 + [f"the {answer}", "other", ""],
            "image_classes": ["Sign"],
            "set_name": "val",
            "ocr_tokens": ["STOP"],
        }
        for number, (question, answer) in enumerate(asked)
    ]


def _vstar() -> Rows:
    kinds = ("direct_attributes", "relative_position", "direct_attributes")
    texts = (
        vstar_text("What is the material of the glove?", "rubber", "cotton", "kevlar", "leather"),
        vstar_text("Is the red car on the left or right side of the dog?", "right", "left"),
        vstar_text("What is the color of the sign ?", "Deep blue", "red", "green", "dark  grey"),
    )
    return [
        {"text": text, "label": "ABD"[number], "question_id": str(number), "category": kinds[number]}
        for number, text in enumerate(texts)
    ]


def _pope(*categories: str) -> Rows:
    return [
        {
            "id": str(number),
            "question_id": str(1 + categories[:number].count(category)),
            "question": (" Is there a dog in the image?", "Is there a cup in the image?\n")[number % 2],
            "answer": ("yes", "no")[number % 2],
            "image_source": "COCO_val2014_000000310196",
            "category": category,
        }
        for number, category in enumerate(categories)
    ]


def _docvqa() -> Rows:
    return [
        {
            "questionId": str(49153 + number),
            "question": question,
            "question_types": kinds,
            "docId": 14465 + number,
            "ucsf_document_id": "pybv0228",
            "ucsf_document_page_no": "81",
            "answers": answers,
            "data_split": "val",
        }
        for number, (question, kinds, answers) in enumerate(
            [
                ("What is the 'actual' value per 1000, during the year 1975?", ["table/list"], ["0.28"]),
                ("What is the name of the university?", ["form", "layout"], ["University of Here", "Here"]),
            ]
        )
    ]


def _infovqa() -> Rows:
    return [
        {
            "questionId": str(98313 + number),
            "question": question,
            "answers": answers,
            "answer_type": ["single span"],
            "image_url": "https://example.invalid/i.jpeg",
            "operation/reasoning": ["counting"][:number],
            "ocr": '{"PAGE": []}',
            "data_split": "val",
        }
        for number, (question, answers) in enumerate(
            [
                ("Which platform has heavy female audience?", ["pinterest"]),
                ("What percentage?", ["33%", "33"]),
            ]
        )
    ]


def _gqa() -> Rows:
    return [
        {
            "id": f"20{number}",
            "imageId": ("n11", "n22", "n11")[number],
            "question": question,
            "answer": answer,
            "fullAnswer": f"It is {answer}.",
            "isBalanced": True,
            "groups": {"global": "", "local": "06-bird_on"},
        }
        for number, (question, answer) in enumerate(
            [
                ("Is it overcast?", "no"),
                ("What is on the table?", "cup"),
                ("Which colour is the sign?", "red"),
            ]
        )
    ]


def _vqav2() -> Rows:
    return [
        {
            "question_type": "what is",
            "multiple_choice_answer": answer,
            "answers": [
                {
                    "answer": answer if person < 7 else "two",
                    "answer_confidence": "yes",
                    "answer_id": person + 1,
                }
                for person in range(10)
            ],
            "image_id": 262148 + number,
            "answer_type": "other",
            "question_id": 262148000 + number,
            "question": question,
        }
        for number, (question, answer) in enumerate([("Where is he looking?", "down"), ("How many?", "2")])
    ]


def _hr_bench() -> Rows:
    options = ["red", "blue", "A white dog", "12:30"]
    return [
        {
            "index": turn,
            "question": "What is the colour of the sign? ",
            "answer": "ABCD"[-turn % 4],
            "category": ("single", "cross")[turn % 2],
            **dict(zip("ABCD", [*options[turn:], *options[:turn]], strict=True)),
            "cycle_category": f"cycle_{turn}",
        }
        for turn in range(4)
    ]


def _cv_bench(*sources: str) -> Rows:
    choices = ["0", "3", "1"]
    listed = " ".join(f"({letter}) {choice}" for letter, choice in zip("ABC", choices, strict=True))
    return [
        {
            "idx": number,
            "type": "3D" if source == "Omni3D" else "2D",
            "task": "Count",
            "question": "How many signs are in the image?",
            "choices": choices,
            "answer": f"({'ABC'[number % 3]})",
            "prompt": f"How many signs are in the image? Select from the following choices.\n{listed}",
            "filename": "img/2D/x.png",
            "source": source,
        }
        for number, source in enumerate(sources)
    ]


def _mme() -> Rows:
    return [
        {
            "path": f"x/{number}.png",
            "index": f"Perception/OCR/{number}",
            "question": "What is the number on the sign?",
            "multi-choice options": [
                "(A) 7",
                "(B) 12",
                "(C) 3",
                "(D) 9",
                "(E) The image does not feature the number.",
            ],
            "answer": "ABE"[number],
            "category": "Perception/OCR with Complex Context",
            "l2-category": "license",
        }
        for number in range(3)
    ]


def _aokvqa() -> Rows:
    return [
        {
            "question_id": f"22MexNkBPpdZGX6sxbxVB{number}",
            "question": "What is the man by the bags awaiting?",
            "choices": ["skateboarder", "train", "delivery", "cab"],
            "correct_choice_idx": 3,
            "direct_answers": str(["ride"] * 5 + ["bus", "taxi", "it's there", "travel", "train"]),
            "difficult_direct_answer": False,
            "rationales": ["He has bags.", "He stands at the road.", "He looks down the street."],
        }
        for number in range(2)
    ]


def _textvqa_boxes() -> Rows:
    return [
        {
            "question": row["question"],
            "answer": ["stop"],
            "bbox": [10.0, 5.0, 20.0, 8.0],
            "dataset_id": str(row["question_id"]),
        }
        for row in _textvqa()[:2]
    ]


ROWS: dict[str, Rows] = {
    "textvqa": _textvqa(),
    "vstar": _vstar(),
    "pope": _pope("adversarial", "popular", "random"),
    "pope-adversarial": _pope("adversarial", "adversarial"),
    "pope-popular": _pope("popular", "popular"),
    "pope-random": _pope("random", "random"),
    "docvqa": _docvqa(),
    "infovqa": _infovqa(),
    "gqa": _gqa(),
    "vqav2": _vqav2(),
    "hrbench4k": _hr_bench(),
    "hrbench8k": _hr_bench(),
    "cvbench": _cv_bench("ADE20K", "COCO", "Omni3D"),
    "cvbench-2d": _cv_bench("ADE20K", "COCO", "ADE20K"),
    "cvbench-3d": _cv_bench("Omni3D", "Omni3D"),
    "mme-realworld-lite": _mme(),
    "aokvqa": _aokvqa(),
    "aokvqa-choice": _aokvqa(),
    "textvqa-boxes": _textvqa_boxes(),
}
