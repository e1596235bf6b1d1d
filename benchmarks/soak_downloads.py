"""Downloads from a faulty server on loopback (`soak.py downloads`).

Each fault alone must end soon with a message of one line, and no file may remain. Beside a mirror
that works, or if the fault is temporary, the file must be there, complete and verified.
"""

import argparse
import hashlib
import multiprocessing
import os
import random
import socket
import struct
import tempfile
import threading
import time
import urllib.request
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from unittest.mock import patch

from mlx_gmvae.data import downloads as store_module
from mlx_gmvae.data.downloads import Content, DownloadError, Downloads, Published

CONTENT = random.Random(0).randbytes(300_000)
NAME = "set.bin"
SECONDS = 0.5  # in place of the package's timeout
LONGEST = 10  # seconds for any download


class Handler(BaseHTTPRequestHandler):
    """Serve the fault named in the first part of the path, as often as the second part tells."""

    times: dict[str, int] = {}  # noqa: RUF012 (shared on purpose)

    def log_message(self, *args: object) -> None:
        pass

    def do_GET(self) -> None:
        path = self.path.removeprefix("http://mirror.invalid")  # the request as a proxy gets it
        _, fault, strikes, *_ = path.split("/")
        seen = self.times[path] = self.times.get(path, 0) + 1
        if fault == "none" or seen > int(strikes):
            self.answer(CONTENT)
        else:
            FAULTS[fault](self)

    def answer(self, content: bytes, announced: int | str | None = None, status: int = 200) -> None:
        self.send_response(status)
        self.send_header("Content-Length", str(len(content) if announced is None else announced))
        self.end_headers()
        self.wfile.write(content)

    def stall(self, content: bytes) -> None:
        self.answer(content, len(CONTENT))
        time.sleep(3 * SECONDS)

    def reset(self, content: bytes = b"") -> None:
        if content:
            self.answer(content, len(CONTENT))
        self.wfile.flush()
        linger = struct.pack("ii", 1, 0)  # so that closing sends a reset
        self.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, linger)
        self.connection.close()

    def redirect(self, place: str) -> None:
        self.send_response(302)
        self.send_header("Location", place)
        self.end_headers()

    def trickle(self) -> None:
        self.answer(b"", len(CONTENT))
        for byte in CONTENT[:100]:
            self.wfile.write(bytes([byte]))
            self.wfile.flush()
            time.sleep(SECONDS / 10)

    def endless(self) -> None:
        self.send_response(200)
        self.end_headers()
        for _ in range(1000):
            self.wfile.write(bytes(1 << 20))


FAULTS: dict[str, Callable[[Handler], None]] = {
    "cut": lambda h: h.answer(CONTENT[:100_000], len(CONTENT)),
    "cut without a length": lambda h: (h.send_response(200), h.end_headers(),
                                       h.wfile.write(CONTENT[:5000])),
    "stalls at once": lambda h: time.sleep(3 * SECONDS),
    "stalls half way": lambda h: h.stall(CONTENT[:100_000]),
    "trickles": Handler.trickle,
    "resets at once": lambda h: h.reset(),
    "resets half way": lambda h: h.reset(CONTENT[:100_000]),
    "redirects to itself": lambda h: h.redirect(h.path),
    "redirects to a file": lambda h: h.redirect("file:///etc/passwd"),
    "a page of HTML": lambda h: h.answer(b"<html>Please log in</html>"),
    "404": lambda h: h.answer(b"no", status=404),
    "500": lambda h: h.answer(b"no", status=500),
    "nothing": lambda h: h.answer(b""),
    "one byte wrong": lambda h: h.answer(b"x" + CONTENT[1:]),
    "more than there is": lambda h: h.answer(CONTENT + b"x"),
    "endless": Handler.endless,
    "a length that is none": lambda h: h.answer(CONTENT[:99], "many"),
    "a negative length": lambda h: h.answer(CONTENT[:99], -5),
    "no HTTP": lambda h: h.wfile.write(os.urandom(500)),
    "headers without end": lambda h: h.wfile.write(b"HTTP/1.1 200 OK\r\n" + b"X: y\r\n" * 9999),
}  # fmt: skip
PASSES = ("cut", "resets at once", "resets half way", "500", "no HTTP")  # gone at the next try


