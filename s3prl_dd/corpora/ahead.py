"""Work that threads do ahead of who reads its results: decoding while a network computes."""

from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from typing import TypeVar

Item = TypeVar("Item")
Result = TypeVar("Result")


def ahead(
    work: Callable[[Item], Result],
    items: Iterable[Item],
    workers: int,
    limit: float,
    cost: Callable[[Item], float] = lambda item: 1.0,
) -> Iterator[Result]:
    """work(item) of each item, in their order, done by `workers` threads before it is asked for.

    What waits to be read costs `limit` at most, all items together, or is a single item: memory does not grow with
    their number. An exception comes where its result would have come; after it nothing more is begun.
    """
    waiting: deque[tuple[float, Future[Result]]] = deque()
    total = 0.0
    threads = ThreadPoolExecutor(workers)
    try:
        for item in items:
            price = cost(item)
            while waiting and total + price > limit:
                paid, result = waiting.popleft()
                total -= paid
                yield result.result()
            waiting.append((price, threads.submit(work, item)))
            total += price
        while waiting:
            yield waiting.popleft()[1].result()
    finally:
        threads.shutdown(wait=False, cancel_futures=True)
