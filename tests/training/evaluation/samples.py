"""Candidates for tests, with everything that is beside the point filled in."""

from typing import Any

from training.records import Candidate


def candidate(**given: Any) -> Candidate:
    value = given.get("value", 7.0)
    defaults: dict[str, Any] = {
        "question_id": "q-0",
        "question": "How many apples are 3 and 4?",
        "program": "    result = 3 + 4\n    return result",
        "generator": "step_1",
        "temperature": 0.5,
        "index": 0,
        "status": "ok" if value is not None else "error",
        "value": value,
        "error": "" if value is not None else "NameError: x",
        "verdict": "failed" if value is None else "right" if value == 7 else "wrong",
        "num_tokens": 9,
        "finished": True,
    }
    return Candidate(**{**defaults, **given})
