"""Where a response ends, byte by byte."""

import pytest

from lab.fidelity.speech import MEMCACHE, POSTGRES, REDIS, http

READY = b"Z\x00\x00\x00\x05I"


@pytest.mark.parametrize(
    ("speech", "response"),
    [
        (http(), b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhello"),
        (http(), b"HTTP/1.1 200 OK\r\nServer: x\r\n\r\n"),
        (MEMCACHE, b"VERSION 1.6.18\r\n"),
        (REDIS, b"+PONG\r\n"),
        (POSTGRES, b"T\x00\x00\x00\x04C\x00\x00\x00\x0dSELECT 1\x00" + READY),
    ],
)
def test_response_is_whole_at_its_last_byte(speech, response):
    assert [speech.is_whole(response[:length]) for length in range(len(response) + 1)] == [False] * len(response) + [
        True
    ]
