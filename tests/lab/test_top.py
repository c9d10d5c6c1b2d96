"""`lab top` against admin endpoints whose counters are known."""

from __future__ import annotations

import itertools
import json
import os
import pty
import re
import select
import signal
import socket
import subprocess
import sys
import threading
import time
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import pytest
from support.fake_admin import FakeModel, FakeWorker, serve_fake

from lab import top
from lab.top import samples, view
from lab.top.readings import Quantiles, Queue, Reading, WorkerReading, quantile, read
from lab.top.samples import Sample, Source, parse, source_of, take
from services.options import MODELS

LAB = Path(sys.executable).with_name("lab")
DEADLINE_SECONDS = 20


def sample_of(model: FakeModel, taken: float) -> Sample:
    return Sample(Source("nginx", "http://x:1"), taken, state=model.state(), series=parse(model.metrics()))


def two_seconds_of(before: FakeModel, after: FakeModel) -> Reading:
    return read(sample_of(before, 10.0), sample_of(after, 12.0))


def worker_of(reading: Reading, name: str) -> WorkerReading:
    return next(worker for worker in reading.workers if worker.worker == name)


# Readings.


def test_rates_are_the_counters_gain_a_second():
    before = FakeModel(
        workers={"0": FakeWorker(accepted=10, requests=1000, wasted=5), "1": FakeWorker(requests=50)},
        listeners=[(0, 128, 7)],
    )
    after = FakeModel(
        workers={"0": FakeWorker(accepted=14, requests=1300, wasted=25), "1": FakeWorker(requests=150)},
        listeners=[(0, 128, 17)],
    )
    reading = two_seconds_of(before, after)
    assert reading.seconds == 2
    assert reading.requests_per_second == 200
    assert reading.accepts_per_second == 2
    assert reading.wasted_wakeups_per_second == 10
    assert (reading.drops, reading.drops_per_second) == (17, 5)


def test_worker_figures_are_its_own():
    before = FakeModel(workers={"main": FakeWorker(), "0": FakeWorker(), "1": FakeWorker()})
    after = FakeModel(
        workers={
            "main": FakeWorker(),
            "0": FakeWorker(
                "busy", accepted=4, connections=3, requests=300, queue_depth=2, cpu_seconds=1.5, voluntary=6
            ),
            "1": FakeWorker("idle", requests=100, involuntary=9),
        }
    )
    reading = two_seconds_of(before, after)
    busy, idle = worker_of(reading, "0"), worker_of(reading, "1")
    assert (busy.state, busy.connections, busy.queue_depth) == ("busy", 3, 2)
    assert (busy.requests_per_second, busy.share, busy.cpu_percent) == (150, 0.75, 75)
    assert busy.switches_per_accept == 1.5
    assert (idle.share, idle.cpu_percent, idle.switches_per_accept) == (0.25, 0, None)


def test_levels_are_those_of_the_later_sample():
    before = FakeModel(listeners=[(9, 128, 0)], syn_queue=9)
    after = FakeModel(listeners=[(1, 128, 0), (5, 128, 0)], syn_queue=3, restarts=2)
    reading = two_seconds_of(before, after)
    assert reading.accept_queue == Queue(6, 256)
    assert reading.fullest_queue == Queue(5, 128)
    assert (reading.syn_queue_length, reading.worker_restarts) == (3, 2)


def test_queue_is_full_only_above_its_limit():
    assert [Queue(length, 4).full for length in (3, 4, 5)] == [False, False, True]


def test_stage_quantiles_are_of_what_came_between_the_samples():
    before = FakeModel(stages={"service": (1000, 0, 0, 0)})
    after = FakeModel(stages={"service": (1000, 100, 0, 0), "write": (0, 0, 0, 5)})
    stages = two_seconds_of(before, after).stages
    assert stages["service"] == Quantiles(pytest.approx(0.0055), pytest.approx(0.00991))
    assert stages["write"] == Quantiles(0.1, 0.1), "above the last bound nothing more is known"
    assert stages["kernel_wait"] is None


@pytest.mark.parametrize(
    ("share", "buckets", "expected"),
    [
        (0.5, [(1.0, 0), (2.0, 10), (float("inf"), 10)], 1.5),
        (0.5, [(1.0, 5), (2.0, 5), (4.0, 10), (float("inf"), 10)], 1.0),
        (0.99, [(1.0, 50), (2.0, 50), (4.0, 100), (float("inf"), 100)], 3.96),
        (0.5, [(1.0, 0), (float("inf"), 0)], None),
        (0.5, [], None),
    ],
)
def test_quantile_is_linear_within_a_bucket(share, buckets, expected):
    assert quantile(share, buckets) == (None if expected is None else pytest.approx(expected))


