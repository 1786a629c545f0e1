"""A store that can be told to fail, and an S3 API."""

from __future__ import annotations

import re
import socket
import struct
import threading
import time
from collections import Counter
from email.utils import formatdate
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest

from gpuio.testing import draw, encode, write_rec

pytest.importorskip("fsspec")
pytest.importorskip("aiohttp")


class Store:
    """Files on a web server of this process, which serves ranges as S3 does.

    Attributes:
        files: By path.
        fault: Called with the first and last byte that are asked for, and how often they were;
            returns what to do instead of answering: a status, "reset", "truncate" or "hang".
        asked: Ranges, in the order in which they were asked for.
        most: Requests that were answered at the same time.
        headers: Sent instead of the usual ones; None leaves one out.
    """

    def __init__(self):
        self.files, self.asked, self.most, self.delay = {}, [], 0, 0.0
        self.fault = lambda first, last, times: None
        self.etag, self.ranges, self.headers = '"one"', True, {}
        self._now, self._counts, self._lock = 0, Counter(), threading.Lock()
        self._released = threading.Event()
        store = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_GET(self):
                store.answer(self)

            do_HEAD = do_GET  # noqa: N815  as the base class calls it

            def log_message(self, *_):
                pass

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._server.daemon_threads = True
        threading.Thread(target=self._server.serve_forever, args=(0.05,), daemon=True).start()
        self.url = f"http://127.0.0.1:{self._server.server_port}"

    def close(self):
        self._released.set()
        self._server.shutdown()
        self._server.server_close()

    def answer(self, request):
        with self._lock:
            self._now += 1
            self.most = max(self.most, self._now)
        try:
            time.sleep(self.delay)
            self._answer(request)
        except ConnectionError:
            request.close_connection = True  # whoever asked has gone
        finally:
            with self._lock:
                self._now -= 1

    def _answer(self, request):
        data = self.files.get(request.path.partition("?")[0])
        if data is None:
            self._send(request, 404, b"<Error><Code>NoSuchKey</Code></Error>")
            return
        found = re.fullmatch(r"bytes=(\d+)-(\d+)", request.headers.get("Range", ""))
        if not found or not self.ranges:
            self._send(request, 200, data)
            return
        first, last = int(found[1]), min(int(found[2]), len(data) - 1)
        with self._lock:
            self.asked.append((first, last))
            self._counts[first, last] += 1
            times = self._counts[first, last]
        fault, headers = self.fault(first, last, times), {}
        headers["Content-Range"] = f"bytes {first}-{last}/{len(data)}"
        body = data[first : last + 1]
        if fault == "hang":
            self._released.wait()
        elif fault == "reset":
            linger = struct.pack("ii", 1, 0)
            request.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, linger)
            request.connection.close()
            request.close_connection = True
        elif fault == "truncate":
            self._send(request, 206, body, headers, sent=len(body) // 2)
            request.connection.shutdown(socket.SHUT_RDWR)
            request.close_connection = True
        elif isinstance(fault, int):
            self._send(request, fault, b"<Error><Code>SlowDown</Code></Error>")
        else:
            self._send(request, 206, body, headers)

    def _send(self, request, status, body, headers=None, sent=None):
        request.send_response(status)
        given = {"ETag": self.etag, "Last-Modified": formatdate(0), **(headers or {})}
        for name, value in {**given, "Content-Length": str(len(body)), **self.headers}.items():
            if value is not None:
                request.send_header(name, value)
        request.end_headers()
        if request.command == "GET":
            request.wfile.write(body[:sent])


@pytest.fixture
def store(monkeypatch):
    monkeypatch.setattr("gpuio.storage.remote.retry.FIRST_DELAY", 0.001)
    store = Store()
    yield store
    store.close()


@pytest.fixture(scope="session")
def far_rec(tmp_path_factory):
    """A .rec of 40 pictures of 30 by 34, of about 1 kB each, with its .idx."""
    path = tmp_path_factory.mktemp("far") / "train.rec"
    write_rec(path, [encode(draw(30, 34, seed=n), "JPEG") for n in range(40)], ids=range(70, 110))
    return path


@pytest.fixture(scope="session")
def s3():
    """An S3 API with a bucket "data": (options of fsspec, its filesystem)."""
    pytest.importorskip("s3fs")
    server_module = pytest.importorskip("moto.server")
    server = server_module.ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    server.start()
    host, port = server.get_host_and_port()
    options = {"key": "one", "secret": "two", "endpoint_url": f"http://{host}:{port}"}
    import fsspec

    fs = fsspec.filesystem("s3", **options)
    fs.mkdir("data")
    yield options, fs
    server.stop()
