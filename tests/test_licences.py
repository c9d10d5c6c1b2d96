"""docs/licences.md has every pinned package, as its metadata has it; none is unknown, and an image has no copyleft."""

from __future__ import annotations

import json
import re

from support import licences, release


def test_page_has_what_is_installed_and_nothing_that_is_not_pinned():
    stored, installed = licences.stored_rows(), licences.installed_rows()
    assert {name: row for name, row in stored.items() if name in installed} == installed, "run `make licences`"
    assert stored.keys() == licences.pinned()


def test_every_licence_is_known():
    assert [row for row in licences.stored_rows().values() if licences.UNKNOWN in row] == []


MIXED = {"docutils"}
"""An editor's mode among its files is under the GPL; all else is in the public domain or under the BSD licence."""


def test_image_has_no_licence_that_binds_what_it_is_shipped_with():
    rows = [licences.ROW.match(row) for row in licences.stored_rows().values()]
    image = [row for row in rows if {"servers", "tools"} & set(row["parts"].split(", "))]
    assert len(image) > 20
    assert {row["name"] for row in image if re.search("GPL|GNU", row["licence"])} == MIXED


def test_bill_of_materials_has_the_packages_of_the_image():
    document = json.loads(release.bill_of_materials())
    assert document["bomFormat"] == "CycloneDX"
    names = {component["name"] for component in document["components"]}
    assert {"httptools", "locust", "nicegui"} <= names
    assert not {"ansible", "ruff"} & names
    assert all(component["licenses"] for component in document["components"])
