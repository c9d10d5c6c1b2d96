"""Routes of the applications that real servers run when models are compared with them; lab/peers/routes_*.py have them.

`/big` responds with many bytes, `/block` keeps whoever executes it, and every other path responds with a few bytes.
"""

LONG_BYTES = 16_000_000
"""Far beyond what the socket buffers of both sides hold (tcp_wmem and tcp_rmem: 4 and 6 MiB)."""
BLOCK_SECONDS = 6.0
"""Longer than anybody waits for a response while a worker is kept."""
BIG, BLOCK = "/big", "/block"