def test_restarted_server_has_no_rates_yet():
    reading = two_seconds_of(
        FakeModel(pid=1, workers={"0": FakeWorker(requests=900)}),
        FakeModel(pid=2, workers={"0": FakeWorker(requests=1000)}),
    )
    assert reading.up
    assert reading.requests_per_second is None
    assert worker_of(reading, "0").cpu_percent is None
    assert set(reading.stages.values()) == {None}


@pytest.mark.parametrize(("model", "rows"), [("memcached", ["main", "0"]), ("nginx", ["0"]), ("reuseport", ["0"])])
def test_main_has_a_row_where_it_accepts(model, rows):
    reading = two_seconds_of(FakeModel(model), FakeModel(model))
    assert [worker.worker for worker in reading.workers] == rows


def test_workers_are_in_the_order_of_their_numbers():
    many = {str(number): FakeWorker() for number in (10, 2, 0, 1)}
    assert [worker.worker for worker in two_seconds_of(FakeModel(workers=many), FakeModel(workers=many)).workers] == [
        "0", "1", "2", "10",
    ]  # fmt: skip


# Samples.


def test_take_reads_a_real_endpoint():
    with serve_fake(FakeModel(model="ramcloud", workers={"main": FakeWorker(requests=7)})) as url:
        sample = take(source_of(url))
    assert (sample.problem, sample.model) == ("", "ramcloud")
    assert sample.total("lab_requests_total") == 7
    assert sample.total("lab_requests_total", worker="main", code="200") == 7
    assert sample.total("lab_requests_total", worker="0") == 0


def test_parse_keeps_labels_with_spaces_and_quotes():
    series = parse('lab_info{options="{\\"a\\": 1}",model="x y"} 1.0\n\n# a comment\nplain 2\n')
    assert series == {"lab_info": [({"options": '{"a": 1}', "model": "x y"}, 1.0)], "plain": [({}, 2.0)]}


@pytest.mark.parametrize(
    "answers",
    [
        {},
        {"/state": b"hello", "/metrics": b""},
        {"/state": b"[]", "/metrics": b""},
        {"/state": b"{}", "/metrics": b""},
        {"/state": b'{"workers": []}', "/metrics": b"<html> x"},
        {"/state": b'{"workers": []}', "/metrics": b"\xff\xfe"},
        {"/state": b'{"workers": []}'},
    ],
)
def test_take_says_when_something_else_answers(answers):
    with serve_fake(answers=answers) as url:
        assert take(source_of(url)).problem.startswith("answers, but not as a model's admin port")


def test_take_says_when_nothing_answers(monkeypatch):
    monkeypatch.setattr(samples, "ANSWER_SECONDS", 0.1)
    with socket.create_server(("127.0.0.1", 0)) as silent:
        url = f"http://127.0.0.1:{silent.getsockname()[1]}"
        assert take(source_of(url)).problem == "no answer within 0.1 s"
    assert take(source_of(url)).problem == "connection refused"


@pytest.mark.parametrize(
    "url", ["", "9100", "localhost:9100", "https://x:1", "http://x", "http://:9", "http://x:99999", "ftp://x:1"]
)
def test_source_of_refuses_what_is_no_admin_url(url):
    with pytest.raises(ValueError, match="give the admin URL"):
        source_of(url)


def test_source_of_drops_a_path():
    assert source_of("http://[::1]:9100/metrics").url == "http://[::1]:9100"


def test_watch_sees_a_server_go_and_come_back():
    model = FakeModel(workers={"0": FakeWorker(requests=1)})
    with serve_fake(model) as url:
        readings = top.watch([source_of(url)], 0.01, threading.Event())
        assert next(readings)[0].requests_per_second == 0
    down = next(readings)[0]
    assert (down.up, down.problem) == (False, "connection refused")
    with serve_fake(model, port=int(url.rpartition(":")[2])):
        back = next(readings)[0]
        assert (back.up, back.requests_per_second) == (True, None)
        model.workers["0"].requests += 10
        assert next(readings)[0].requests_per_second > 0
    readings.close()


@pytest.fixture
def hanging(monkeypatch):
    """Readings of `slow`, which answers twice and then no more until `over` is set, and of `quick`."""
    model, answers, over = FakeModel(), iter(range(2)), threading.Event()

    def take(source):
        if source.name == "slow" and next(answers, None) is None:
            over.wait(DEADLINE_SECONDS)
        model.workers["0"].requests += 1
        return Sample(source, time.monotonic(), state=model.state(), series=parse(model.metrics()))

    monkeypatch.setattr(top, "take", take)
    sources = [Source("slow", "http://x:1"), Source("quick", "http://x:2")]
    parse(model.metrics())  # the first time takes longest
    readings = top.watch(sources, 0.01, threading.Event(), patience_seconds=0.3)
    yield readings, over
    over.set()
    readings.close()


