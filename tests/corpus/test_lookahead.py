import threading

import pytest

from ser.corpus.lookahead import ahead, batches_ahead


def test_results_are_in_order_and_only_so_many_items_are_taken_ahead():
    taken = []

    def items():
        for i in range(9):
            taken.append(i)
            yield i

    results = ahead(lambda i: i * i, items(), threads=3, most=2)
    assert next(results) == 0
    assert taken == [0, 1, 2]
    assert list(results) == [1, 4, 9, 16, 25, 36, 49, 64]


def test_threads_share_the_items_of_a_batch():
    both = threading.Barrier(2)  # one thread alone would wait for ever

    def meet(item):
        both.wait(timeout=60)
        return -item

    assert list(batches_ahead(meet, [[1, 2], [3, 4]], threads=2, most=0)) == [[-1, -2], [-3, -4]]


def test_an_error_is_raised_where_its_result_is_read():
    results = ahead(lambda i: 6 // i, [3, 2, 0, 1], threads=1, most=3)
    assert [next(results), next(results)] == [2, 3]
    with pytest.raises(ZeroDivisionError):
        next(results)


def interrupted(release):
    yield from range(3)
    release.set()
    raise KeyboardInterrupt


def test_an_interruption_waits_for_no_thread_and_cancels_what_waits():
    release, begun = threading.Event(), []

    def hold(item):
        begun.append(item)
        release.wait(timeout=60)

    with pytest.raises(KeyboardInterrupt):
        list(ahead(hold, interrupted(threading.Event()), threads=1, most=5))
    assert not release.is_set()
    release.set()
    assert begun in ([], [0])


def test_an_interruption_lets_threads_finish_what_was_handed_to_them_where_that_is_asked_for():
    release, done = threading.Event(), []

    def finish(item):
        release.wait(timeout=60)
        done.append(item)

    with pytest.raises(KeyboardInterrupt):
        list(ahead(finish, interrupted(release), threads=1, most=5, finishes=True))
    assert done == [0, 1, 2]


def test_what_is_closed_waits_for_no_thread_as_the_garbage_collector_may_close_it():
    release, done = threading.Event(), []

    def hold(item):
        if item:
            release.wait(timeout=60)
        done.append(item)
        return item

    results = ahead(hold, range(9), threads=1, most=5)
    assert next(results) == 0
    threads = [t for t in threading.enumerate() if t.name.startswith("ThreadPoolExecutor")]
    results.close()
    assert done == [0]
    release.set()
    for thread in threads:
        thread.join(60)
    assert done in ([0], [0, 1])  # the rest was cancelled


def test_who_closes_it_waits_for_what_was_handed_over_where_that_is_asked_for():
    done = []
    results = ahead(done.append, range(3), threads=1, most=5, finishes=True)
    next(results)
    results.close()
    assert done == [0, 1, 2]
