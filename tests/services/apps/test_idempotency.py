"""The four strategies. Duplicates that come "meanwhile" are sent from inside the effect's own work, so no race is left
to luck; the tests with many threads and processes then show the same under real ones."""

import multiprocessing
import os
import signal
import sqlite3
import threading
from collections import Counter
from dataclasses import dataclass, field

import pytest

from services.apps import Identity, make_application
from services.apps.idempotency import LEASE_SECONDS, make_strategy
from services.apps.memory_store import RECORD_OVERHEAD_BYTES, MemoryStore
from services.apps.sqlite_store import SqliteStore
from services.messages import Request, Response

HOUR_SECONDS = 3600.0
DAY_SECONDS = 24 * HOUR_SECONDS


def post(client, key=None, target=b"/counters/a", body=b""):
    return client.http("POST", target, body, **({"idempotency_key": key} if key is not None else {}))


def value_of(client):
    return int(client.http("GET", b"/counters/a").body)


@dataclass
class Meanwhile:
    """Work during which something else happens."""

    happens: object = lambda: None
    seconds: float = 1.0

    def perform(self):
        self.happens()


@dataclass
class Effect:
    """Adds 1 to the counter `a`."""

    work: Meanwhile = field(default_factory=Meanwhile)
    scope: bytes = b"a"

    def apply(self, transaction):
        value = transaction.counter(b"a") + 1
        transaction.set_counter(b"a", value)
        return Response("200", b"%d\n" % value)

    def present(self, transaction):
        return Response("200", b"%d\n" % transaction.counter(b"a"))


# none


def test_none_applies_every_repeat(make_client):
    client = make_client(idempotency="none")
    assert [post(client, b'"k"').body for _ in range(3)] == [b"1\n", b"2\n", b"3\n"]
    assert client.outcomes == {"applied": 3}


# idempotency-key


def test_repeat_gets_the_stored_status_and_body(client):
    first = post(client, b'"k"')
    post(client, b'"other"')
    repeats = [post(client, b'"k"') for _ in range(3)]
    assert {(repeat.code, repeat.body, repeat.headers) for repeat in repeats} == {
        (first.code, first.body, b"Idempotent-Replayed: true\r\n")
    }
    assert first.headers == b""
    assert value_of(client) == 2
    assert client.outcomes == {"applied": 2, "replayed": 3}


def test_error_is_replayed_too(client):
    largest = b"/counters/a?by=9223372036854775807"
    post(client, b"first", largest)
    refused = post(client, b"second", largest)
    client.http("POST", b"/counters/a?by=-9223372036854775807")
    repeat = post(client, b"second", largest)
    assert (refused.code, repeat.code, repeat.body) == ("400", "400", refused.body)
    assert value_of(client) == 0


@pytest.mark.parametrize(
    "other",
    [{"target": b"/counters/b"}, {"target": b"/counters/a?by=2"}, {"body": b"other"}],
)
def test_key_with_another_payload_is_refused(client, other):
    post(client, b"k", b"/counters/a", b"body")
    assert post(client, b"k", **{"target": b"/counters/a", "body": b"body", **other}).code == "422"
    assert post(client, b"k", b"/counters/a", b"body").code == "200"
    assert value_of(client) == 1
    assert client.outcomes == {"applied": 1, "mismatch": 1, "replayed": 1}


def test_missing_key_is_refused_only_where_it_is_required(make_client):
    assert post(make_client()).code == "200"
    strict = make_client(require_key=True)
    assert post(strict).code == "400"
    assert post(strict, b"k").code == "200"
    assert strict.outcomes == {"missing": 1, "applied": 1}


def test_key_may_be_quoted_or_bare(client):
    post(client, b"abc-123")
    assert post(client, b'"abc-123"').headers
    post(client, rb'"a \"b\" \\"')
    assert post(client, rb'"a \"b\" \\"').headers
    assert post(client, b'"' + b"k" * 255 + b'"').code == "200"
    assert value_of(client) == 3


