"""Reading ahead: the next batch of files or frames is decoded while the network processes the current one."""

from __future__ import annotations

from collections.abc import Generator
from concurrent.futures import ThreadPoolExecutor

from ultralytics.data.loaders.files import InferenceSource, Item


def read_ahead(source: InferenceSource) -> Generator[Item, None, None]:
    """Yield the batches of a source in their order; those of files come from a thread, one batch ahead.

    At most two batches are in memory. An error of the source is raised in the place of its batch. The thread ends with
    the generator, also when that is dropped; live sources, whose newest frame counts, and a single batch need none.
    """
    if not source.can_run_ahead:
        yield from source
        return
    batches = iter(source)
    pool = ThreadPoolExecutor(1, thread_name_prefix="read_ahead")
    try:
        coming = pool.submit(next, batches, None)
        while (item := coming.result()) is not None:
            coming = pool.submit(next, batches, None)
            yield item
            del item  # the batch after the next is decoded without it
    finally:
        pool.shutdown(cancel_futures=True)  # waits for what is being decoded
        if isinstance(batches, Generator):
            batches.close()
