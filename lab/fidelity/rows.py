"""Every row: which signature of which model is held against which real system. To add one is to add a line here."""

from __future__ import annotations

from lab.fidelity.models import forking_store, ours, ours_for_memcache
from lab.fidelity.reals import (
    ROUND,
    real_apache,
    real_granian,
    real_gunicorn,
    real_memcached,
    real_nginx,
    real_node,
    real_postgres,
    real_redis,
    real_uvicorn,
)
from lab.fidelity.row import Row, signature
from lab.fidelity.signatures import (
    blocked,
    ending,
    half_close,
    hot,
    killed,
    memory,
    queue,
    slow_reader,
    snapshot,
    spread,
    wakeups,
)
from lab.fidelity.speech import MEMCACHE

SHARE = "%"
SEQUENTIAL = signature("busiest worker's share, one connection after another", spread.sequential_share, SHARE)
IDLE = signature("busiest worker's share of silent connections", spread.idle_share, SHARE)
AT_ONCE = signature("busiest worker's share of connections at once", spread.concurrent_share, SHARE)
RUN = signature("most connections in a row on one worker", spread.longest_run)
HAND_OVERS = signature("times that the next connection goes to another worker", spread.changes)
OWNERS = signature("workers that own six connections", spread.owners_of_six)
ESTABLISHED_WAIT = signature(
    "established connections that wait for one stopped worker", blocked.established_waiting, SHARE
)
NEW_WAIT = signature("new connections that wait for one stopped worker", blocked.new_waiting, SHARE)
BLOCKERS = signature("requests that block, until nobody is served (8: no bound seen)", blocked.occupied_by_requests)
KEEPERS = signature(
    "idle connections kept, until nobody is served (8: no bound seen)", blocked.occupied_by_idle_connections
)
SILENT = signature(
    "connections without a request, until nobody is served (8: no bound seen)", blocked.occupied_by_silent_connections
)
LOST = signature("connections that end with a killed worker", killed.lost_share, SHARE)
LOST_BEYOND = signature("connections that end with a killed worker and were not its own", killed.lost_beyond_own)
MISSING = signature("processes missing after one was killed", killed.missing_afterwards)
QUEUED = signature(f"clients connected while nobody accepts, backlog {queue.BACKLOG}", queue.queued)
REFUSED = signature("clients that are refused when the accept queue is full", queue.refused)
SERVED = signature("clients of a full accept queue that are served in the end", queue.served_in_the_end, SHARE)
HALF_CLOSED = signature("responses after the client closed its half", half_close.answered_share, SHARE)
AT_END = signature("part of a long response that arrives, asked to end in its midst", ending.received_share, SHARE)
AT_RELOAD = signature("part of a long response that arrives over a reload", ending.received_share_over_reload, SHARE)
IDLE_AT_END = signature("idle connections closed in order at the end", ending.idle_closed_in_order, SHARE)
RELOADS = signature("requests that fail over three reloads", ending.failed_over_reloads)
SLOW = signature("other clients served beside one that does not read", slow_reader.others_served, SHARE)
SAVERS = signature("processes more while it saves", snapshot.processes)
LATER = signature("values in the snapshot that were written after it began", snapshot.later_values)
COPIED = signature("pages copied for each page written while it saves", snapshot.copied_pages)
HOT = signature("threads that wake for the requests of one connection", hot.threads_at_work)
DESCRIPTORS = signature("descriptors that a connection takes", memory.descriptors_each)
PROCESSES = signature("processes that a connection adds", memory.processes_each)
WOKEN = signature("threads that a new connection wakes", wakeups.woken)

# Reasons.
ROTATING = "both add their listener anew every 16 accepts: of 48 each of three has 16; one run may come out short"
ONE_IN_TURN = "dealt out in turn: exact"
KERNEL = "the kernel's rule, the same for both: exact"
COUNTED = "a count that leaves nothing to chance: exact"
SHARDED = "every worker has a listener of its own (SO_REUSEPORT): exact"
COIN = "a hash of the addresses tosses a coin a connection: three standard deviations of the difference"
OWN = "what the dead worker owned, a third of 48; one run may come out short"

