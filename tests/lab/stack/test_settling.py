"""`lab up` ends well only if every declared part answers."""

from __future__ import annotations

import json

import pytest

from lab.stack import parts, settling, status, supervision


class Parts:
    """A supervisor of made-up parts: each answers after so many looks, and one may be given up."""

    def __init__(self, looks: dict[str, int], given_up: tuple[str, ...] = ()) -> None:
        self.looks, self.given_up = looks, given_up

    def missing(self, names):
        for name in names:
            self.looks[name] = self.looks.get(name, 10**9) - 1
        return [name for name in names if self.looks[name] > 0]

    def failed(self):
        return list(self.given_up)

    def log_of(self, name):
        return f"{name}.log"

    def last_lines(self, name):
        return f"    the end of {name}"


@pytest.fixture
def settle(state_dir, tmp_path, monkeypatch):
    """Settle a stack that declared these parts."""
    state_dir(tmp_path)

    def settle(supervisor: Parts, declared: list[str] | None) -> int:
        if declared is not None:
            parts.DECLARED.write_text(json.dumps(declared))
        monkeypatch.setitem(settling.SUPERVISORS, "local", supervisor)
        return settling.settle("local")

    return settle


def test_waits_until_all_answer(settle, capsys):
    assert settle(Parts({"nginx": 3, "locust": 1}), ["nginx", "locust"]) == 0
    assert capsys.readouterr().out == ""


@pytest.mark.parametrize("declared", [None, []])
def test_nothing_declared_is_no_success(settle, capsys, declared):
    assert settle(Parts({}), declared) == 1
    assert "no part was declared" in capsys.readouterr().out


def test_part_that_never_answers_is_named_with_its_log(settle, capsys, monkeypatch):
    monkeypatch.setattr(settling, "SETTLE_SECONDS", 0.3)
    assert settle(Parts({"locust": 1}), ["nginx", "locust"]) == 1
    assert capsys.readouterr().out.splitlines() == [
        "nginx does not answer. The end of its log (nginx.log):", "    the end of nginx",
    ]  # fmt: skip


def test_part_that_was_given_up_is_not_waited_for(settle, capsys):
    assert settle(Parts({}, given_up=("nginx",)), ["nginx", "locust"]) == 1
    assert capsys.readouterr().out.startswith("nginx does not answer")


def test_wait_says_for_what_where_there_is_no_terminal(settle, capsys, monkeypatch):
    monkeypatch.setattr(settling, "SAY_SECONDS", 0)
    assert settle(Parts({"nginx": 3, "locust": 1}), ["nginx", "locust"]) == 0
    assert "waiting for nginx\n" in capsys.readouterr().err


def test_status_shows_what_should_run_and_does_not(state_dir, tmp_path, monkeypatch):
    state_dir(tmp_path)
    parts.DECLARED.write_text('["nginx"]')
    monkeypatch.setattr(supervision, "programs", list)
    shown = {part.name: part for part in status.local_parts()}
    assert (shown["nginx"].state, shown["nginx"].health) == ("missing", "failing")
    assert (shown["nodejs"].state, shown["nodejs"].health) == ("absent", "-")