class Server(ThreadingHTTPServer):
    daemon_threads = True

    def handle_error(self, *args: object) -> None:
        pass


@contextmanager
def served() -> Iterator[str]:
    with Server(("127.0.0.1", 0), Handler) as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        yield f"http://127.0.0.1:{server.server_port}"
        server.shutdown()
        thread.join()


def download(mirrors: tuple[str, ...], folder: Path) -> bytes:
    """Download a published set from these mirrors and return its content."""
    digests = {NAME: hashlib.sha256(CONTENT).hexdigest()}
    entry = Published(mirrors, digests, lambda _: Content((None, None)))  # type: ignore[arg-type]
    _, content = Downloads("set", entry, folder).content(NAME)
    return content


def quickly() -> Any:
    """Return a context with short timeouts, without which the faults would take minutes."""
    return patch.multiple(store_module, TIMEOUT_SECONDS=SECONDS, PATIENCE_SECONDS=SECONDS,
                          SLOWEST=10_000)  # fmt: skip


def problem_of(mirrors: tuple[str, ...], folder: Path, is_right: bool) -> str:
    """Return what is wrong with the end of a download; an empty string if nothing is."""
    started, place = time.monotonic(), folder / "set"
    try:
        with quickly():
            right = download(mirrors, folder) == CONTENT
        problem = "" if is_right and right else "was taken for the file"
    except DownloadError as error:
        problem = str(error) if is_right or "\n" in str(error) else ""
    except Exception as error:
        problem = f"{type(error).__name__}: {error}"
    kept = sorted(path.name for path in place.iterdir()) if place.is_dir() else []
    if not problem and kept != ([NAME] if is_right else []):
        problem = f"left {kept}"
    seconds = time.monotonic() - started
    return problem or (f"took {seconds:.0f} seconds" if seconds > LONGEST else "")


def at_once(address: str, folder: str) -> None:
    assert download((f"{address}/none/0/",), Path(folder)) == CONTENT


def two_processes(address: str, folder: Path) -> str:
    context = multiprocessing.get_context("spawn")
    both = [context.Process(target=at_once, args=(address, str(folder))) for _ in range(2)]
    for process in both:
        process.start()
    for process in both:
        process.join(120)
    if [process.exitcode for process in both] != [0, 0]:
        return "one of two processes failed"
    kept = [path.name for path in (folder / "set").iterdir()]
    return "" if kept == [NAME] else f"two processes left {kept}"


def by_proxy(address: str, folder: Path) -> str:
    variables = {"http_proxy": address, "no_proxy": "", "NO_PROXY": ""}
    # urllib reads the proxy settings once in a process.
    with patch.dict(os.environ, variables), patch.object(urllib.request, "_opener", None):
        return problem_of(("http://mirror.invalid/none/0/",), folder, True)


def downloads(args: argparse.Namespace) -> list[dict]:
    """Try each fault alone, beside a good mirror and once only; two processes; a proxy."""
    rows = []
    with served() as address:
        for fault in FAULTS:
            bad, good = (f"{address}/{name.replace(' ', '%20')}" for name in (fault, "none"))
            tries = [((f"{bad}/99/",), False), ((f"{bad}/98/", f"{good}/0/"), True)]
            tries += [((f"{bad}/1/",), True)] * (fault in PASSES)
            attempts = [(problem_of, each) for each in tries]
            rows.append(row(f"a server: {fault}", attempts, args.workdir))
        more = {"two processes that download at once": two_processes}
        more["a download through a proxy"] = by_proxy
        for name, function in more.items():
            rows.append(row(name, [(function, (address,))], args.workdir))
    return rows


def row(name: str, tries: Sequence[tuple[Callable[..., str], tuple]], workdir: str) -> dict:
    started, failures = time.monotonic(), []
    for function, (first, *rest) in tries:
        with tempfile.TemporaryDirectory(dir=workdir) as folder:
            problem = function(first, Path(folder), *rest)
        if problem:
            failures.append(f"{name}, {first}: {problem}")
            print(failures[-1], flush=True)
    return {
        "fault": name, "tried": len(tries), "survived": len(tries) - len(failures),
        "failures": failures, "seconds": round(time.monotonic() - started, 1),
    }  # fmt: skip


PARTS = {"downloads": downloads}