nginx = ours("nginx", workers=3, warm_up=ROUND)
nginx_one = ours("nginx", workers=1)
nodejs = ours("nodejs")
memcached = ours_for_memcache(workers=4)
round_robin = ours("nodejs", cluster=3)
shared_handle = ours("nodejs", cluster=3, scheduling="shared-handle")
reuseport = ours("reuseport", workers=3)
herd = ours("nginx", workers=3, wakeup="herd")
exclusive = ours("nginx", workers=3, wakeup="exclusive")
blocking = ours("nginx", workers=3, wakeup="blocking")
mutex = ours("nginx", workers=3, wakeup="mutex")
threads = ours("nginx", workers=3, worker_kind="thread")
echo = ours("nginx", workers=3, protocol="echo")
few = ours("nginx", workers=1, max_connections=1)
hasty = ours("nginx", workers=3, drain=0)

NGINX = (
    Row(SILENT, nginx_one, real_nginx(1), "a loop waits for all: exact", wrong=few),
    Row(HOT, nginx, real_nginx(3), "the worker that owns it: exact", wrong=ours("ramcloud", workers=4)),
    Row(DESCRIPTORS, nginx, real_nginx(3), "its socket: exact", wrong=few),
    Row(
        REFUSED,
        ours("nginx", workers=3, backlog=8),
        real_nginx(3, backlog=8),
        "silence: the client's kernel tries again: exact",
    ),
    Row(IDLE_AT_END, nginx, real_nginx(3), COUNTED),
    Row(AT_END, nginx, real_nginx(3), "what is begun comes to its end: exact", wrong=hasty),
    Row(SEQUENTIAL, nginx, real_nginx(3), ROTATING, 0.05, wrong=exclusive, quick=True),
    Row(IDLE, nginx, real_nginx(3), ROTATING, 0.05, wrong=exclusive),
    Row(
        RUN,
        nginx,
        real_nginx(3),
        "both let the listener go after 16 accepts; the first run may be shorter",
        1,
        wrong=blocking,
    ),
    Row(WOKEN, nginx, real_nginx(3), "EPOLLEXCLUSIVE wakes one worker: exact", wrong=herd, quick=True),
    Row(
        HAND_OVERS,
        mutex,
        real_nginx(3, mutex=True),
        "the holder goes on; the two others look every 500 ms, and now and then one finds it free",
        6,
        wrong=blocking,
    ),
    Row(
        ESTABLISHED_WAIT,
        nginx,
        real_nginx(3),
        "what the stopped one owns, a third of 48; one run may come out short",
        0.1,
        wrong=nodejs,
    ),
    Row(
        NEW_WAIT,
        nginx,
        real_nginx(3),
        "those that run take what the stopped one leaves: exact",
        wrong=reuseport,
        quick=True,
    ),
    Row(NEW_WAIT, reuseport, real_nginx(3, reuseport=True), COIN, 0.19, wrong=nginx),
    Row(AT_ONCE, reuseport, real_nginx(3, reuseport=True), COIN, 0.2, wrong=nginx_one),
    Row(LOST, nginx, real_nginx(3), OWN, 0.1, wrong=threads, quick=True),
    Row(MISSING, nginx, real_nginx(3), "main, or the master, starts another: exact", wrong=nodejs),
    Row(
        QUEUED,
        ours("nginx", workers=3, backlog=8),
        real_nginx(3, backlog=8),
        KERNEL,
        wrong=ours("nginx", workers=3, backlog=4),
        quick=True,
    ),
    Row(HALF_CLOSED, nginx, real_nginx(3), COUNTED, wrong=echo, quick=True),
    Row(RELOADS, nginx, real_nginx(3), COUNTED),
    Row(SLOW, nginx_one, real_nginx(1), COUNTED, wrong=few),
    Row(AT_RELOAD, nginx, real_nginx(3), "who is served by an old worker is served to the end: exact", wrong=hasty),
)
MEMCACHED = (
    Row(HOT, memcached, real_memcached(4), "the worker that owns it: exact", wrong=ours("ramcloud", MEMCACHE)),
    Row(DESCRIPTORS, memcached, real_memcached(4), "its socket: exact", wrong=few),
    Row(IDLE_AT_END, memcached, real_memcached(4), "the kernel closes what a process leaves: exact"),
    Row(
        SERVED,
        ours_for_memcache(workers=4, backlog=8),
        real_memcached(4, backlog=8),
        "who tries again is served: exact",
    ),
    Row(IDLE, memcached, real_memcached(4), ONE_IN_TURN, wrong=ours_for_memcache(workers=3), quick=True),
    Row(AT_ONCE, memcached, real_memcached(4), ONE_IN_TURN, wrong=ours_for_memcache(workers=3)),
    Row(RUN, memcached, real_memcached(4), ONE_IN_TURN, wrong=ours_for_memcache(workers=1)),
    Row(NEW_WAIT, memcached, real_memcached(4), ONE_IN_TURN, wrong=ours_for_memcache(workers=3), quick=True),
    Row(
        LOST,
        memcached,
        real_memcached(4),
        "threads die with their process: exact",
        wrong=ours_for_memcache(workers=4, worker_kind="process"),
        quick=True,
    ),
    Row(
        WOKEN,
        memcached,
        real_memcached(4),
        "main, and the worker that it hands over to: exact",
        wrong=ours("nodejs", MEMCACHE),
    ),
    Row(QUEUED, ours_for_memcache(workers=4, backlog=8), real_memcached(4, backlog=8), KERNEL),
    Row(HALF_CLOSED, memcached, real_memcached(4), COUNTED),
)
NODE = (
    Row(HOT, nodejs, real_node(), "its loop: exact", wrong=ours("ramcloud", workers=4)),
    Row(DESCRIPTORS, nodejs, real_node(), "its socket: exact", wrong=few),
    Row(REFUSED, ours("nodejs", backlog=8), real_node(backlog=8), "silence: the client's kernel tries again: exact"),
    Row(SERVED, ours("nodejs", backlog=8), real_node(backlog=8), "who tries again is served: exact", wrong=few),
    Row(IDLE_AT_END, nodejs, real_node(), COUNTED),
    Row(IDLE, round_robin, real_node(3), ONE_IN_TURN, 0.02, wrong=ours("nodejs", cluster=2), quick=True),
    Row(RUN, round_robin, real_node(3), ONE_IN_TURN, wrong=nginx),
    Row(
        WOKEN,
        shared_handle,
        real_node(3, "shared-handle"),
        "plain EPOLLIN wakes every child: exact",
        wrong=exclusive,
        quick=True,
    ),
    Row(
        NEW_WAIT,
        shared_handle,
        real_node(3, "shared-handle"),
        "those that run take what the stopped one leaves",
        wrong=reuseport,
    ),
    Row(
        NEW_WAIT,
        round_robin,
        real_node(3),
        "both pass over a child that has not taken its last connection: one waits; in a burst one or two more may",
        0.03,
        wrong=ours("memcached", workers=3),
    ),
    Row(ESTABLISHED_WAIT, round_robin, real_node(3), ONE_IN_TURN, 0.03, wrong=nodejs),
    Row(BLOCKERS, nodejs, real_node(), "one loop: exact", wrong=nginx, quick=True),
    Row(LOST, round_robin, real_node(3), ONE_IN_TURN, 0.04, wrong=nodejs),
    Row(QUEUED, ours("nodejs", backlog=8), real_node(backlog=8), KERNEL),
    Row(HALF_CLOSED, nodejs, real_node(), COUNTED, wrong=echo),
    Row(SLOW, nodejs, real_node(), COUNTED, wrong=few),
    Row(
        AT_END,
        nodejs,
        real_node(),
        "server.close() of Node 20 takes a connection for idle once its response is handed over, and cuts it off",
        differs=True,
    ),
)
PYTHON = (
    Row(
        SILENT,
        herd,
        real_gunicorn("sync", 3),
        "each occupies a worker until it says something; ours has loops",
        differs=True,
    ),
    Row(SILENT, nodejs, real_uvicorn(1), "a loop waits for all: exact", wrong=few),
    Row(RELOADS, herd, real_uvicorn(3), COUNTED),
    Row(
        RELOADS,
        reuseport,
        real_granian(3),
        "granian starts new workers before it ends the old; ours ends them first, and its listeners with them",
        differs=True,
    ),
    Row(
        WOKEN, herd, real_gunicorn("sync", 3), "every worker waits for the listener by select(): exact", wrong=exclusive
    ),
    Row(
        WOKEN,
        herd,
        real_uvicorn(3),
        "every worker's loop waits for the listener by plain EPOLLIN: exact",
        wrong=exclusive,
    ),
    Row(WOKEN, reuseport, real_granian(3), SHARDED, wrong=herd),
    Row(
        BLOCKERS,
        ours("ramcloud", workers=4),
        real_gunicorn("gthread", 1),
        "four threads execute: exact",
        wrong=ours("ramcloud", workers=2),
    ),
    Row(BLOCKERS, nodejs, real_uvicorn(1), "one loop: exact", wrong=ours("ramcloud", workers=2)),
    Row(BLOCKERS, nodejs, real_granian(1), "one loop: exact", wrong=ours("ramcloud", workers=2)),
    Row(
        KEEPERS,
        ours("ramcloud", workers=4),
        real_gunicorn("gthread", 1),
        "idle connections occupy no thread: exact",
        wrong=few,
    ),
    Row(
        SLOW,
        nodejs,
        real_gunicorn("sync", 1),
        "a worker that writes blocks: a sync worker has no loop. None of the five models does",
        differs=True,
    ),
    Row(SLOW, nodejs, real_uvicorn(1), COUNTED, wrong=few),
    Row(SLOW, nodejs, real_granian(1), COUNTED, wrong=few),
    Row(SLOW, ours("ramcloud", workers=4), real_gunicorn("gthread", 1), COUNTED, wrong=few),
    Row(MISSING, herd, real_gunicorn("sync", 3), "main, or the arbiter, starts another: exact", wrong=nodejs),
    Row(MISSING, herd, real_uvicorn(3), "main, or the supervisor, starts another: exact", wrong=nodejs),
    Row(
        MISSING,
        reuseport,
        real_granian(3, respawn=True),
        "main, or the supervisor, starts another: exact",
        wrong=nodejs,
    ),
    Row(LOST_BEYOND, herd, real_gunicorn("asgi", 3), COUNTED, wrong=threads),
    Row(LOST_BEYOND, herd, real_uvicorn(3), COUNTED, wrong=threads),
    Row(NEW_WAIT, herd, real_gunicorn("asgi", 3), "those that run take what the stopped one leaves", wrong=reuseport),
    Row(NEW_WAIT, herd, real_uvicorn(3), "those that run take what the stopped one leaves", wrong=reuseport),
    Row(NEW_WAIT, reuseport, real_granian(3), COIN, 0.19, wrong=nginx),
    Row(
        AT_END,
        nodejs,
        real_uvicorn(1),
        "what is begun comes to its end: exact",
        wrong=ours("nodejs", drain=0),
    ),
    Row(
        AT_END,
        ours("ramcloud", workers=4),
        real_gunicorn("gthread", 1),
        "what is begun comes to its end: exact",
        wrong=ours("ramcloud", workers=4, drain=0),
    ),
    Row(HALF_CLOSED, nodejs, real_uvicorn(1), COUNTED, wrong=echo),
    Row(HALF_CLOSED, nodejs, real_gunicorn("gthread", 1), COUNTED, wrong=echo),
    Row(RELOADS, herd, real_gunicorn("sync", 3), COUNTED),
    Row(QUEUED, ours("nodejs", backlog=8), real_uvicorn(1, backlog=8), KERNEL),
)
REDIS = (
    Row(IDLE_AT_END, nodejs, real_redis(), COUNTED),
    Row(SAVERS, forking_store(), real_redis(), "a forked child saves: exact"),
    Row(
        LATER,
        forking_store(),
        real_redis(),
        "the child has the moment of the fork: exact",
        wrong=forking_store("shared"),
    ),
    Row(
        COPIED,
        forking_store(),
        real_redis(),
        "the pages written, and what each server needs for itself to write them: its dictionary, its heap",
        0.15,
        wrong=forking_store("shared"),
        least_repeats=5,
    ),
    Row(BLOCKERS, nodejs, real_redis(), "one loop: exact", wrong=nginx),
    Row(SLOW, nodejs, real_redis(), COUNTED, wrong=few),
    Row(LOST, nodejs, real_redis(), "one process has all: exact", wrong=nginx),
    Row(WOKEN, nodejs, real_redis(), "one loop: exact", wrong=herd),
    Row(QUEUED, ours("nodejs", backlog=8), real_redis(backlog=8), KERNEL),
    Row(HALF_CLOSED, nodejs, real_redis(), COUNTED, wrong=echo),
)
eight = ours("memcached", workers=8, worker_kind="process")
many = ours("memcached", workers=48, worker_kind="process")
POSTGRES = (
    Row(
        PROCESSES, eight, real_postgres(), "the postmaster forks for each; ours has eight from the start", differs=True
    ),
    Row(OWNERS, eight, real_postgres(), "a process a connection, of ours while there are enough: exact", wrong=nginx),
    Row(
        ESTABLISHED_WAIT,
        many,
        real_postgres(),
        "a process a connection, of ours while there are enough: one of 48 waits",
        wrong=eight,
    ),
    Row(
        NEW_WAIT,
        eight,
        real_postgres(),
        "the postmaster forks a process for each; ours deals them out to eight that are there",
        differs=True,
    ),
    Row(
        LOST_BEYOND,
        eight,
        real_postgres(),
        "the postmaster ends every process: the dead one may have left their shared memory half written",
        differs=True,
    ),
    Row(BLOCKERS, eight, real_postgres(), "each blocks its own process: exact", wrong=nodejs),
    Row(HALF_CLOSED, eight, real_postgres(), COUNTED, wrong=echo),
)
APACHE = (
    Row(
        HOT,
        ours("ramcloud", workers=4, dispatch="request-fifo"),
        real_apache("event", 4),
        "one waits for it, and the four that execute take turns: exact",
        wrong=ours("ramcloud", workers=4),
    ),
    Row(
        SILENT,
        ours("ramcloud", workers=4),
        real_apache("event", 4),
        "a thread waits for a connection's first request; only later ones wait in the listener's epoll",
        differs=True,
    ),
    Row(RELOADS, blocking, real_apache("prefork", 3), COUNTED),
    Row(QUEUED, ours("nginx", workers=3, wakeup="blocking", backlog=8), real_apache("prefork", 3, backlog=8), KERNEL),
    Row(
        SEQUENTIAL,
        blocking,
        real_apache("prefork", 3),
        "children that block in accept() are woken first in, first out",
        0.02,
        wrong=exclusive,
    ),
    Row(
        RUN,
        blocking,
        real_apache("prefork", 3),
        "children that block in accept() are woken first in, first out",
        wrong=nginx,
    ),
    Row(
        WOKEN,
        blocking,
        real_apache("prefork", 3),
        "ours wakes its loop's thread, too: an acceptor thread hands over to it",
        differs=True,
    ),
    Row(
        KEEPERS,
        ours("ramcloud", workers=4),
        real_apache("event", 4),
        "idle connections occupy no thread: exact",
        wrong=few,
    ),
    Row(
        KEEPERS,
        nginx,
        real_apache("prefork", 3),
        "an idle connection occupies its process; ours has loops",
        differs=True,
    ),
    Row(
        KEEPERS, nginx, real_apache("worker", 4), "an idle connection occupies its thread; ours has loops", differs=True
    ),
    Row(LOST_BEYOND, blocking, real_apache("prefork", 60), COUNTED, wrong=threads),
    Row(MISSING, blocking, real_apache("prefork", 3), "main, or the parent, starts another: exact", wrong=nodejs),
    Row(HALF_CLOSED, blocking, real_apache("prefork", 3), COUNTED, wrong=echo),
    Row(AT_RELOAD, blocking, real_apache("prefork", 3), "who is served is served to the end: exact", wrong=hasty),
    Row(SLOW, ours("ramcloud", workers=4), real_apache("event", 4), COUNTED, wrong=few),
)
ROWS: tuple[Row, ...] = NGINX + MEMCACHED + NODE + PYTHON + REDIS + POSTGRES + APACHE
