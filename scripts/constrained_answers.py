"""Whether answers in JSON parse and fit their schema: python scripts/constrained_answers.py --answers 500.

Schemas are drawn from a seed: objects, lists, choices, numbers, patterns and texts without an end, nested.
The embedded model never saw JSON and would write on in every text, so what is measured is the constraint.
Both answers of every ask are held against the schema by jsonschema. Exit status 1 when one does not fit.
"""

from __future__ import annotations

import argparse
import json
import random
import sys
from typing import Any

import jsonschema

from vicrop_engine import AnswerForm, ViCropEngine
from vicrop_engine.examples import signs
from vicrop_engine.serving.scheduler import Scheduler
from vicrop_engine.vicrop.answer import Answer

TOKENS = 256
AT_ONCE = 32
COLOURS = ["red", "green", "blue", "white", "black"]


def schema_of(chance: random.Random, depth: int = 0) -> dict[str, Any]:
    """A schema whose shortest answers are well below TOKENS."""
    leaves: list[dict[str, Any]] = [
        {"type": "string"},
        {"type": "string", "maxLength": chance.randint(1, 9)},
        {"type": "string", "pattern": "^[A-Z][0-9]{1,2}$"},
        {"enum": chance.sample(COLOURS, chance.randint(1, 5))},
        {"type": "integer", "minimum": 0, "maximum": chance.choice([9, 99, 1000])},
        {"type": "number"},
        {"type": "boolean"},
        {"type": ["string", "null"]},
    ]
    if depth == 2 or (depth and chance.random() < 0.5):
        return chance.choice(leaves)
    if depth and chance.random() < 0.4:
        most = chance.randint(1, 3)
        return {"type": "array", "items": schema_of(chance, depth + 1), "minItems": 1, "maxItems": most}
    names = chance.sample(["answer", "colour", "digit", "sure", "where", "seen"], chance.randint(1, 3))
    closed = chance.choice([{}, {"additionalProperties": False}])
    properties = {name: schema_of(chance, depth + 1) for name in names}
    return {"type": "object", "properties": properties, "required": names, **closed}


def fault(text: str | None, schema: dict[str, Any]) -> str | None:
    """Why the text is no answer within the schema; None where it is."""
    try:
        jsonschema.validate(json.loads(text or ""), schema)
    except (ValueError, jsonschema.ValidationError) as error:
        return f"{str(error).splitlines()[0]}: {text!r} for {json.dumps(schema)}"
    return None


def main() -> int:
    """Ask, hold against the schemas, print."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--answers", type=int, default=500)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--engine", default="llava-signs")
    options = parser.parse_args()
    chance, examples = random.Random(options.seed), signs()
    schemas = [schema_of(chance) for _ in range(options.answers)]
    wrong, tokens = [], 0
    with Scheduler(ViCropEngine.load(options.engine)) as scheduler:
        for start in range(0, len(schemas), AT_ONCE):
            batch = schemas[start : start + AT_ONCE]
            handles = []
            for schema in batch:
                path, example = chance.choice(examples)
                form = AnswerForm(json_schema=json.dumps(schema))
                handles.append(
                    scheduler.submit(path, example.question, form=form, max_new_tokens=TOKENS, deadline=600.0)
                )
            for schema, handle in zip(batch, handles, strict=True):
                answer: Answer = handle.future.result()
                tokens += len(answer.token_ids)
                texts = (answer.answer, answer.answer_without_crop)
                wrong += [found for text in texts if (found := fault(text, schema)) is not None]
    print(f"{len(schemas)} asks, two answers each, {tokens / len(schemas):.0f} tokens an answer")
    print("\n".join(wrong[:20]) or "all parse and fit their schema")
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())