@pytest.mark.parametrize(
    "key", [b"", b'""', b"a b", b"a,b", b'"a', b'a"', b'"a\\b"', b'"\x01"', b'"\xe9"', b"\xe9", b"k" * 256, b'"a", "b"']
)
def test_malformed_key_is_refused(client, key):
    assert post(client, key).code == "400"
    assert value_of(client) == 0


def test_expired_key_is_a_new_one(make_client, clock):
    client = make_client(key_ttl=60.0)
    post(client, b"k")
    clock.now += 59
    assert post(client, b"k").body == b"1\n"
    clock.now += 1
    again = post(client, b"k")
    assert (again.body, again.headers) == (b"2\n", b"")
    assert post(client, b"k").body == b"2\n"
    assert client.outcomes == {"applied": 2, "replayed": 2, "expired": 1}


def test_keys_live_a_day_by_default(client, clock):
    post(client, b"k")
    clock.now += DAY_SECONDS - 1
    assert post(client, b"k").headers
    clock.now += 1
    assert not post(client, b"k").headers


def test_duplicate_meanwhile_is_told_that_the_first_still_runs(store):
    outcomes, answers = Counter(), []
    strategy = make_strategy("idempotency-key", store, lambda name: outcomes.update([name]), {})
    request = Request("POST", b"/counters/a", {b"idempotency-key": b"k"})
    first = strategy(request, Effect(Meanwhile(lambda: answers.append(strategy(request, Effect())))))
    assert (answers[0].code, answers[0].headers) == ("409", b"Retry-After: 7\r\n")
    assert first.body == strategy(request, Effect()).body == b"1\n"
    assert outcomes == {"conflict": 1, "applied": 1, "replayed": 1}


def test_slow_worker_whose_lease_was_taken_over_does_not_apply(store, clock):
    strategy = make_strategy("idempotency-key", store, lambda name: None, {})
    request = Request("POST", b"/counters/a", {b"idempotency-key": b"k"})
    answers = []

    def overslept():
        clock.now += LEASE_SECONDS + 2 * 1.0
        answers.append(strategy(request, Effect()))

    late = strategy(request, Effect(Meanwhile(overslept)))
    assert (answers[0].code, late.code) == ("200", "200")
    assert store.counter(b"a") == 1
    assert strategy(request, Effect()).headers == b"Idempotent-Replayed: true\r\n"


def test_slow_worker_that_nobody_replaced_still_applies(store, clock):
    strategy = make_strategy("idempotency-key", store, lambda name: None, {})
    request = Request("POST", b"/counters/a", {b"idempotency-key": b"k"})

    def oversleep():
        clock.now += HOUR_SECONDS

    assert strategy(request, Effect(Meanwhile(oversleep))).body == b"1\n"
    assert strategy(request, Effect()).headers == b"Idempotent-Replayed: true\r\n"


def test_full_store_answers_503_rather_than_forget_a_key(clock):
    outcomes = []
    store = MemoryStore(clock, keys_limit_bytes=2 * (RECORD_OVERHEAD_BYTES + 10))
    application = make_application(Identity("nginx", "0"), store, {}, outcomes.append, lambda: True)
    codes = [
        application(Request("POST", b"/counters/a", {b"idempotency-key": b"%d" % number})).code for number in range(3)
    ]
    assert codes == ["200", "200", "503"]
    assert store.counter(b"a") == 2
    assert outcomes == ["applied", "applied", "unavailable"]


# request-id


def test_request_id_catches_a_retry_that_comes_later(make_client, clock):
    client = make_client(idempotency="request-id", key_ttl=60.0)
    answers = [client.http("POST", b"/counters/a", x_request_id=b"r") for _ in range(3)]
    assert [(answer.code, answer.body) for answer in answers] == [("200", b"1\n")] * 3
    clock.now += 60
    assert client.http("POST", b"/counters/a", x_request_id=b"r").body == b"2\n"
    assert post(client).body == b"3\n"
    assert client.outcomes == {"applied": 3, "replayed": 2, "expired": 1}


def test_request_id_lets_a_duplicate_meanwhile_through(store):
    strategy = make_strategy("request-id", store, lambda name: None, {})
    request = Request("POST", b"/counters/a", {b"x-request-id": b"r"})
    strategy(request, Effect(Meanwhile(lambda: strategy(request, Effect()))))
    assert store.counter(b"a") == 2
    strategy(request, Effect())
    assert store.counter(b"a") == 2


