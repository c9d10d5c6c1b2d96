"""Statements of the theory that this lab was made for, numbered, and corrections of what is often said.

A check of an experiment names the statements that it `shows`, and the correction that it measures (`corrects`). What
no check names is not shown yet: `docs/theory.md`, which `make docs` writes, lists all of it.
"""

from __future__ import annotations

from typing import NamedTuple

from lab.harness.experiment import Correction


class Statement(NamedTuple):
    """One statement, in our words."""

    number: str
    """Its chapter's letter and its place."""
    text: str
    models: tuple[str, ...] = ()
    """Models whose file shows it."""
    missing: str = ""
    """Part of it that no experiment shows yet, where one shows the rest."""


CHAPTERS = {
    "P": "Process and thread",
    "E": "Establishing a connection",
    "R": "Reading and sending",
    "L": "Listener, acceptor, reader",
    "I": "Idempotency",
}

STATEMENTS = (
    Statement("P1", "A process is a set of instructions with memory of its own and an id (PID), scheduled on a CPU."),
    Statement(
        "P2",
        "A thread is a light-weight process: it shares the memory of its process, has an id, and is scheduled, too.",
        missing="what it costs to start and to switch",
    ),
    Statement("P3", "One process with one thread is simple.", models=("nodejs",)),
    Statement(
        "P4",
        "Several processes use several cores, need more memory, and are isolated from one another.",
        missing="that a crash takes down one process and not the others",
    ),
    Statement("P5", "Redis makes its backup by a fork and copy-on-write."),
    Statement(
        "P6",
        "NGINX and Postgres have many processes.",
        models=("nginx",),
        missing="a process for each connection by a model; the real Postgres has it ([beside ours](fidelity.md))",
    ),
    Statement("P7", "Threads use several cores, need less memory, and compete for what they share: races."),
    Statement("P8", "Locks and latches keep them apart, as in SQL Server."),
    Statement(
        "P9",
        "Apache and Envoy have many threads.",
        missing="Envoy's threads, each with a loop of its own; Apache's stand [beside ours](fidelity.md)",
    ),
    Statement("P10", "Too many workers cost context switches: have as many as there are cores."),
    Statement("E1", "A connection begins with a three-way handshake."),
    Statement("E2", "Listening makes a socket and two queues: one of handshakes, one of connections."),
    Statement("E3", "A SYN goes to the SYN queue, and a SYN/ACK goes out."),
    Statement("E4", "The ACK moves it to the accept queue, and there the kernel's work ends."),
    Statement(
        "E5",
        "accept() takes the connection off the queue, and a descriptor is made for it.",
        missing="that inode, file and dentry are made at accept() and not before",
    ),
    Statement("E6", "accept() makes a half-open connection an established one and moves it to the accept queue."),
    Statement("E7", "A backend that accepts too slowly lets its accept queue fill."),
    Statement("E8", "Clients that never send their ACK fill the SYN queue."),
    Statement("E9", "A small backlog turns clients away early."),
    Statement(
        "R1",
        "Data goes to the receive queue; the kernel acknowledges it, perhaps late, and updates the window; the "
        "application's read copies it.",
        missing="when an ACK is late, and when a window opens again",
    ),
    Statement("R2", "What is sent goes through the send buffer."),
    Statement("R3", "A backend that reads too slowly lets its receive queue fill."),
    Statement("R4", "Then the client slows down."),
    Statement("R5", "How large the buffers are is the kernel's choice.", missing="how buffers grow, and who limits it"),
    Statement(
        "L1",
        "Listening, accepting and reading are three roles.",
        models=("nodejs", "memcached", "ramcloud", "nginx", "reuseport"),
    ),
    Statement(
        "L2",
        "NodeJS: one process is all three, and cannot handle too many connections; the cure is more processes.",
        models=("nodejs",),
        missing="the cure",
    ),
    Statement(
        "L3",
        "Memcached: one listens and accepts, threads read; the trouble is that some threads get more connections.",
        models=("memcached",),
    ),
    Statement(
        "L4",
        "RAMCloud: one listens, accepts and reads, and hands connections evenly to workers; the trouble is that it is "
        "alone, and the cure is more of them.",
        models=("ramcloud",),
        missing="the cure",
    ),
    Statement(
        "L5",
        "NGINX: one listener, and many threads that accept and read, competing for the accept queue.",
        models=("nginx",),
    ),
    Statement(
        "L6",
        "SO_REUSEPORT: normally a port has one listener; with it each thread has a socket of its own, the kernel "
        "balances so that none is overwhelmed, and nobody competes.",
        models=("reuseport",),
        missing="that there is no contention",
    ),
    Statement("I1", "An idempotent request can be repeated without further effect."),
    Statement("I2", "A request id is looked up; if it has been processed, return at once."),
    Statement("I3", "An upsert makes a write idempotent."),
    Statement("I4", "A token (idempotency key) does so for any request."),
    Statement("I5", "GET is idempotent, and browsers and proxies treat it so."),
    Statement("I6", "POST is not, but can be made so."),
    Statement("I7", "Make sure that your GETs are."),
)

