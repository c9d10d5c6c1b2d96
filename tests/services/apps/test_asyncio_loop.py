"""An asyncio loop that the server's loop runs: it wakes for timers, threads and descriptors, and never waits by itself."""

from __future__ import annotations

import asyncio
import socket
import threading
import time
from collections.abc import Iterator

import pytest

from services.apps.asyncio_loop import AsyncioLoop, close
from services.net.event_loop import EventLoop

TOO_LONG_SECONDS = 20.0
"""A wake-up that is missing takes so long."""


@pytest.fixture
def loop() -> Iterator[AsyncioLoop]:
    loop = AsyncioLoop()
    loop.begin()
    yield loop
    loop.end()
    close(loop)


@pytest.fixture
def outer(loop) -> Iterator[EventLoop]:
    outer = EventLoop()
    outer.before_poll.append(loop.run_ready)
    outer.wait_limits.append(loop.wait_seconds)
    outer.watch(loop.fileno(), loop)
    outer.longest_wait_seconds = TOO_LONG_SECONDS
    yield outer
    outer.close()


def run(outer: EventLoop, loop: AsyncioLoop, coroutine) -> None:
    """Run the coroutine to its end, by the outer loop."""
    task = loop.run_eagerly(coroutine)
    task.add_done_callback(lambda _task: outer.wake())
    began = time.monotonic()
    while not task.done():
        outer.iteration()
    task.result()
    assert time.monotonic() - began < TOO_LONG_SECONDS - 1


def test_timer_wakes_the_servers_loop(outer, loop) -> None:
    async def sleep() -> None:
        began = time.monotonic()
        await asyncio.gather(*(asyncio.sleep(0.01 * number) for number in range(4)))
        assert time.monotonic() - began >= 0.03

    run(outer, loop, sleep())


def test_thread_wakes_the_servers_loop(outer, loop) -> None:
    async def ask_a_thread() -> None:
        assert await loop.run_in_executor(None, threading.get_ident) != threading.get_ident()
        assert await asyncio.to_thread(threading.get_ident) != threading.get_ident()

    run(outer, loop, ask_a_thread())


def test_descriptor_wakes_the_servers_loop(outer, loop) -> None:
    async def read() -> None:
        reader, writer = await asyncio.open_connection(sock=ours)
        threading.Timer(0.02, theirs.sendall, [b"line\n"]).start()
        assert await reader.readline() == b"line\n"
        writer.close()

    ours, theirs = socket.socketpair()
    with theirs:
        run(outer, loop, read())


def test_loop_that_is_always_ready_leaves_time_for_the_servers(outer, loop) -> None:
    async def spin() -> None:
        while not called:
            await asyncio.sleep(0)

    called: list = []
    outer.call_later(0.01, lambda: called.append(True))
    run(outer, loop, spin())


def test_loop_without_work_may_wait_for_ever(loop) -> None:
    loop.run_ready()
    assert loop.wait_seconds() is None
    loop.call_later(60, print)
    assert 50 < loop.wait_seconds() <= 60
    loop.call_soon(lambda: None)
    assert loop.wait_seconds() == 0


def test_first_step_is_run_at_once_in_a_task_of_its_own(loop) -> None:
    async def look() -> None:
        seen.append(asyncio.current_task())
        assert asyncio.get_running_loop() is loop
        assert loop.is_running()

    seen: list = []
    loop.call_soon(seen.append, "behind")
    task = loop.run_eagerly(look())
    assert task.done()
    assert seen == [task]
    loop.run_ready()
    assert seen == [task, "behind"]


def test_asynchronous_generator_is_closed_by_the_loop(outer, loop) -> None:
    async def generate():
        try:
            yield 1
            yield 2
        finally:
            closed.append(True)
            outer.wake()

    async def use() -> None:
        async for _ in generate():
            break

    closed: list = []
    run(outer, loop, use())
    while not closed:
        outer.iteration()


def test_task_that_is_left_is_cancelled_at_the_end() -> None:
    async def wait() -> None:
        try:
            await loop.create_future()
        finally:
            cancelled.append(True)

    cancelled: list = []
    loop = AsyncioLoop()
    loop.begin()
    loop.run_eagerly(wait())
    loop.end()
    assert cancelled == [True]
    with pytest.raises(RuntimeError):
        asyncio.get_running_loop()
    close(loop)


def test_anyios_threads_outlast_a_request(outer, loop) -> None:
    """anyio ends its threads with the task that `run_until_complete` runs: without one each request would start its own."""
    to_thread = pytest.importorskip("anyio.to_thread")

    async def ask() -> None:
        threads.append(await to_thread.run_sync(threading.get_ident))

    threads: list = []
    for _ in range(3):
        run(outer, loop, ask())
    assert len(set(threads)) == 1
