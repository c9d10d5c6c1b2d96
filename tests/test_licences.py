"""docs/licences.md has every pinned package, as its metadata has it; none is unknown, and an image has no copyleft."""

from __future__ import annotations

from support import licences


def test_page_has_what_is_installed_and_nothing_that_is_not_pinned():
    stored, installed = licences.stored_rows(), licences.installed_rows()
    assert {name: row for name, row in stored.items() if name in installed} == installed, "run `make licences`"
    assert stored.keys() == licences.pinned()


def test_every_licence_is_known():
    assert [row for row in licences.stored_rows().values() if licences.UNKNOWN in row] == []


def test_image_has_no_licence_that_binds_what_it_is_shipped_with():
    rows = [licences.ROW.match(row) for row in licences.stored_rows().values()]
    image = [row for row in rows if {"servers", "tools"} & set(row["parts"].split(", "))]
    assert len(image) > 20
    assert [row[0] for row in image if "GPL" in row["licence"] and " OR " not in row["licence"]] == []
