"""What Prometheus and Grafana see of a run."""

import fcntl
import json
import threading
import time
import urllib.request
from contextlib import suppress

import pytest

from lab.grafana import annotate as annotating
from lab.harness import announce
from lab.measure import targets
from lab.peers.process import free_port
from lab.settings import SettingError

NO_PROXY = urllib.request.build_opener(urllib.request.ProxyHandler({}))


@pytest.fixture(autouse=True)
def impatient(monkeypatch):
    monkeypatch.setattr(announce, "SEEN_SECONDS", 0.0)
    monkeypatch.delenv(announce.LISTEN, raising=False)


def scraped(address):
    return NO_PROXY.open(f"http://{address}/metrics", timeout=5).read().decode().splitlines()


def test_run_answers_where_the_variable_says(monkeypatch):
    address = f"127.0.0.1:{free_port()}"
    monkeypatch.setenv(announce.LISTEN, address)
    with announce.announced("herd") as announcement:
        announcement.progress(0.5)
        assert 'lab_experiment_progress_ratio{experiment="herd"} 0.5' in scraped(address)
        assert 'lab_experiment_state{experiment="herd",lab_experiment_state="running"} 1.0' in scraped(address)
        announcement.verdict("fails")
        assert 'lab_experiment_state{experiment="herd",lab_experiment_state="fails"} 1.0' in scraped(address)
    with pytest.raises(OSError, match="refused"):
        scraped(address)


def test_run_names_itself_to_prometheus_as_long_as_it_lasts(monkeypatch, tmp_path):
    monkeypatch.setattr(targets, "TARGETS", tmp_path)
    monkeypatch.setattr(announce, "accepts", lambda port: True)
    killed = tmp_path / f"experiments-{2**22 + 1}.yml"  # above any pid
    killed.write_text("[]")
    with announce.announced("herd"):
        (file,) = tmp_path.iterdir()
        (target,) = json.loads(file.read_text())[0]["targets"]
        assert any(line.startswith("lab_experiment_state") for line in scraped(target))
    assert list(tmp_path.iterdir()) == []


def test_verdict_stays_until_it_was_seen(monkeypatch):
    address = f"127.0.0.1:{free_port()}"
    monkeypatch.setenv(announce.LISTEN, address)
    monkeypatch.setattr(announce, "SEEN_SECONDS", 30.0)
    seen, over = [], threading.Event()

    def scrape_every_now_and_then():
        while not over.wait(0.3):
            with suppress(OSError):
                seen.extend(scraped(address))

    late = threading.Thread(target=scrape_every_now_and_then)
    with announce.announced("herd") as announcement:
        announcement.verdict("holds")
        late.start()
        begun = time.monotonic()
    over.set()
    late.join()
    assert 'lab_experiment_state{experiment="herd",lab_experiment_state="holds"} 1.0' in seen
    assert time.monotonic() - begun < 10


def test_run_without_a_stack_opens_nothing(monkeypatch, tmp_path):
    monkeypatch.setattr(targets, "TARGETS", tmp_path / "none")
    monkeypatch.setattr(announce, "start_http_server", None)  # would be called
    with announce.announced("herd") as announcement:
        announcement.progress(1)
    assert list(tmp_path.iterdir()) == []


def test_target_of_another_run_that_lives_stays(monkeypatch, tmp_path):
    monkeypatch.setattr(targets, "TARGETS", tmp_path)
    monkeypatch.setattr(announce, "accepts", lambda port: True)
    other = tmp_path / f"experiments-{2**22 + 1}.yml"
    with other.open("w") as lives:
        fcntl.flock(lives, fcntl.LOCK_EX)
        with announce.announced("herd"):
            pass
        assert list(tmp_path.iterdir()) == [other]


@pytest.mark.parametrize("wrong", ["9110", ":9110", "host:", "host:port", "host:70000"])
def test_wrong_address_is_refused(monkeypatch, wrong):
    monkeypatch.setenv(announce.LISTEN, wrong)
    with pytest.raises(SettingError, match="give HOST:PORT"), announce.announced("herd"):
        pass


def test_region_in_grafana_carries_experiment_and_verdict(monkeypatch):
    marks = []
    monkeypatch.setattr(annotating, "mark", lambda *arguments: marks.append(arguments))
    announce.annotate({"experiment": "herd", "verdict": "holds", "question": "Who wakes?"}, 1000.0)
    ((text, tags, start, end),) = marks
    assert text.startswith("herd: holds")
    assert tags == ["experiment", "herd", "holds"]
    assert start == 1000.0 < end
