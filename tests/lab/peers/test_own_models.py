"""Our own servers, started as a peer is."""

from __future__ import annotations

import pytest
from support import plain_http

from lab.bench import metrics_cost
from lab.measure import processes
from lab.peers import model, process


def test_model_answers_on_both_ports_and_is_gone_afterwards():
    with model.start("nginx", "--workers", "2") as peer:
        assert plain_http.get(peer.url, trust_env=False).headers["X-Model"] == "nginx"
        assert plain_http.get(f"{peer.admin_url}/healthz", trust_env=False).status_code == 200
    assert not process.accepts(peer.port)


def test_model_without_metrics_has_no_admin_port():
    with model.start("nodejs", "--metrics", "off") as peer:
        assert peer.admin_url == ""
        assert plain_http.get(peer.url, trust_env=False).status_code == 200


def test_bad_option_is_reported_with_what_the_server_said():
    with pytest.raises(process.PeerError, match="--workers"), model.start("nginx", "--workers", "none"):
        pytest.fail("it started")


def test_admin_process_is_told_from_those_that_serve():
    with model.start("nginx", "--workers", "2") as peer:
        serving, admin = metrics_cost.roles(peer)
        assert len(serving) == 3
        assert len(admin) == 1
        assert sorted(serving + admin) == sorted(processes.tree(peer.pid))