SYN_RETRIES = Correction(
    "",
    "A client repeats its SYN after 1, 3 and 7 s.",
    "It depends on `net.ipv4.tcp_syn_linear_timeouts` (Linux 6.5 and later: 4 retries a second apart, then doubling); "
    "at 0 it is 1, 3, 7 s.",
)
ABORT_ON_OVERFLOW = Correction(
    "",
    "With tcp_abort_on_overflow=1 every overflow is answered by RST.",
    "Only a final ACK that meets a full queue is; a SYN that meets one is still dropped in silence.",
)
EPOLL_IS_LIFO = Correction(
    "",
    "epoll is LIFO: who waited last is woken first.",
    "With EPOLLEXCLUSIVE one waiter keeps winning, and the kernel's wait queue decides which; plain epoll wakes all.",
)
NGINX_OVERLOADS_ONE = Correction(
    "",
    "NGINX overloads one of its workers.",
    "It did until 1.21.6; since then a worker adds its listener anew every 16 accepts, and idle workers take turns.",
)
KEY_DRAFT = Correction(
    "I4",
    "The Idempotency-Key header is a standard.",
    "Its draft (-07) expired in 2025; its rules are still the common practice.",
)
THREADS_USE_CORES = Correction(
    "P7", "Threads use several cores.", "Not to compute in Python with a GIL: there one runs at a time."
)
THREADS_ARE_CHEAPER = Correction(
    "P2", "A thread is cheaper in everything.", "It is to start and in memory; to switch to it is not."
)
WORKERS_ARE_CORES = Correction(
    "P10", "Have as many workers as cores.", "For work of the processor only; workers that wait may be many more."
)
ACCEPT_ESTABLISHES = Correction(
    "E6",
    "accept() completes the handshake.",
    "The kernel does, when the ACK comes; accept() only takes a finished connection off the queue.",
)
NODE_AND_CONNECTIONS = Correction(
    "L2",
    "NodeJS cannot handle many connections.",
    "Idle ones are cheap. Work that blocks its loop is the trouble, with few of them, too.",
)
MEMCACHED_IS_UNEVEN = Correction(
    "L3",
    "Memcached gives some threads more connections than others.",
    "All get as many, to within one; what differs is how much a connection asks for.",
)
RAMCLOUD_HANDS_CONNECTIONS = Correction(
    "L4",
    "RAMCloud hands connections to its workers.",
    "It hands over requests (WorkerManager::handleRpc), so a worker that is busy holds up no connection.",
)
NGINX_IS_THREADS = Correction(
    "L5",
    "NGINX is one process with many threads.",
    "It is worker processes, an event loop each, which inherit the listener; its thread pools take blocking calls.",
)
ONE_LISTENER_A_PORT = Correction(
    "L6",
    "Without SO_REUSEPORT only one worker can listen on a port.",
    "Workers that inherit a listening socket share it, and its queue.",
)
KERNEL_BALANCES = Correction(
    "L6",
    "SO_REUSEPORT keeps every worker from being overwhelmed.",
    "It tosses a coin for each connection, blind to what the workers do.",
)
COIN_IS_FAIR = Correction(
    "L6",
    "SO_REUSEPORT shares connections out evenly.",
    "Many of them, yes; a few come as unevenly as a coin's tosses do.",
)
LOOKING_UP_SUFFICES = Correction(
    "I2",
    "To look up whether a request id has been processed is enough.",
    "Not for duplicates that come at the same time: none of them finds the other.",
)
GET_IS_IDEMPOTENT = Correction(
    "I7",
    "GET is idempotent.",
    "By promise only: whoever gives it an effect gets that twice, from browsers and proxies that repeat it.",
)

CORRECTIONS = tuple(value for value in list(globals().values()) if isinstance(value, Correction))
"""All, those first that belong to no numbered statement."""


def statement(number: str) -> Statement:
    """The statement of that number. Raises KeyError."""
    return {each.number: each for each in STATEMENTS}[number]
