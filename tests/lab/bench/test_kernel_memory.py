"""Kernel memory of connections, out of slabinfo."""

from __future__ import annotations

import socket

import pytest

from lab.bench import kernel_memory

TEXT = """slabinfo - version: 2.1
# name            <active_objs> <num_objs> <objsize> <objperslab> <pagesperslab> : tunables <limit>
kmalloc-64          900    900     64   64    1 : tunables    0    0    0 : slabdata      0      0      0
TCP                 100    143   2368   13    8 : tunables    0    0    0 : slabdata     11     11      0
eventpoll_epi        10     64    128   32    1 : tunables    0    0    0 : slabdata     18     18      0
"""


def test_objects_in_use_are_counted_with_their_size():
    assert kernel_memory.used_bytes(TEXT) == {"TCP": 236_800}


def test_half_of_what_both_ends_have_is_the_servers_and_all_of_epoll(monkeypatch, tmp_path):
    (tmp_path / "eventpoll_epi").mkdir()
    (tmp_path / "eventpoll_epi" / "slab_size").write_text("128\n")
    monkeypatch.setattr(kernel_memory, "SLABS", tmp_path)
    before, after = {"TCP": 1000, "filp": 1}, {"TCP": 5000}
    assert kernel_memory.server_bytes(before, after, 2) == {"TCP": 1000.0, "eventpoll_epi": 128}


def test_slabinfo_that_may_not_be_read_is_none(monkeypatch, tmp_path):
    monkeypatch.setattr(kernel_memory, "SLABINFO", tmp_path / "none")
    assert kernel_memory.read() is None


def test_sockets_are_seen():
    before = kernel_memory.read()
    if before is None:
        pytest.skip("needs root to read /proc/slabinfo")
    with socket.create_server(("127.0.0.1", 0), backlog=1000) as listener:
        ends = [socket.create_connection(listener.getsockname()) for _ in range(400)]
        accepted = [listener.accept()[0] for _ in ends]
        after = kernel_memory.read()
        for end in ends + accepted:
            end.close()
    assert kernel_memory.server_bytes(before, after, 400)["TCP"] == pytest.approx(2300, rel=0.4)