@pytest.mark.parametrize("identity", [b"", b"r" * 256, b"\xff"])
def test_malformed_request_id_is_refused(make_client, identity):
    assert make_client(idempotency="request-id").http("POST", b"/counters/a", x_request_id=identity).code == "400"


def test_request_id_is_no_idempotency_key(make_client):
    make_client(idempotency="request-id").http("POST", b"/counters/a", x_request_id=b"k")
    assert post(make_client(), b"k").body == b"2\n"


# upsert


def test_upsert_takes_the_key_as_the_increments_name(make_client):
    client = make_client(idempotency="upsert")
    assert [post(client, b"k").body for _ in range(3)] == [b"1\n"] * 3
    assert client.http("PUT", b"/counters/a/increments/k").body == b"1\n"
    assert post(client).body == b"2\n"
    assert client.outcomes == {"applied": 2, "replayed": 3}


def test_upsert_lets_no_duplicate_meanwhile_through(store):
    strategy = make_strategy("upsert", store, lambda name: None, {})
    request = Request("POST", b"/counters/a", {b"idempotency-key": b"k"})
    strategy(request, Effect(Meanwhile(lambda: strategy(request, Effect()))))
    assert store.counter(b"a") == 1


def test_check_then_insert_needs_the_constraint(tmp_path):
    """The control: both look, both find nothing, both insert. Only the UNIQUE constraint tells them apart."""
    rows = {}
    for constraint in ("", "UNIQUE"):
        path = tmp_path / f"control{constraint}.sqlite3"
        first, second = (sqlite3.connect(path, isolation_level=None) for _ in range(2))
        first.execute(f"CREATE TABLE claims (name TEXT {constraint})")
        found = [db.execute("SELECT * FROM claims WHERE name = 'x'").fetchall() for db in (first, second)]
        assert found == [[], []]
        for db in (first, second):
            db.execute("INSERT INTO claims VALUES ('x') ON CONFLICT DO NOTHING")
        rows[constraint] = first.execute("SELECT count(*) FROM claims").fetchone()[0]
        first.close()
        second.close()
    assert rows == {"": 2, "UNIQUE": 1}


# Many at once


