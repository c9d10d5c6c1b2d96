"""The same conversation with real memcached and with the application: byte for byte the same replies."""

import socket
import subprocess
import time

import pytest

from services.apps import Identity, make_application
from services.apps.memory_store import MemoryStore
from services.messages import Command

DEADLINE_SECONDS = 10
STORAGE = ("set", "add", "replace", "append", "prepend", "cas")
CONVERSATION = (
    Command("get", (b"none",)),
    Command("set", (b"a",), b"1", flags=7),
    Command("set", (b"binary",), b"\0\r\nEND\r\n\xff", flags=4294967295),
    Command("set", (b"empty",), b""),
    Command("gets", (b"a", b"none", b"empty", b"binary", b"a")),
    Command("add", (b"a",), b"2"),
    Command("add", (b"new",), b"2"),
    Command("replace", (b"none",), b"2"),
    Command("replace", (b"a",), b"20", flags=1),
    Command("append", (b"none",), b"2"),
    Command("append", (b"a",), b"30", flags=9),
    Command("prepend", (b"a",), b"10", flags=9),
    Command("gets", (b"a",)),
    Command("incr", (b"a",), delta=1),
    Command("gets", (b"a",)),
    Command("decr", (b"a",), delta=102000),
    Command("gets", (b"a",)),
    Command("decr", (b"a",), delta=5000),
    Command("get", (b"a",)),
    Command("incr", (b"a",), delta=18446744073709551615),
    Command("get", (b"a",)),
    Command("incr", (b"a",), delta=18446744073709551615),
    Command("get", (b"a",)),
    Command("incr", (b"empty",), delta=1),
    Command("incr", (b"binary",), delta=1),
    Command("decr", (b"none",), delta=1),
    *(
        command
        for value in (
            b" 5", b"5 x", b"5x", b"+5", b"-5", b"- 5", b"-9223372036854775809", b"-18446744073709551615",
            b"18446744073709551615", b"18446744073709551616", b"0000000000000000000000000005", b"9 \r\n", b"0x10",
        )
        for command in (
            Command("set", (b"n",), value, flags=2),
            Command("incr", (b"n",), delta=1),
            Command("gets", (b"n",)),
            Command("decr", (b"n",), delta=3),
            Command("gets", (b"n",)),
        )
    ),
    Command("cas", (b"none",), b"x", cas=1),
    Command("cas", (b"new",), b"x", cas=1 << 60),
    Command("gets", (b"new",)),
    Command("touch", (b"none",), exptime=0),
    Command("touch", (b"a",), exptime=100),
    Command("gat", (b"a", b"none", b"new"), exptime=100),
    Command("gats", (b"a", b"new"), exptime=0),
    Command("gat", (b"none",), exptime=0),
    Command("set", (b"gone",), b"x", exptime=-1),
    Command("get", (b"gone",)),
    Command("set", (b"past",), b"x", exptime=2592001),
    Command("get", (b"past",)),
    Command("add", (b"past",), b"y"),
    Command("touch", (b"past",), exptime=-1),
    Command("get", (b"past",)),
    Command("delete", (b"a",)),
    Command("delete", (b"a",)),
    Command("set", (b"large",), bytes(900_000)),
    Command("append", (b"large",), bytes(200_000)),
    Command("get", (b"large",)),
    Command("verbosity"),
    Command("flush_all", exptime=100),
    Command("get", (b"new",)),
    Command("flush_all"),
    Command("get", (b"new",)),
    Command("add", (b"new",), b"again"),
    Command("get", (b"new",)),
    Command("stats", (b"reset",)),
)  # fmt: skip


def on_the_wire(command):
    words = [command.name.encode()]
    if command.name in ("gat", "gats"):
        words.append(b"%d" % command.exptime)
    words += command.keys
    if command.name in STORAGE:
        words += [b"%d" % number for number in (command.flags, command.exptime, len(command.value))]
    if command.name == "cas":
        words.append(b"%d" % command.cas)
    if command.name in ("incr", "decr"):
        words.append(b"%d" % command.delta)
    if command.name == "touch" or (command.name == "flush_all" and command.exptime):
        words.append(b"%d" % command.exptime)
    if command.name == "verbosity":
        words.append(b"1")
    line = b" ".join(words) + b"\r\n"
    return line + command.value + b"\r\n" if command.name in STORAGE else line


class RealMemcached:
    """One connection. A `version` after each command marks where its reply ends."""

    def __init__(self, path):
        self.socket = socket.socket(socket.AF_UNIX)
        self.socket.settimeout(DEADLINE_SECONDS)
        self.socket.connect(path)
        self.marker = self.ask(b"version\r\n", b"\r\n")

    def ask(self, data, end):
        self.socket.sendall(data)
        reply = b""
        while not reply.endswith(end):
            reply += self.socket.recv(1 << 20)
        return reply

    def reply_to(self, command):
        return self.ask(on_the_wire(command) + b"version\r\n", self.marker).removesuffix(self.marker)


@pytest.fixture
def real_memcached(tmp_path, require_tool):
    program = require_tool("memcached")
    path = str(tmp_path / "m")
    # Without its background threads: while one of them holds an item, `decr` makes a new, shorter one
    # instead of writing in place, and the length of the value is a matter of luck.
    settings = ["-t", "1", "-o", "no_lru_crawler,no_lru_maintainer,no_slab_reassign"]
    process = subprocess.Popen([program, "-s", path, "-u", "root", *settings], stderr=subprocess.DEVNULL)
    try:
        yield connected(path)
    finally:
        process.kill()
        process.wait()


def connected(path):
    deadline = time.monotonic() + DEADLINE_SECONDS
    while True:
        try:
            return RealMemcached(path)
        except OSError:
            if time.monotonic() > deadline:
                raise
            time.sleep(0.01)


def test_conversation_is_the_one_that_real_memcached_leads(real_memcached):
    application = make_application(Identity("memcached", "0"), MemoryStore(), {}, lambda name: None, lambda: True)
    for place, command in enumerate(CONVERSATION):
        ours, real = application(command).body, real_memcached.reply_to(command)
        assert (place, on_the_wire(command)[:60], ours) == (place, on_the_wire(command)[:60], real)
