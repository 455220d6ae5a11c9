"""A real HTTP server for a folder, which counts requests and can be told to misbehave."""

import threading
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from urllib.parse import unquote, urlsplit


class ShardServer(ThreadingHTTPServer):
    """Serves `folder` below `/shards/`."""

    daemon_threads = True

    def __init__(self, folder: Path) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.folder = folder
        self.requests: Counter[str] = Counter()
        self.queries: set[str] = set()
        self.misbehaviour: dict[str, str] = {}
        """File name to `cut`, `cut once`, `silent`, `404`, `503`, `slow`, `held`, `redirect`,
        `longer`."""

        self.go_on = threading.Event()
        """What a `held` answer waits for in its middle."""

        self.lock = threading.Lock()

    @property
    def address(self) -> str:
        return f"http://127.0.0.1:{self.server_port}/shards"

    @property
    def tars(self) -> dict[str, int]:
        """Requests per tar."""
        return {name: count for name, count in self.requests.items() if name.endswith(".tar")}


class _Handler(BaseHTTPRequestHandler):
    server: ShardServer

    def log_message(self, *_: object) -> None:
        """Stay silent."""

    def do_GET(self) -> None:
        parts = urlsplit(self.path)
        name = unquote(parts.path).rpartition("/")[2]
        with self.server.lock:
            self.server.requests[name] += 1
            self.server.queries.add(parts.query)
            how = self.server.misbehaviour.get(name, "")
            if how == "cut once":
                del self.server.misbehaviour[name]
        path = self.server.folder / name
        if how in ("404", "503") or not path.is_file():
            self.send_error(int(how or 404))
        elif how == "redirect" and "moved" not in parts.query:
            self.send_response(302)
            self.send_header("Location", f"{parts.path}?moved=1")
            self.end_headers()
        else:
            self._send(path.read_bytes(), how)

    def _send(self, content: bytes, how: str) -> None:
        if how == "longer":
            content += bytes(2**20)
        if how == "silent":
            time.sleep(5)
            return
        self.send_response(200)
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        if how.startswith("cut"):
            self.wfile.write(content[: len(content) // 2])
            return
        if how in ("slow", "held"):
            self.wfile.write(content[:65_536])
            self.server.go_on.wait(2 if how == "slow" else 60)
            content = content[65_536:]
        self.wfile.write(content)


@contextmanager
def serving(folder: Path) -> Iterator[ShardServer]:
    """Serve a folder until the block ends."""
    with ShardServer(folder) as server:
        threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01}).start()
        try:
            yield server
        finally:
            server.shutdown()
