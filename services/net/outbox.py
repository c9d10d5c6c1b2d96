"""The part of a response that the kernel has not taken yet: the rest of a piece, and the pieces behind it."""

from __future__ import annotations

import socket

from services.messages import Later, Pieces


class Outbox:
    """Holds one piece at a time; the next is made when the kernel has taken all of it (back-pressure)."""

    __slots__ = ("_iterator", "_pieces", "_rest")

    def __init__(self, rest: bytes | memoryview, pieces: Pieces | None) -> None:
        self._rest = memoryview(rest)
        self._pieces = pieces
        self._iterator = iter(pieces or ())

    def send(self, sock: socket.socket) -> int | None:
        """Send what the kernel takes of one piece; return how many bytes, None when there is nothing left to send.

        0: the next piece is not there yet (`Pieces.later`).
        Raises OSError, BlockingIOError when the kernel takes nothing; CutShortError where a piece cannot be made.
        """
        if not self._rest:
            piece = next(self._iterator, None)
            if piece is None:
                return None
            if not piece:
                return 0
            self._rest = memoryview(piece)
        sent = sock.send(self._rest, socket.MSG_DONTWAIT)
        self._rest = self._rest[sent:]
        return sent

    @property
    def later(self) -> Later | None:
        """Maker of pieces that come later, if they do."""
        return None if self._pieces is None else self._pieces.later

    def close(self) -> None:
        """Have no more pieces made: nobody takes them."""
        if self._pieces is not None:
            self._pieces.close()
