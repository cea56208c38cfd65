"""An HTTP server of files on loopback, for tests: ranges, ETags, listings, and faults on demand.

with FileServer({"data/a.parquet": content}) as server:
    server.faults["data/a.parquet"] = ["503", "cut"]   # of the next two requests with a body
    ... read server.url("data/a.parquet") ...
    assert server.ranges["data/a.parquet"] == [(0, 16)]
"""

import hashlib
import re
import threading
from collections import defaultdict
from collections.abc import Callable
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

from typing_extensions import Self


class FileServer:
    """The server; `files` may be changed at any time."""

    def __init__(self, files: dict[str, bytes], *, has_ranges: bool = True) -> None:
        self.files = dict(files)
        self.has_ranges = has_ranges
        self.faults: dict[str, list[str]] = defaultdict(list)
        """By path, of the next requests: a status, or `cut`: half of the body arrives."""
        self.headers: dict[str, str] = {}
        """Sent with every file."""
        self.ranges: dict[str, list[tuple[int, int]]] = defaultdict(list)
        """By path, the ranges that were sent as a whole."""
        self.before_range: Callable[[str, int], None] = lambda path, start: None
        """Called before a range is sent, with its path and start."""
        server = self

        class Handler(_Handler):
            owner = server

        self._http = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._http.daemon_threads = True
        self._thread = threading.Thread(target=self._http.serve_forever, daemon=True)

    def url(self, path: str = "") -> str:
        return f"http://127.0.0.1:{self._http.server_address[1]}/{path}"

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._http.shutdown()
        self._http.server_close()
        self._thread.join()


class _Handler(BaseHTTPRequestHandler):
    owner: FileServer
    protocol_version = "HTTP/1.1"

    def do_HEAD(self) -> None:
        self._answer(with_body=False)

    def do_GET(self) -> None:
        self._answer(with_body=True)

    def log_message(self, format: str, *args: object) -> None:
        """Nothing."""

    def _answer(self, *, with_body: bool) -> None:
        path = self.path.partition("?")[0].lstrip("/")
        if path.endswith("/") or not path:
            self._list(path)
            return
        if path not in self.owner.files:
            is_folder = any(name.startswith(f"{path}/") for name in self.owner.files)
            self._send(301 if is_folder else 404, b"", {"Location": f"/{path}/"})
            return
        asked = re.fullmatch(r"bytes=(\d+)-(\d+)", self.headers.get("Range", ""))
        if with_body and asked:
            self.owner.before_range(path, int(asked[1]))
        content = self.owner.files[path]
        headers = {"ETag": f'"{hashlib.md5(content).hexdigest()}"', **self.owner.headers}
        fault = self.owner.faults[path].pop(0) if with_body and self.owner.faults[path] else ""
        if fault.isdigit():
            self._send(int(fault), b"")
            return
        if not with_body or not asked or not self.owner.has_ranges:
            self._send(200, content, headers, with_body=with_body)
            return
        start, end = int(asked[1]), min(int(asked[2]) + 1, len(content))
        headers["Content-Range"] = f"bytes {start}-{end - 1}/{len(content)}"
        if fault == "cut":
            self._send(206, content[start:end], headers, num_bytes=(end - start) // 2)
            self.close_connection = True
            return
        self.owner.ranges[path].append((start, end))
        self._send(206, content[start:end], headers)

    def _list(self, folder: str) -> None:
        names = sorted(
            {
                name.removeprefix(folder).partition("/")[0]
                + ("/" if "/" in name.removeprefix(folder) else "")
                for name in self.owner.files
                if name.startswith(folder)
            }
        )
        if not names:
            self._send(404, b"")
            return
        links = "".join(f'<a href="{name}">{name}</a>' for name in names)
        self._send(200, f"<html>{links}</html>".encode(), {"Content-Type": "text/html"})

    def _send(
        self,
        status: int,
        content: bytes,
        headers: dict[str, str] | None = None,
        *,
        with_body: bool = True,
        num_bytes: int | None = None,
    ) -> None:
        self.send_response(status)
        for name, value in (headers or {}).items():
            self.send_header(name, value)
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        if with_body:
            self.wfile.write(content[:num_bytes])
