"""Refusals to start: one line that says what is in the way and what to do."""

from __future__ import annotations

import resource
import socket

from support.servers import refusal


def test_taken_service_port_is_named_and_nothing_else() -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = str(taken.getsockname()[1])
        line = refusal("nginx", "--port", port, "--admin-port", "0")
    assert f"port {port}" in line
    assert "--port" in line
    assert "admin" not in line


def test_taken_admin_port_is_named_and_nothing_else() -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = str(taken.getsockname()[1])
        line = refusal("nginx", "--port", "0", "--admin-port", port)
    assert f"admin port {port}" in line
    assert "--admin-port" in line
    assert "--host" not in line


def test_unusable_address_is_named() -> None:
    assert "--host" in refusal("nginx", "--host", "192.0.2.1", "--port", "0", "--admin-port", "0")


def test_state_folder_with_a_broken_store_is_named(tmp_path) -> None:
    (tmp_path / "store.sqlite3").write_bytes(b"this is no database" * 100)
    line = refusal("nginx", "--port", "0", "--admin-port", "0", "--state-dir", str(tmp_path))
    assert "--state-dir" in line
    assert "port" not in line


def test_too_few_descriptors_are_named() -> None:
    line = refusal(
        "memcached", "--worker-kind", "process", "--workers", "16", "--port", "0", "--admin-port", "0",
        preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_NOFILE, (24, 24)),
    )  # fmt: skip
    assert "ulimit -n" in line
    assert "port" not in line
