"""Where the page is served: this machine alone, unless somebody asks for more.

Source: the threaded server of Werkzeug, which suits a page of a few people whose requests wait for
one model. What differs: an address that is taken is an error to read, not the end of the process.
"""

from __future__ import annotations

import socket
from collections.abc import Collection
from typing import Any

from sphereface.errors import SphereFaceError
from sphereface.extras import require

__all__ = ["PageServer", "trusted_names"]

_EVERY_ADDRESS = ("", "0.0.0.0")
_LAST_PORT = 65535


class PageServer:
    """An application on an address, a thread a request.

    Parameters
    ----------
    app : flask.Flask
        Of `create_app`.
    host : str
    port : int
        0 for any that is free; `url` has it.

    Raises
    ------
    SphereFaceError
        The address is not to be had.
    """

    def __init__(self, app: Any, host: str = "127.0.0.1", port: int = 0) -> None:
        if not 0 <= port <= _LAST_PORT:
            raise SphereFaceError(f"port {port}", expected=f"0 to {_LAST_PORT}", where="--port")
        serving = require("werkzeug.serving", "page")
        try:
            listening = socket.create_server((host, port))
        except OSError as error:
            raise SphereFaceError(
                error.strerror or str(error),
                where=f"{host}:{port}",
                expected="an address of this machine and a port that is free",
                fix="give others by --host and --port",
            ) from None
        with listening:
            port = listening.getsockname()[1]
            self._server = serving.make_server(
                host, port, app, threaded=True, fd=listening.fileno()
            )
        self.url = f"http://{host}:{port}/"

    def serve(self) -> None:
        """Answer until `close` or Ctrl-C."""
        self._server.serve_forever()

    def close(self) -> None:
        """End `serve`, which another thread runs."""
        self._server.shutdown()


def trusted_names(host: str, names: Collection[str] = ()) -> list[str]:
    """Return the names by which browsers may ask for a server on `host`.

    Another site can let its own name point here; requests made so carry that name.

    Raises
    ------
    SphereFaceError
        `host` is every address, and nobody said what browsers call it; or it is an IPv6 address.
    """
    if ":" in host:  # Werkzeug's list of trusted names cannot hold one
        raise SphereFaceError(f'host "{host}"', where="--host", expected="an IPv4 address or name")
    if host not in _EVERY_ADDRESS:
        return [host, *names]
    if not names:
        raise SphereFaceError(
            f'host "{host}" without a name',
            where="--host",
            expected="--name NAME too: what the browsers' address bar shows, without the port",
        )
    return list(names)
