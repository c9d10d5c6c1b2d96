"""The pair of namespaces, from inside a real sandbox: these tests run a small program in one and read what it prints."""

import json
import sys
import textwrap
from pathlib import Path

import pytest

from lab.sandbox import outside
from lab.sandbox.network import parse_counters

SOMAXCONN = Path("/proc/sys/net/core/somaxconn")


@pytest.fixture
def inside(tmp_path):
    """What a program prints as JSON that runs in a sandbox."""

    def run(program):
        head = "import json\nfrom pathlib import Path\nfrom lab.sandbox import network\n"
        with outside.launched([sys.executable, "-c", head + textwrap.dedent(program)], tmp_path / "errors") as process:
            output, _ = process.communicate(timeout=30)
        assert process.returncode == 0, (tmp_path / "errors").read_text()
        return json.loads(output)

    return run


def test_client_reaches_server_and_nothing_else(inside):
    answer = inside("""
        with network.pair() as (server, client):
            listener = server.socket()
            listener.bind((server.address, 0))
            listener.listen()
            connection = client.socket()
            connection.connect(listener.getsockname())
            peer = listener.accept()[1][0]
            routes = client.run("ip", "route")
        print(json.dumps([peer, routes.count("\\n")]))
    """)
    assert answer == ["10.77.0.2", 1]


def test_sysctls_and_counters_are_a_namespaces_own_and_new_for_each_pair(inside):
    host = SOMAXCONN.read_text()
    answer = inside("""
        seen = []
        for limit in (5, 7):
            with network.pair({"net.core.somaxconn": limit}) as (server, client):
                seen.append([server.sysctl("net.core.somaxconn"), server.counters()["PassiveOpens"]])
                listener = server.socket()
                listener.bind((server.address, 0))
                listener.listen()
                client.socket().connect(listener.getsockname())
                seen[-1].append(server.counters()["PassiveOpens"])
        print(json.dumps(seen))
    """)
    assert answer == [[5, 0, 1], [7, 0, 1]]
    assert SOMAXCONN.read_text() == host


def test_wrong_sysctl_is_named(inside):
    answer = inside("""
        try:
            with network.pair({"net.core.nonsense": 1}):
                pass
        except network.NetworkError as error:
            print(json.dumps(str(error)))
    """)
    assert answer == "sysctl net.core.nonsense=1 in server: No such file or directory"


def test_counters_are_read_by_their_names():
    text = "TcpExt: SyncookiesSent ListenDrops\nTcpExt: 3 4\nIpExt: InNoRoutes\nIpExt: 9\nTcp: ActiveOpens\nTcp: 5\n"
    assert parse_counters(text) == {"SyncookiesSent": 3, "ListenDrops": 4, "ActiveOpens": 5}
