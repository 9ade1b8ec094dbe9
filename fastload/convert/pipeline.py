"""Runs a function over tasks in threads and hands the results back in order, within a budget of memory."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Generator, Iterable
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Protocol, TypeVar


class Task(Protocol):
    """Something to do that holds ``num_bytes`` of memory until its result has been taken."""

    @property
    def num_bytes(self) -> int: ...


TaskType = TypeVar("TaskType", bound=Task)
Result = TypeVar("Result")


def in_order(
    function: Callable[[TaskType], Result],
    tasks: Iterable[TaskType],
    *,
    workers: int,
    most_bytes: int,
    stop: Callable[[], None],
) -> Generator[Result, None, None]:
    """Yields ``function(task)`` for each task, in the order of the tasks.

    At most four tasks for each worker and ``most_bytes`` (or one task) are under way. Threads, because decoding
    releases the interpreter's lock, and because processes outlive a parent that is killed.

    Args:
        stop: Called when the caller gives up, before the threads are waited for; makes running tasks end early.
    """
    pending: deque[tuple[Future[Result], int]] = deque()
    under_way = 0
    executor = ThreadPoolExecutor(workers, thread_name_prefix="fastload-convert")
    try:
        for task in tasks:
            while pending and (len(pending) >= 4 * workers or under_way + task.num_bytes > most_bytes):
                future, size = pending.popleft()
                yield future.result()
                under_way -= size
            pending.append((executor.submit(function, task), task.num_bytes))
            under_way += task.num_bytes
        while pending:
            yield pending.popleft()[0].result()
    except BaseException:
        stop()
        raise
    finally:
        executor.shutdown(wait=True, cancel_futures=True)
