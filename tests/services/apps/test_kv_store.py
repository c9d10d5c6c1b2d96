"""`/kv/{key}`: sizes, encodings, and that repeats leave the same state."""

import pytest


def test_put_get_delete(client):
    assert client.http("GET", b"/kv/a").code == "404"
    assert client.http("PUT", b"/kv/a", b"\0\r\n\xff").code == "201"
    found = client.http("GET", b"/kv/a")
    assert (found.code, found.body, found.content_type) == ("200", b"\0\r\n\xff", b"application/octet-stream")
    assert client.http("DELETE", b"/kv/a").code == "204"
    assert client.http("GET", b"/kv/a").code == "404"


def test_repeats_leave_the_same_state(client):
    client.http("PUT", b"/kv/other", b"untouched")
    for _ in range(5):
        assert client.http("PUT", b"/kv/a", b"1").code in ("201", "204")
        assert [client.http("GET", b"/kv/a").body for _ in range(3)] == [b"1"] * 3
    codes = [client.http("DELETE", b"/kv/a").code for _ in range(3)]
    assert codes == ["204", "404", "404"]
    assert client.http("GET", b"/kv/a").code == "404"
    assert client.http("GET", b"/kv/other").body == b"untouched"


def test_key_is_decoded_after_the_path_is_split(client):
    client.http("PUT", b"/kv/a%2Fb%00%ff", b"1")
    assert client.http("GET", b"/kv/%61%2fb%00%FF").body == b"1"
    assert client.memcache("get", b"a/b\0\xff").code == "VALUE"


@pytest.mark.parametrize("key", [b"", b"k" * 251, b"%4", b"%zz", b"%"])
@pytest.mark.parametrize("method", ["GET", "PUT", "DELETE"])
def test_bad_key_is_refused(client, method, key):
    assert client.http(method, b"/kv/" + key).code == "400"


def test_longest_key_counts_decoded_bytes(client):
    assert client.http("PUT", b"/kv/" + b"%6b" * 250, b"1").code == "201"
    assert client.http("GET", b"/kv/" + b"k" * 250).body == b"1"


def test_value_of_a_mebibyte_is_the_largest(client):
    assert client.http("PUT", b"/kv/a", bytes(1 << 20)).code == "201"
    assert len(client.http("GET", b"/kv/a").body) == 1 << 20


def test_http_and_memcached_see_the_same_data(client):
    client.http("PUT", b"/kv/a", b"over http")
    assert client.memcache("get", b"a").body == b"VALUE a 0 9\r\nover http\r\nEND\r\n"
    client.memcache("set", b"a", value=b"over memcached", flags=7)
    assert client.http("GET", b"/kv/a").body == b"over memcached"
