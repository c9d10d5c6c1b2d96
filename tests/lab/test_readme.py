"""Measured figures in the README stand between marks."""

from __future__ import annotations

import pytest

from lab import readme


def test_only_what_is_between_the_marks_is_replaced(monkeypatch, tmp_path) -> None:
    monkeypatch.setattr(readme, "README", tmp_path / "README.md")
    readme.README.write_text("a\n<!-- x:begin -->\nold\n<!-- x:end -->\nb\n<!-- y:begin -->\n<!-- y:end -->\n")
    readme.put("x", "new \\1\n")
    assert (
        readme.README.read_text()
        == "a\n<!-- x:begin -->\nnew \\1\n<!-- x:end -->\nb\n<!-- y:begin -->\n<!-- y:end -->\n"
    )
    assert (readme.block("x"), readme.block("y")) == ("new \\1\n", "")


def test_missing_marks_are_named() -> None:
    with pytest.raises(ValueError, match="<!-- nothing:begin -->"):
        readme.block("nothing")
