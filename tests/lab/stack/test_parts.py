"""Where the local place keeps things."""

from __future__ import annotations

from lab.stack import parts


def test_ports_of_all_parts_are_there_once():
    numbers = [port.variable for port in parts.ports()]
    assert len(numbers) == len(set(numbers)) == 13


def test_nothing_is_declared_before_the_first_up(state_dir, tmp_path):
    state_dir(tmp_path)
    assert parts.declared() == []
