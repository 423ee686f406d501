"""A proxy on loopback before a real S3 server, which refuses, delays and cuts as it is told, and forgets conditions."""

from __future__ import annotations

import http.client
import threading
import time
from collections.abc import Callable, Container, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from email.utils import formatdate, parsedate_to_datetime
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

from tests.repository.s3_server import S3Server

HOP_BY_HOP = {"connection", "keep-alive", "transfer-encoding", "content-length", "server", "date"}


@dataclass
class Rule:
    """What to do with the next `times` requests of a method to a path that holds a text."""

    method: str
    path: str = ""
    times: int = 1
    refuse: tuple[int, str] | None = None
    """Status and code to answer."""
    after_doing: bool = False
    """Let the server do it first, and spoil only its answer."""
    cut: bool = False
    """Close the connection: before any answer, or in the middle of its body if there is one."""
    delay_s: float = 0.0
    skip: int = 0
    """How many such requests to let pass first."""
    wait_for: threading.Event | None = None
    """Hold the request back until this is set."""
    arrived: threading.Event = field(default_factory=threading.Event)
    """Set when the first request came that the rule is for."""
    unless_header: str | None = None
    """Let requests pass that have this header."""

    def matches(self, method: str, path: str) -> bool:
        return self.times > 0 and self.method in (method, "*") and self.path in path


@dataclass
class Proxy:
    host: str
    port: int
    rules: list[Rule] = field(default_factory=list)
    requests: list[str] = field(default_factory=list)
    headers: list[dict[str, str]] = field(default_factory=list)
    forget_conditions: bool = False
    clock_off_s: float = 0.0
    """How far the server's clock is ahead when it says when an object was created."""
    on_request: Callable[[int], None] = lambda _: None
    """Called with the number of each request, before it is done."""
    keys_a_page: int | None = None
    """How many keys the server may list in one answer."""
    lock: threading.Lock = field(default_factory=threading.Lock)

    @property
    def endpoint(self) -> str:
        return f"http://{self.host}:{self.port}"

    def rule_for(self, method: str, path: str, headers: Container[str] = ()) -> Rule | None:
        with self.lock:
            self.requests.append(f"{method} {path}")
            for rule in self.rules:
                if rule.matches(method, path) and not (rule.unless_header and rule.unless_header in headers):
                    if rule.skip:
                        rule.skip -= 1
                        continue
                    rule.times -= 1
                    rule.arrived.set()
                    return rule
        return None


class Listener(ThreadingHTTPServer):
    """Listens for a proxy; what it knows is found here by each request."""

    daemon_threads = True

    def __init__(self, server: S3Server) -> None:
        super().__init__((server.host, 0), Handler)
        self.behind = server
        self.proxy = Proxy(server.host, self.server_port)

    def handle_error(self, request: object, client_address: object) -> None:
        """Whoever asked is gone: some of them are killed on purpose."""


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: Listener

    def _answer(self) -> None:
        body = self.rfile.read(int(self.headers.get("content-length") or 0))
        self.server.proxy.headers.append({name.lower(): value for name, value in self.headers.items()})
        rule = self.server.proxy.rule_for(self.command, self.path, self.headers)
        self.server.proxy.on_request(len(self.server.proxy.requests))
        if rule is None:
            with suppress(ConnectionError):
                self._send(*self._ask(body))
            return
        time.sleep(rule.delay_s)
        if rule.wait_for:
            rule.wait_for.wait()
        if rule.after_doing:
            self._ask(body)
        if rule.refuse:
            said = f"<Error><Code>{rule.refuse[1]}</Code><Message>the secret is never shown</Message></Error>"
            self._send(rule.refuse[0], [("Content-Type", "application/xml")], said.encode())
        elif rule.cut and (rule.after_doing or self.command != "GET"):
            self.close_connection = True
        else:
            # Whoever waited for it may have gone meanwhile.
            with suppress(ConnectionError):
                self._send(*self._ask(body), half=rule.cut)

    do_GET = do_PUT = do_HEAD = do_DELETE = do_POST = _answer

    def _ask(self, body: bytes) -> tuple[int, list[tuple[str, str]], bytes]:
        dropped = {"connection", "if-none-match"} if self.server.proxy.forget_conditions else {"connection"}
        headers = {name: value for name, value in self.headers.items() if name.lower() not in dropped}
        connection = http.client.HTTPConnection(self.server.behind.host, self.server.behind.port, timeout=30)
        try:
            pages = self.server.proxy.keys_a_page
            path = f"{self.path}&max-keys={pages}" if pages and "list-type" in self.path else self.path
            connection.request(self.command, path, body=body, headers=headers)
            answer = connection.getresponse()
            return answer.status, answer.getheaders(), answer.read()
        finally:
            connection.close()

    def _send(self, status: int, headers: list[tuple[str, str]], content: bytes, *, half: bool = False) -> None:
        self.send_response(status)
        for name, value in headers:
            if name.lower() == "last-modified":
                self.send_header(name, self._off(value))
            elif name.lower() not in HOP_BY_HOP:
                self.send_header(name, value)
        told = next((value for name, value in headers if name.lower() == "content-length"), str(len(content)))
        self.send_header("Content-Length", told)
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(content[: len(content) // 2] if half else content)
        self.close_connection = self.close_connection or half

    def _off(self, told: str) -> str:
        return formatdate(parsedate_to_datetime(told).timestamp() + self.server.proxy.clock_off_s, usegmt=True)

    def log_message(self, *_: object) -> None:
        return


@contextmanager
def misbehaving(server: S3Server) -> Iterator[Proxy]:
    listener = Listener(server)
    thread = threading.Thread(target=listener.serve_forever, args=(0.05,))
    thread.start()
    try:
        yield listener.proxy
    finally:
        listener.shutdown()
        thread.join()
        listener.server_close()