def test_server_that_hangs_holds_up_no_other_and_is_shown_as_it_was(hanging):
    readings, over = hanging
    first, *later = itertools.islice(readings, 5)
    assert not over.is_set()
    assert first[0].requests_per_second > 0
    assert all(slow is first[0] for slow, _ in later)
    assert len({id(quick) for _, quick in later}) == 4


def test_server_that_hangs_for_long_is_down_until_it_answers(hanging, monkeypatch):
    monkeypatch.setattr(top, "ANSWER_SECONDS", 0.1)
    readings, over = hanging
    down = next(slow for slow, _ in readings if not slow.up)
    assert down.problem == f"no answer within {samples.ANSWER_SECONDS:g} s"
    over.set()
    assert next(slow for slow, _ in readings if slow.up).requests_per_second is None


def test_one_look_waits_for_who_is_slow(monkeypatch):
    model = FakeModel()

    def take(source):
        time.sleep(2 * top.PATIENCE_SECONDS)
        return Sample(source, time.monotonic(), state=model.state(), series=parse(model.metrics()))

    monkeypatch.setattr(top, "take", take)
    (reading,) = top.once([Source("nginx", "http://x:1")], 0.01)
    assert (reading.up, reading.requests_per_second) == (True, 0)


# View.


def stack(workers: int = 4, **figures) -> list[Reading]:
    fields = {"accepted": 3, "connections": 12345, "requests": 99_999, "cpu_seconds": 0.99, "voluntary": 999, **figures}
    readings = []
    for model in MODELS:
        names = ["main"] if model == "nodejs" else ["main", *(str(number) for number in range(workers))]
        listeners = [(129, 128, 5000)] * (workers if model == "reuseport" else 1)
        before = FakeModel(model, workers={name: FakeWorker() for name in names})
        after = FakeModel(
            model,
            workers={name: FakeWorker("stalled", **fields) for name in names},
            listeners=listeners,
            syn_queue=999,
            stages=dict.fromkeys(view.STAGES, (100, 1000, 100, 0)),
        )
        readings.append(read(sample_of(before, 0.0), sample_of(after, 1.0)))
    return readings


def test_five_models_of_four_workers_fit_100_columns_by_30_rows():
    text = view.render(stack(), view.Screen(1.0, rows=30)).plain
    lines = text.splitlines()
    assert len(lines) <= 30
    assert max(map(len, lines)) <= 100
    assert [line.split()[0] for line in lines if "accept queue" in line] == list(MODELS)
    assert sum(re.match(r" (main|\d+) +(stalled|-)", line) is not None for line in lines) == 1 + 5 + 5 + 4 + 4
    assert "more, less busy" not in text


def test_every_figure_of_a_full_line_is_shown():
    line = next(line for line in view.render(stack(), view.Screen(1.0)).plain.splitlines() if line.startswith("nginx"))
    for part in ("accept queue 129/128", "drops 5000 +5000/s", "SYN 999", "conns 61725", "500k req/s", "wasted 0/s"):
        assert part in line


@pytest.mark.parametrize("rows", [25, 30, 40])
def test_workers_give_way_to_the_screen(rows):
    text = view.render(stack(workers=64), view.Screen(1.0, rows=rows)).plain
    assert len(text.splitlines()) <= rows
    assert text.count("more, less busy") == 4


def test_busiest_workers_are_those_shown():
    names = [str(number) for number in range(8)]
    after = FakeModel(workers={name: FakeWorker(requests=10 * (name in "57")) for name in names})
    reading = two_seconds_of(FakeModel(workers={name: FakeWorker() for name in names}), after)
    text = view.render([reading], view.Screen(1.0, rows=7)).plain
    assert re.findall(r"^ (\d)", text, re.MULTILINE) == ["5", "7"]
    assert "6 more, less busy" in text


def test_down_model_says_why():
    down = read(None, Sample(Source("ramcloud", "http://127.0.0.1:9103"), 0.0, "connection refused"))
    text = view.render([down], view.Screen(1.0)).plain
    assert re.search("ramcloud +down +http://127.0.0.1:9103 +connection refused", text)
    assert "`make lab-up` starts all" in text


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(0.0, "<10µs"), (1e-5, "<10µs"), (1.24e-5, "12µs"), (0.0009994, "999µs"), (0.0009996, "1.0ms"), (0.00994, "9.9ms"),
     (0.00996, "10ms"), (0.9994, "999ms"), (0.9996, "1.0s"), (9.96, "10s"), (10.0, ">10s")],
)  # fmt: skip
def test_duration_has_at_most_five_characters(seconds, text):
    assert view.duration(seconds) == text
    assert len(text) <= 5


@pytest.mark.parametrize(
    ("value", "text"), [(None, "-"), (0, "0"), (0.4, "0"), (99999.4, "99999"), (99999.6, "100k"), (1e8, "100M")]
)
def test_count_has_at_most_six_characters(value, text):
    assert view.count(value) == text


