"""Some thousands of broken inputs, the short form of `make fuzz`; and that the fuzzer finds faults at all."""

import pytest
from support import fuzz

from services.protocols.http1 import Http1
from services.protocols.memcache_text import MemcacheText

INPUTS = 4000


def test_protocols_bear_broken_inputs():
    fuzz.fuzz(INPUTS, seed=1)


def forget_the_last_byte(receive):
    def broken(self, data):
        return receive(self, data[:-1] if len(data) > 1 and self.phase != "idle" else data)

    return broken


def fail_at_a_nul(receive):
    def broken(self, data):
        if b"\0" in data:
            raise IndexError("NUL")
        return receive(self, data)

    return broken


def hang_at_a_nul(receive):
    def broken(self, data):
        while b"\0" in data:
            pass
        return receive(self, data)

    return broken


def keep_all(receive):
    kept = []

    def broken(self, data):
        kept.append(bytearray(1 << 13))
        return receive(self, data)

    return broken


@pytest.mark.parametrize("protocol", [Http1, MemcacheText])
@pytest.mark.parametrize(
    ("fault", "reason"),
    [(forget_the_last_byte, "AssertionError"), (fail_at_a_nul, "IndexError"), (hang_at_a_nul, "TimeoutError: hang")],
)
def test_fault_is_found(monkeypatch, tmp_path, protocol, fault, reason):
    monkeypatch.chdir(tmp_path)  # where failures are saved
    monkeypatch.setattr(fuzz, "MAX_PROCESSOR_SECONDS", 0.1)
    monkeypatch.setattr(protocol, "receive", fault(protocol.receive))
    with pytest.raises(fuzz.FailureError, match=reason):
        fuzz.fuzz(INPUTS, seed=1)


def test_growth_is_found(monkeypatch):
    monkeypatch.setattr(Http1, "receive", keep_all(Http1.receive))
    with pytest.raises(fuzz.FailureError, match="memory grew by"):
        fuzz.fuzz(INPUTS, seed=1)


def test_failing_pieces_are_shrunk_and_saved(monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(MemcacheText, "receive", fail_at_a_nul(MemcacheText.receive))
    with pytest.raises(fuzz.FailureError, match=r"pieces = \[b'\\x00'\]"):
        fuzz.fuzz(INPUTS, seed=1)
    assert "IndexError: NUL" in (tmp_path / fuzz.FAILURES / "memcache.txt").read_text()


def test_input_depends_on_seed_and_number_only(monkeypatch):
    runs = []
    for _ in range(2):
        seen = []
        targets = {"any": fuzz.Target(seen.append, fuzz.HTTP_TEMPLATES, fuzz.HTTP_WORDS)}
        monkeypatch.setattr(fuzz, "TARGETS", targets)
        fuzz.fuzz(50, seed=3)
        runs.append(seen)
    assert runs[0] == runs[1]
