"""The conductor's door in the instant in which a run ends."""

from __future__ import annotations

import asyncio
from typing import Any
from unittest.mock import MagicMock

import pytest

from kts.conduct.server import MessageServer


def test_a_connection_that_comes_as_the_run_ends_shows_no_traceback(monkeypatch: pytest.MonkeyPatch) -> None:
    """A tenant that dies while the others join would end its run with a traceback beside the error: asyncio shows one
    where a task of its own is cancelled before its first step."""
    told: list[dict[str, Any]] = []
    transport = MagicMock(spec=asyncio.Transport)
    listening: list[Any] = []
    start_server = asyncio.start_server

    async def listens(callback: Any, *where: Any, **how: Any) -> asyncio.Server:
        listening.append(callback)
        return await start_server(callback, *where, **how)

    async def run() -> None:
        asyncio.get_running_loop().set_exception_handler(lambda _, context: told.append(context))
        server = MessageServer("127.0.0.1", 0, lambda _: None)
        await server.open()
        await server.close()
        late = asyncio.StreamReaderProtocol(asyncio.StreamReader(), listening[0])
        asyncio.get_running_loop().call_soon(late.connection_made, transport)  # the last that is done before the end

    monkeypatch.setattr(asyncio, "start_server", listens)
    asyncio.run(run())
    assert told == []
    assert transport.close.called, "the connection would stay open"