def test_bar_fills_with_the_share():
    assert [view.bar(share, 4) for share in (None, 0, 0.25, 0.5 + 1 / 32, 1)] == [
        "    ",
        "    ",
        "█   ",
        "██▏ ",
        "████",
    ]


# The command.


def run_lab(*arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [LAB, *arguments], capture_output=True, text=True, timeout=DEADLINE_SECONDS, env={**os.environ, **environment}
    )


def test_top_once_json_is_one_document():
    with serve_fake(FakeModel(model="memcached")) as url:
        # A proxy of the environment must not be asked.
        done = run_lab(
            "top",
            "--json",
            "--interval",
            "0.1",
            "--url",
            url,
            "--url",
            "http://127.0.0.1:1",
            http_proxy="http://127.0.0.1:1",
        )
    assert done.returncode == 0, done.stderr
    up, down = json.loads(done.stdout)["models"]
    assert (up["model"], up["up"], up["url"], up["requests_per_second"]) == ("memcached", True, url, 0)
    assert [worker["worker"] for worker in up["workers"]] == ["main", "0"]
    assert set(up["stages"]) == set(view.STAGES)
    assert (down["up"], down["problem"]) == (False, "connection refused")


def test_top_once_when_nothing_answers_says_what_to_do():
    done = run_lab("top", "--once", "--interval", "0.1", "--url", "http://127.0.0.1:1")
    assert done.returncode == 2
    assert "connection refused" in done.stdout
    assert "`make lab-up`" in done.stderr


def test_top_into_a_pipe_prints_one_sample():
    with serve_fake(FakeModel()) as url:
        done = run_lab("top", "--interval", "0.1", "--url", url)
    assert done.returncode == 0
    assert "accept queue 0/128" in done.stdout
    assert "\x1b" not in done.stdout


class Terminal:
    """What a program in a terminal has written so far."""

    def __init__(self, descriptor: int) -> None:
        self.descriptor = descriptor
        self.text = ""

    def wait_for(self, text: str) -> None:
        deadline = time.monotonic() + DEADLINE_SECONDS
        while text not in self.text:
            assert time.monotonic() < deadline, f"never showed {text!r}, but {self.text!r}"
            if not self.read():
                raise AssertionError(f"ended without {text!r}: {self.text!r}")

    def read(self) -> bool:
        if not select.select([self.descriptor], [], [], 0.2)[0]:
            return True
        try:
            got = os.read(self.descriptor, 65536)
        except OSError:  # EIO: the program has gone
            return False
        self.text += got.decode(errors="replace")
        return bool(got)

    def drain(self) -> None:
        while self.read() and select.select([self.descriptor], [], [], 0.2)[0]:
            pass


@contextmanager
def lab_in_terminal(*arguments: str):
    ours, theirs = pty.openpty()
    environment = {**os.environ, "TERM": "xterm", "COLUMNS": "100", "LINES": "30"}
    with subprocess.Popen([LAB, *arguments], stdin=theirs, stdout=theirs, stderr=theirs, env=environment) as process:
        os.close(theirs)
        try:
            yield process, Terminal(ours)
        finally:
            process.kill()
            os.close(ours)


@pytest.mark.parametrize("end", [signal.SIGINT, signal.SIGTERM])
def test_top_in_a_terminal_lives_until_it_is_told_to_end(end):
    model = FakeModel(restarts=1)
    with serve_fake(model) as url, lab_in_terminal("top", "--interval", "0.1", "--url", url) as (process, terminal):
        terminal.wait_for("restarts 1")
        model.restarts = 2
        terminal.wait_for("restarts 2")
        process.send_signal(end)
        terminal.wait_for("\x1b[?1049l")  # back from the alternate screen
        assert process.wait(DEADLINE_SECONDS) == 0
        terminal.drain()
    assert "Traceback" not in terminal.text
    assert "\x1b[?25h" in terminal.text, "the cursor is back"


def test_failed_sample_keeps_its_name():
    sample = replace(Sample(Source("nginx", "http://x:1"), 0.0), problem="gone")
    assert (sample.model, read(sample, sample).up) == ("nginx", False)


def test_samples_that_cost_much_are_taken_less_often(monkeypatch):
    """As on a slow machine: the clock of the processor says that a sample takes 50 ms of it."""
    clock = itertools.count(step=0.05)
    monkeypatch.setattr(top.time, "process_time", lambda: next(clock))
    monkeypatch.setattr(top, "take", lambda source: Sample(source, time.monotonic()))
    polls = top.sample([Source("nginx", "http://127.0.0.1:1")], lambda: 0.001, threading.Event())
    taken = [next(polls)[0].taken for _ in range(4)]
    assert all(later - earlier >= top.IDLE_FOR_BUSY * 0.05 for earlier, later in itertools.pairwise(taken))
