"""`lab advise` with a real application behind real servers, once."""

from __future__ import annotations

import json
import subprocess
import sys

import pytest

from lab.advise.measuring import UNITS, share_out
from lab.settings import CHECKOUT

SHOP = """
import time


def app(environ, start_response):
    path = environ["PATH_INFO"]
    if path == "/report":
        time.sleep(0.05)
    start_response("404 Not Found" if path == "/none" else "200 OK", [("Content-Length", "3")])
    return [b"ok\\n"]
"""


@pytest.fixture
def shop(tmp_path):
    (tmp_path / "shop.py").write_text(SHOP)
    return tmp_path


def advise(*arguments):
    return subprocess.run(
        [sys.executable, "-m", "lab", "advise", *arguments], cwd=CHECKOUT, capture_output=True, text=True, timeout=60
    )


def test_application_is_measured_behind_a_model_and_a_peer(shop):
    done = advise(
        "shop:app", "--app-dir", str(shop), "--blocking", "/report", "--blocking-rate", "20", "--server", "nginx",
        "--server", "gunicorn-gthread", "--server", "uvicorn", "--workers", "2", "--rounds", "1", "--seconds", "0.5", "--json",
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    document = json.loads(done.stdout)
    assert [(row["server"], row["kind"]) for row in document["rows"]] == [
        ("nginx", "model"), ("gunicorn-gthread", "peer"),
    ]  # fmt: skip
    for row in document["rows"]:
        assert set(row["figures"]) == set(UNITS)
        assert row["figures"]["requests a second"]["median"] > 50
        assert row["figures"]["blocking p99 ms"]["median"] >= 50
    (left_out,) = document["left_out"]
    assert left_out["server"].startswith("uvicorn"), "which does not serve WSGI"
    assert all(not finding["worse"] for finding in document["findings"]), "of one round nothing can be told"


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("shop:app", "--cheap", "/none"), "GET /none had a response 404"),
        (("shop:nothing",), "nothing"),
        (("shop:app", "--cheap", "price"), "'price' is no route"),
        (("shop:app", "--server", "apache"), "no server is called 'apache'"),
    ],
)
def test_wrong_question_is_one_line(shop, arguments, words):
    done = advise(*arguments, "--app-dir", str(shop))
    assert done.returncode == 2
    *_, line = done.stderr.splitlines()
    assert line.startswith("lab: ")
    assert words in line
    assert "Traceback" not in done.stderr


def test_generator_has_a_core_of_its_own_where_there_are_three():
    assert share_out({0, 1}) == (None, None)
    assert share_out({0, 1, 2}) == ({0, 1}, {2})
