"""Versions of the Python packages that are installed, without importing them."""

from __future__ import annotations

from importlib.metadata import PackageNotFoundError, version


def version_of_package(name: str, *needed: str) -> str | None:
    """The version of package `name`; None when it or one of the `needed` is not installed."""
    try:
        for package in needed:
            version(package)
        return version(name)
    except PackageNotFoundError:
        return None
