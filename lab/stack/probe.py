"""Probe of a part: it is asked over HTTP, as a browser would ask it."""

from __future__ import annotations

import http.client
import ssl
from contextlib import closing
from urllib.parse import urlsplit

CONNECTIONS: dict[str, type[http.client.HTTPConnection]] = {
    "http": http.client.HTTPConnection,
    "https": http.client.HTTPSConnection,
}


def answers(root: str, path: str, seconds: float) -> bool:
    """Return whether what is at `root` says at `path`, below it, that it works. Each step takes up to `seconds`."""
    try:
        there = urlsplit(root)
        port = there.port or CONNECTIONS[there.scheme].default_port  # http.client would look for one in `::1`
        # http.client, because urllib and httpx would send this to the machine's http_proxy.
        with closing(CONNECTIONS[there.scheme](there.hostname or "", port, timeout=seconds)) as connection:
            connection.request("GET", there.path.rstrip("/") + path, headers={"Connection": "close"})
            return connection.getresponse().status < http.client.BAD_REQUEST
    except ssl.SSLCertVerificationError:
        return True  # somebody is there: whom to trust is for the browser to say
    except (OSError, http.client.HTTPException, ValueError, KeyError):  # the last two: `root` is no URL
        return False
