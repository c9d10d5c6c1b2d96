"""Numbers, read as memcached's util.c reads them over the C library."""

import ctypes

from hypothesis import given
from hypothesis import strategies as st

from services.strtol import signed_32, unsigned_64

TWO_TO_64 = 1 << 64

_strtoull = ctypes.CDLL(None, use_errno=True).strtoull
_strtoull.restype = ctypes.c_uint64
_strtoull.argtypes = (ctypes.c_void_p, ctypes.POINTER(ctypes.c_void_p), ctypes.c_int)
WHITE_SPACE = b" \t\n\v\f\r"


def safe_strtoull(value):
    """memcached's util.c, line by line, over the C library."""
    text = ctypes.create_string_buffer(value + b"\r\n")
    start, end = ctypes.addressof(text), ctypes.c_void_p()
    ctypes.set_errno(0)
    number = _strtoull(start, ctypes.byref(end), 10)
    read = end.value - start
    if ctypes.get_errno() or read == 0:
        return None
    if text.raw[read] not in WHITE_SPACE + b"\0":
        return None
    if number >= 1 << 63 and b"-" in text.raw[:read]:
        return None
    return number


numerals = st.one_of(
    st.integers(-TWO_TO_64 - 10, TWO_TO_64 + 10).map(lambda number: b"%d" % number),
    st.integers(0, TWO_TO_64 + 10).map(lambda number: b"%030d" % number),
)
numberlike = st.one_of(
    st.binary(max_size=24),
    st.text("0123456789+- \t\r\0x", max_size=24).map(str.encode),
    st.builds(
        lambda *parts: b"".join(parts), st.sampled_from([b"", b" ", b"+", b"- "]), numerals, st.binary(max_size=3)
    ),
)


@given(numberlike)
def test_numbers_are_read_as_memcached_reads_them(value):
    assert unsigned_64(value) == safe_strtoull(value)


def test_number_of_many_thousand_digits_is_no_number():
    assert unsigned_64(b"9" * 100_000) is None
    assert unsigned_64(b"0" * 100_000 + b"7") == 7


def test_signed_number_is_a_long_cut_to_32_bits():
    numbers = (b"-1", b"4294967295", b"2147483648", b"+7", b"9223372036854775808", b"x", b"-", b"1x", b"")
    assert [signed_32(number) for number in numbers] == [-1, -1, -(1 << 31), 7, None, None, None, None, None]
