"""Kernel queues: what happens to a connection before any of our code sees it."""

from __future__ import annotations

from grafana_foundation_sdk.builders.dashboard import Dashboard

from dashboards.parts import COLUMNS, Limit, Query, Section, graph, page
from dashboards.promql import MODEL, most, rate


def netstat(*counters: str) -> list[Query]:
    """The kernel's own counters, of the network namespace that the model is in: its own, or the host's."""
    counter = f'{MODEL}, counter="%s"'
    return [
        Query(rate("lab_netstat_total", "model, scope", counter % name), f"{{{{model}}}} {name} ({{{{scope}}}})")
        for name in counters
    ]


def queues() -> Section:
    """Queues of connections: half open, then established."""
    return "The two queues of a listener", [
        graph(
            "Accept queue of each listener",
            "short",
            "Filled by the kernel, emptied by accept(). Its limit (dashed) is the smaller of backlog and somaxconn.",
            [
                Query(most(f"lab_accept_queue_length{{{MODEL}}}"), "{{model}} {{listener}}"),
                Query(f"lab_accept_queue_limit{{{MODEL}}}", "{{model}} {{listener}} limit"),
            ],
            width=COLUMNS,
            shown_by=["accept-queue-overflow", "shared-or-sharded"],
        ),
        graph(
            "SYN queue",
            "short",
            "Handshakes that are not complete. It grows when the accept queue is full, or under a SYN flood.",
            [Query(most(f"lab_syn_queue_length{{{MODEL}}}"), "{{model}}")],
            shown_by=["syn-queue-overflow", "handshake"],
        ),
        graph(
            "Dropped by the listener, each second",
            "cps",
            "SYNs and final ACKs that found no room: their clients are heard a second later, or later still.",
            [Query(rate("lab_listener_drops_total", "model, listener"), "{{model}} {{listener}}")],
            limit=Limit(red=0.01),
            shown_by=["accept-queue-overflow"],
        ),
    ]


def counters() -> Section:
    """Counters of the kernel, of every namespace."""
    return "What the kernel counts", [
        graph(
            "Overflows and drops",
            "cps",
            "ListenOverflows: the accept queue was full. ListenDrops: a SYN or a handshake's last ACK was dropped, for "
            "any reason. Where models share the host's network (host), each shows the host's figure.",
            netstat("ListenOverflows", "ListenDrops", "TCPAbortOnOverflow"),
            shown_by=["accept-queue-overflow"],
        ),
        graph(
            "SYN queue overflows and cookies",
            "cps",
            "With cookies on, a full SYN queue loses nothing: the state travels in the sequence number.",
            netstat("TCPReqQFullDrop", "TCPReqQFullDoCookies", "SyncookiesSent", "SyncookiesRecv"),
            shown_by=["syn-queue-overflow"],
        ),
        graph(
            "Sent again",
            "cps",
            "TCPSynRetrans counts SYNs and SYN-ACKs. A model's own namespace (model) holds no client: there its kernel "
            "repeats SYN-ACKs whose ACK is missing, or was dropped. On the host's (host) clients of this machine "
            "are in it, too: each SYN sent again is a second that one has waited.",
            netstat("TCPSynRetrans", "TCPTimeouts"),
            shown_by=["accept-queue-overflow", "syn-queue-overflow"],
        ),
        graph(
            "Zero windows",
            "cps",
            "To: a receiver has closed its window, since its application does not read. From: it reads again.",
            netstat("TCPToZeroWindowAdv", "TCPFromZeroWindowAdv"),
            shown_by=["slow-reader-server", "slow-reader-client"],
        ),
    ]


def buffers() -> Section:
    """Bytes that wait to be read, on either side."""
    return "Buffers of established connections", [
        graph(
            "Unread and unsent bytes",
            "bytes",
            "Receive: requests that nobody has read. Send: responses that the client has not taken.",
            [
                Query(most(f"lab_socket_receive_queue_bytes{{{MODEL}}}"), "{{model}} receive"),
                Query(most(f"lab_socket_send_queue_bytes{{{MODEL}}}"), "{{model}} send"),
            ],
            shown_by=["slow-reader-server", "slow-reader-client"],
        ),
        graph(
            "Limited by the peer's window, seconds a second",
            "s",
            "How many connections, on average, had more to send than their peer's window took.",
            [Query(rate("lab_tcp_receive_window_limited_seconds_total", "model"), "{{model}}")],
            shown_by=["slow-reader-client"],
        ),
    ]


def dashboard() -> Dashboard:
    """From SYN to zero window."""
    return page(
        "kernel-queues",
        "Kernel queues",
        "What the kernel does with a connection before accept() and a request before recv(): queues, limits, drops, "
        "cookies, windows.",
        [queues(), counters(), buffers()],
    )
