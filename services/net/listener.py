"""Listening sockets: how they are opened, and what their accepted connections inherit.

The kernel completes handshakes and queues finished connections; `accept()` only takes one off the
queue. The queue holds min(backlog, net.core.somaxconn) + 1 connections.
"""

from __future__ import annotations

import ctypes
import errno
import os
import socket
import struct
from dataclasses import dataclass

from services.net.timestamps import SO_TIMESTAMPNS

SO_ATTACH_REUSEPORT_CBPF = 51

# Errors after which accepting again at once is of no use: nothing was taken off the queue, so the
# listener stays readable and epoll would spin.
OUT_OF_RESOURCES = frozenset({errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM})


@dataclass(frozen=True, slots=True)
class Address:
    """Address and backlog of a listening socket."""

    host: str
    port: int
    backlog: int

    @property
    def family(self) -> socket.AddressFamily:
        """IPv4, or IPv6 for a host with colons."""
        return socket.AF_INET6 if ":" in self.host else socket.AF_INET


def open_listener(address: Address, *, reuse_port: bool = False) -> socket.socket:
    """A non-blocking listening socket. Raises OSError when the port is taken or not permitted."""
    listener = bound_socket(address, reuse_port=reuse_port)
    listener.listen(address.backlog)
    listener.setblocking(False)
    return listener


def bound_socket(address: Address, *, reuse_port: bool = False) -> socket.socket:
    """A socket that holds the port without listening, so that nothing is queued on it."""
    listener = socket.socket(address.family, socket.SOCK_STREAM)
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    if reuse_port:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
    # Set on the listener, both are inherited by every accepted socket, at no system call a connection.
    listener.setsockopt(socket.SOL_SOCKET, SO_TIMESTAMPNS, 1)
    listener.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    try:
        listener.bind((address.host, address.port))
    except OSError:
        listener.close()
        raise
    return listener


def steer_by_cpu(listener: socket.socket, listeners: int) -> None:
    """Attach a program to the reuseport group: connection → listener number (CPU modulo `listeners`).

    Source: socket(7), SO_ATTACH_REUSEPORT_CBPF; the number counts in the order of `listen()`.
    """
    load_cpu = struct.pack("HBBI", 0x20, 0, 0, 0xFFFFF000 + 36)  # A = SKF_AD_OFF + SKF_AD_CPU
    modulo = struct.pack("HBBI", 0x94, 0, 0, listeners)  # A %= listeners
    give_back = struct.pack("HBBI", 0x16, 0, 0, 0)  # return A
    program = ctypes.create_string_buffer(load_cpu + modulo + give_back)
    fprog = struct.pack("HL", 3, ctypes.addressof(program))
    listener.setsockopt(socket.SOL_SOCKET, SO_ATTACH_REUSEPORT_CBPF, fprog)


def inode(sock: socket.socket) -> int:
    """The number by which sock_diag knows the socket."""
    return os.fstat(sock.fileno()).st_ino