def in_threads(number, call):
    start, answers = threading.Barrier(number), [None] * number

    def run(place):
        start.wait()
        answers[place] = call()

    threads = [threading.Thread(target=run, args=(place,)) for place in range(number)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return answers


def test_hundred_duplicates_at_once_have_one_effect(client):
    answers = in_threads(100, lambda: post(client, b"k"))
    codes = Counter(answer.code for answer in answers)
    # A thread may find the sqlite file locked for longer than it may wait: then it says so, and has done nothing.
    assert set(codes) <= {"200", "503"}
    assert {answer.body for answer in answers if answer.code == "200"} == {b"1\n"}
    assert value_of(client) == 1
    assert [(answer.code, answer.body) for answer in (post(client, b"k") for _ in range(5))] == [("200", b"1\n")] * 5


def test_hundred_duplicates_of_a_slow_request_have_one_effect():
    store, outcomes = MemoryStore(), Counter()
    application = make_application(
        Identity("memcached", "0"), store, {}, lambda name: outcomes.update([name]), lambda: True
    )
    slow = Request("POST", b"/counters/a?block=50ms", {b"idempotency-key": b"k"})
    codes = Counter(answer.code for answer in in_threads(100, lambda: application(slow)))
    assert set(codes) <= {"200", "409"}
    assert store.counter(b"a") == 1
    assert [application(slow).body for _ in range(5)] == [b"1\n"] * 5


def test_duplicates_at_once_get_past_request_id(store):
    """The control of the two tests above: here nobody can answer before all have looked."""
    everybody_looked = threading.Barrier(10, timeout=10)
    strategy = make_strategy("request-id", store, lambda name: None, {})
    request = Request("POST", b"/counters/a", {b"x-request-id": b"r"})

    def call():
        try:
            return strategy(request, Effect(Meanwhile(everybody_looked.wait)))
        except Exception as error:  # noqa: BLE001
            return error

    in_threads(10, call)
    assert store.counter(b"a") > 1


FORK = multiprocessing.get_context("fork")


def _post_often(store, options, requests, start, results):
    application = make_application(Identity("nginx", "0"), store, options, lambda name: None, lambda: True)
    start.wait()
    results.put([(answer.code, answer.body) for answer in map(application, requests)])


def in_processes(number, store, options, requests):
    start, results = FORK.Barrier(number), FORK.SimpleQueue()
    workers = [FORK.Process(target=_post_often, args=(store, options, requests, start, results)) for _ in range(number)]
    for worker in workers:
        worker.start()
    answers = [answer for _ in workers for answer in results.get()]
    for worker in workers:
        worker.join()
    return answers


def test_duplicates_from_several_processes_have_one_effect(tmp_path):
    store = SqliteStore(tmp_path)
    duplicates = [Request("POST", b"/counters/a", {b"idempotency-key": b"k%d" % (n // 5)}) for n in range(100)]
    answers = in_processes(4, store, {}, duplicates)
    assert len(answers) == 400
    assert {code for code, _ in answers} <= {"200", "503"}
    assert store.counter(b"a") == 20


def test_processes_that_write_at_once_lose_nothing(tmp_path):
    store = SqliteStore(tmp_path)
    store.counter(b"a")  # main has used its connection before it forks
    answers = in_processes(4, store, {"idempotency": "none"}, [Request("POST", b"/counters/a")] * 100)
    assert {code for code, _ in answers} <= {"200", "503"}
    applied = [int(body) for code, body in answers if code == "200"]
    assert sorted(applied) == list(range(1, store.counter(b"a") + 1))


def test_memory_behind_processes_is_a_copy_for_each(clock):
    store = MemoryStore(clock)
    answers = in_processes(3, store, {}, [Request("POST", b"/counters/a", {b"idempotency-key": b"k"})] * 2)
    assert answers == [("200", b"1\n")] * 6
    assert store.counter(b"a") == 0


def test_killed_worker_leaves_a_lease_that_ends(tmp_path, clock):
    store = SqliteStore(tmp_path, clock)
    application = make_application(Identity("nginx", "0"), store, {}, lambda name: None, lambda: True)
    request = Request("POST", b"/counters/a", {b"idempotency-key": b"k"})
    strategy = make_strategy("idempotency-key", store, lambda name: None, {})
    pid = os.fork()
    if pid == 0:
        strategy(request, Effect(Meanwhile(lambda: os.kill(os.getpid(), signal.SIGKILL))))
        os._exit(0)
    assert os.WTERMSIG(os.waitpid(pid, 0)[1]) == signal.SIGKILL
    assert (application(request).code, store.counter(b"a")) == ("409", 0)
    clock.now += LEASE_SECONDS + 2 * 1.0
    assert [application(request).body for _ in range(3)] == [b"1\n"] * 3
    assert store.counter(b"a") == 1


def test_late_first_worker_responds_with_what_its_successor_stored(store, clock, make_client):
    strategy = make_strategy("idempotency-key", store, lambda name: None, {})
    request = Request("POST", b"/counters/a", {b"idempotency-key": b"k"})
    retried = []

    def sleep_past_the_lease():
        clock.now += LEASE_SECONDS + 2 * 1.0
        retried.append(strategy(request, Effect(Meanwhile(lambda: None))))

    late = strategy(request, Effect(Meanwhile(sleep_past_the_lease)))
    assert (late.code, late.body) == (retried[0].code, retried[0].body)
    assert late.headers == b"Idempotent-Replayed: true\r\n"
    assert store.counter(b"a") == 1


def test_conflict_says_when_the_lease_ends(store, clock):
    strategy = make_strategy("idempotency-key", store, lambda name: None, {})
    request, seen = Request("POST", b"/counters/a", {b"idempotency-key": b"k"}), []

    def retry():
        clock.now += 1.5
        seen.append(strategy(request, Effect()))

    strategy(request, Effect(Meanwhile(retry)))
    assert (seen[0].code, seen[0].headers) == ("409", b"Retry-After: 6\r\n")
