"""`/counters/{name}`: the number, its range, and the increment that a client names."""

import pytest


def test_counter_nobody_has_added_to_is_zero(client):
    assert client.http("GET", b"/counters/a").body == b"0\n"


def test_post_adds_one_or_what_is_asked_for(client):
    assert [client.http("POST", b"/counters/a" + by).body for by in (b"", b"?by=41", b"?by=-50")] == [
        b"1\n",
        b"42\n",
        b"-8\n",
    ]
    assert client.http("GET", b"/counters/a").body == b"-8\n"
    assert client.http("GET", b"/counters/b").body == b"0\n"


@pytest.mark.parametrize(
    "query", [b"by=", b"by=x", b"by=1.5", b"by=9223372036854775808", b"by=%D9%A1", b"cpu=1", b"block=61s"]
)
def test_bad_query_is_refused_and_changes_nothing(client, query):
    assert client.http("POST", b"/counters/a?" + query).code == "400"
    assert client.http("GET", b"/counters/a").body == b"0\n"


def test_counter_keeps_within_64_bits(client):
    assert client.http("POST", b"/counters/a?by=9223372036854775807").code == "200"
    assert client.http("POST", b"/counters/a").code == "400"
    assert client.http("GET", b"/counters/a").body == b"9223372036854775807\n"
    assert client.http("POST", b"/counters/b?by=-9223372036854775808").body == b"-9223372036854775808\n"


def test_named_increment_is_made_once(client):
    assert [client.http("PUT", b"/counters/a/increments/x?by=5").body for _ in range(3)] == [b"5\n"] * 3
    assert client.http("PUT", b"/counters/a/increments/y?by=5").body == b"10\n"
    assert client.http("PUT", b"/counters/b/increments/x?by=5").body == b"5\n"
    assert client.outcomes == {"applied": 3, "replayed": 2}


def test_refused_increment_leaves_its_name_free(client):
    client.http("POST", b"/counters/a?by=9223372036854775807")
    assert client.http("PUT", b"/counters/a/increments/x").code == "400"
    client.http("POST", b"/counters/a?by=-1")
    assert client.http("PUT", b"/counters/a/increments/x").body == b"9223372036854775807\n"
