"""Segments read from frames, made by hand, and when the kernel sends them again."""

import dpkt
import pytest

from lab.sandbox.network import NetworkError
from lab.sandbox.wire import Capture, Segment, made_segment, read_segment, retry_steps

ETHERNET_IPV4 = bytes(12) + b"\x08\x00"
CLIENT, SERVER = ("10.77.0.2", 40000), ("10.77.0.1", 80)


def test_segment_made_is_segment_read():
    packet = made_segment(CLIENT, SERVER, dpkt.tcp.TH_SYN | dpkt.tcp.TH_ACK, 7, 8)
    assert read_segment(ETHERNET_IPV4 + packet, 1.5) == Segment(1.5, CLIENT, SERVER, "SYN/ACK", 7, 8, 64_000, 0)


def test_segment_made_has_right_checksums():
    packet = made_segment(CLIENT, SERVER, dpkt.tcp.TH_SYN, 7, 0)
    pseudo_header = packet[12:20] + bytes([0, 6, 0, 20])
    assert dpkt.in_cksum(packet[:20]) == 0
    assert dpkt.in_cksum(pseudo_header + packet[20:]) == 0


def test_payload_is_counted_although_it_is_cut_off():
    tcp = dpkt.tcp.TCP(sport=1, dport=2, flags=dpkt.tcp.TH_ACK, data=bytes(1000))
    packet = dpkt.ip.IP(src=bytes(4), dst=bytes(4), p=dpkt.ip.IP_PROTO_TCP, data=tcp)
    packet.len = len(packet)
    segment = read_segment((ETHERNET_IPV4 + bytes(packet))[:100], 0)
    assert (segment.payload_bytes, segment.flags) == (1000, "ACK")


@pytest.mark.parametrize("frame", [b"", b"short", bytes(12) + b"\x08\x06" + bytes(28), ETHERNET_IPV4 + bytes(3)])
def test_other_frames_are_none(frame):
    assert read_segment(frame, 0) is None


@pytest.mark.parametrize(
    ("linear", "steps"), [(4, [1, 2, 3, 4, 5, 7, 11]), (0, [1, 3, 7]), (1, [1, 2, 4, 8]), (2, [1, 2, 3, 5, 9])]
)
def test_retry_steps_follow_the_sysctl(linear, steps):
    assert retry_steps(linear, 12) == steps


def test_what_was_not_captured_is_told_with_what_was(monkeypatch):
    monkeypatch.setattr("lab.sandbox.wire.CAPTURED_SECONDS", 0.01)
    seen = Segment(0, ("a", 1), ("b", 2), "SYN", 0, 0, 0, 0)
    with pytest.raises(NetworkError, match=r"no SYN/ACK was captured .*passed last: SYN$"):
        Capture([seen]).wait_for("SYN/ACK", lambda segment: segment.flags == "SYN/ACK")
