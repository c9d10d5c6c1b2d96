"""Shared memory: what several processes write is what one reads."""

import os

from services.metrics import slots
from services.metrics.sampling import Sampler

WORKERS, REQUESTS = 4, 5000


def work(shared: slots.Slots, number: int) -> None:
    block = shared.worker(number)
    sampler = Sampler(block, "1")
    for _ in range(REQUESTS):
        block[slots.REQUESTS["200"]] += 1
        sampler.record(("service", 30_000 * (number + 1), 1))
        sampler.publish()


def test_slots_of_forked_processes_add_up():
    shared = slots.Slots(WORKERS)
    children = []
    for number in range(WORKERS):
        child = os.fork()
        if not child:
            work(shared, number)
            os._exit(0)
        children.append(child)
    assert [os.waitpid(child, 0)[1] for child in children] == [0] * WORKERS
    blocks = [shared.worker(number) for number in range(WORKERS)]
    assert [block[slots.REQUESTS["200"]] for block in blocks] == [REQUESTS] * WORKERS
    assert [block[slots.STAGE_SUM_NS["service"]] for block in blocks] == [
        REQUESTS * 30_000 * (number + 1) for number in range(WORKERS)
    ]
    assert sum(sum(block[slot] for slot in slots.STAGE_BUCKETS["service"]) for block in blocks) == WORKERS * REQUESTS
    assert not any(shared.main)


def test_slots_blocks_do_not_share_a_cache_line():
    assert slots.SLOTS_PER_BLOCK * 8 % 64 == 0


def test_code_without_a_slot_of_its_own_counts_with_its_class():
    assert slots.REQUESTS["418"] == slots.REQUESTS["4xx"]
    assert slots.REQUESTS["777"] == slots.REQUESTS["other"]
    assert slots.REQUESTS["404"] != slots.REQUESTS["4xx"]
