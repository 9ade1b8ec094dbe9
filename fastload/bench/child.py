"""The process of one contestant: answers requests, one line of JSON each way, so that nothing of it mixes with others.

Threads, memory, processor time and imports of the contestants are kept apart, and only one works at a time.
"""

from __future__ import annotations

import dataclasses
import json
import os
import sys
import traceback
from collections.abc import Callable
from typing import Any

from fastload.bench.task import Round, Task
from fastload.errors import FastloadError


def _open(specification: dict[str, Any]) -> Any:
    kind = specification["kind"]
    if kind == "model":
        from fastload.bench.model import ModelContestant

        return ModelContestant(specification["recipe"])
    task = Task(**specification["task"])
    if kind == "torch":
        from fastload.bench.torch_loader import TorchContestant

        return TorchContestant(task)
    from fastload.bench.feeding import LoaderContestant

    return LoaderContestant(task)


def _serve(answer: Callable[[dict[str, Any]], None]) -> None:
    contestant = _open(json.loads(sys.stdin.readline()))
    answer({"ready": True})
    for line in sys.stdin:
        request = json.loads(line)
        result = getattr(contestant, request.pop("do"))(**request)
        answer(dataclasses.asdict(result) if isinstance(result, Round) else result)
    contestant.close()


def main() -> None:
    """Reads the specification from the first line of stdin; answers go to what was stdout."""
    answers = os.fdopen(os.dup(1), "w", buffering=1)
    os.dup2(2, 1)  # what a library prints must not end up between the answers

    def answer(message: dict[str, Any]) -> None:
        answers.write(json.dumps(message) + "\n")

    try:
        _serve(answer)
    except (KeyboardInterrupt, BrokenPipeError):
        pass
    except BaseException as error:
        traceback.print_exc()
        expected = isinstance(error, FastloadError)
        answer({"error": str(error) if expected else traceback.format_exception_only(error)[-1].strip()})


if __name__ == "__main__":
    main()
