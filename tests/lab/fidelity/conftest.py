"""Rows that are made up, and the document of a run of them."""

import pytest

from lab.fidelity.judge import judged, unexplained
from lab.fidelity.row import Row, Signature
from lab.fidelity.system import System

WHERE = {"kernel": "6.18", "cpus": 2, "python": "3.11.7", "gil": True, "commit": "abc"}


def system(name, label):
    return System(name, label, start=None)


@pytest.fixture
def row():
    """Makes a row of a share that has a control."""

    def make(**more):
        share = Signature("spread", "busiest worker's share", measure=None, unit="%")
        ours, real = system("nginx", "nginx --workers 3"), system("nginx", "nginx, 3 workers")
        wrong = system("nginx", "nginx --wakeup exclusive")
        return Row(**{
            "signature": share, "model": ours, "real": real, "why": "they | take turns", "tolerance": 0.1, "wrong": wrong, **more
        })  # fmt: skip

    return make


@pytest.fixture
def document(row):
    """Makes the document of a full run: one row, with these figures."""

    def make(model=0.33, real=0.35, wrong=0.9, others=0.0, commit="abc", **more):
        figures = {"model": [model] * 3, "real": [real] * 3, "wrong": [wrong], "others": others}
        rows = [judged(row(), figures)]
        return {
            "schema": 2, "begun": "2026-11-29T15:00:00+00:00", "command": "lab fidelity", "effort": "full",
            "environment": {**WHERE, "commit": commit}, "peers": {"nginx": "1.22.1"}, "missing": {"redis": "apt-get install redis-server"},
            "rows": rows, "failed": [], "unexplained": unexplained(rows), "inconclusive": [], "seconds": 61.0, **more,
        }  # fmt: skip

    return make
