"""Work that threads do ahead of the caller, a bounded number of results at a time."""

from collections import deque
from collections.abc import Callable, Generator, Iterable
from concurrent.futures import Future, ThreadPoolExecutor
from itertools import chain
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
) -> Generator[Result]:
    """Yield `function(item)` for each item, in order; `threads` compute at most `most` ahead.

    Who interrupts or closes it waits for no thread, or with `finishes` for all that was handed to
    them: then use `contextlib.closing`.
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
) -> Generator[list[Result]]:
    """Yield the results of each batch of items, in order; at most `most` batches are ahead.

    Threads share the items of a batch. An error of the function is raised where its batch is read.
    """
    pool = ThreadPoolExecutor(threads)
    waiting: deque[list[Future[Result]]] = deque()
    try:
        for batch in batches:
            waiting.append([pool.submit(function, item) for item in batch])
            if len(waiting) > most:
                yield [future.result() for future in waiting.popleft()]
        while waiting:
            yield [future.result() for future in waiting.popleft()]
    except GeneratorExit:
        if finishes:
            pool.shutdown()
        # else the garbage collector may have closed it, amid code that has the locks which
        # `shutdown` takes; the threads end by themselves when the pool is gone
        for future in chain.from_iterable(waiting):
            future.cancel()
        raise
    except BaseException as error:
        wait = finishes or not isinstance(error, KeyboardInterrupt)
        pool.shutdown(wait, cancel_futures=not wait)
        raise
    pool.shutdown()
