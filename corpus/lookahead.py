"""Work that threads do ahead of the caller, a bounded number of results at a time."""

from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from typing import TypeVar

Item = TypeVar("Item")
Result = TypeVar("Result")


def ahead(
    function: Callable[[Item], Result],
    items: Iterable[Item],
    threads: int,
    most: int,
    *,
    finishes: bool = False,
) -> Iterator[Result]:
    """Yield `function(item)` for each item, in order; `threads` compute at most `most` ahead.

    An interruption waits for no thread, or with `finishes` for all that was handed to them.
    """
    batches = ([item] for item in items)
    for [result] in batches_ahead(function, batches, threads, most, finishes=finishes):
        yield result


def batches_ahead(
    function: Callable[[Item], Result],
    batches: Iterable[Iterable[Item]],
    threads: int,
    most: int,
    *,
    finishes: bool = False,
) -> Iterator[list[Result]]:
    """Yield the results of each batch of items, in order; at most `most` batches are ahead.

    Threads share the items of a batch. An error of the function is raised where its batch is read.
    """
    pool, wait = ThreadPoolExecutor(threads), True
    waiting: deque[list[Future[Result]]] = deque()
    try:
        for batch in batches:
            waiting.append([pool.submit(function, item) for item in batch])
            if len(waiting) > most:
                yield [future.result() for future in waiting.popleft()]
        while waiting:
            yield [future.result() for future in waiting.popleft()]
    except KeyboardInterrupt:
        wait = finishes
        raise
    finally:
        pool.shutdown(wait, cancel_futures=not wait)
