"""What the kernel knows about a port: queues, drops, half-open connections, closed windows.

sock_diag over netlink, the interface of `ss`, asked and unpacked with `struct`. pyroute2 speaks it too,
but builds an object with all attributes for every socket: 0.6 s of CPU for 2,000 connections where this
takes a few milliseconds. One module for listeners and connections is then less than two libraries.
The kernel filters by local port (`idiag_sport` of the request), so other sockets cost a look at the
hash table and no message. No privilege is needed.

Sources: linux/inet_diag.h, linux/sock_diag.h, linux/tcp.h; net/ipv4/inet_diag.c for what the fields
mean in each state.
"""

from __future__ import annotations

import errno
import os
import socket
import struct
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from services.metrics.readings import Cached, Growth

CONNECTIONS_FRESH_SECONDS = 5.0
REPLY_SECONDS = 2.0
RECEIVE_BYTES = 65536

NETCOUNTERS = (
    "ListenOverflows", "ListenDrops", "TCPReqQFullDrop", "TCPReqQFullDoCookies", "SyncookiesSent",
    "SyncookiesRecv", "TCPAbortOnOverflow", "TCPTimeouts", "TCPSynRetrans", "TCPFromZeroWindowAdv",
    "TCPToZeroWindowAdv", "DelayedACKs",
)  # fmt: skip
"""Counters of a whole network namespace: the TcpExt lines of /proc/net/netstat."""

NETLINK_SOCK_DIAG = 4
SOCK_DIAG_BY_FAMILY = 20
NLMSG_ERROR, NLMSG_DONE = 2, 3
NLM_F_REQUEST, NLM_F_DUMP = 0x001, 0x300
NO_COOKIE = 0xFFFFFFFF

ESTABLISHED, SYN_RECV, FIN_WAIT1, FIN_WAIT2, CLOSE_WAIT, LAST_ACK, LISTEN, CLOSING = 1, 3, 4, 5, 8, 9, 10, 11
OPEN_STATES = (ESTABLISHED, SYN_RECV, FIN_WAIT1, FIN_WAIT2, CLOSE_WAIT, LAST_ACK, CLOSING)
"""All but TIME_WAIT, which holds no queue. SYN_RECV brings the request sockets (NEW_SYN_RECV) along."""

INFO, SKMEMINFO = 2, 7
"""Attributes; bit `number - 1` of the request's `idiag_ext` asks for one."""

MESSAGE_HEADER = struct.Struct("=IHHII")
REQUEST = struct.Struct("=BBBxI2s46xII"[:-2] + "I")
