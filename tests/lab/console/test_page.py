"""What the page's server says of itself, to who watches over it."""

from __future__ import annotations

import asyncio

import httpx
import pytest
from nicegui import app

from lab.console import page
from lab.console.history import STALE_SECONDS, History
from lab.top.samples import Source


@pytest.mark.parametrize(("later", "status"), [(1, 200), (STALE_SECONDS + 1, 503)])
def test_page_whose_figures_stand_still_is_not_healthy(monkeypatch, later, status):
    history = History([Source("nginx", "http://127.0.0.1:1")])
    routes = list(app.routes)
    try:
        page.add_figures(history)
        monkeypatch.setattr(history, "_noted", history._noted - later)

        async def ask():
            async with httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://127.0.0.1") as client:
                return await client.get("/healthz")

        assert asyncio.run(ask()).status_code == status
    finally:
        app.router.routes[:] = routes
