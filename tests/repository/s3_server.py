"""A real S3 server for tests: moto's, in a process of its own on loopback, which ends with its owner.

Of moto, unlike of S3, two who create one name at the same moment may both be told that they did: it looks whether the
object is there and stores it in two steps. So its server does what changes something one at a time.
"""

from __future__ import annotations

import subprocess
import sys
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

SERVE = """
import logging, sys, threading
logging.getLogger("werkzeug").setLevel(logging.ERROR)
from moto.moto_server import threaded_moto_server
from moto.server import ThreadedMotoServer

class OneChangeAtATime(threaded_moto_server.DomainDispatcherApplication):
    changing = threading.Lock()
    def __call__(self, environment, respond):
        if environment["REQUEST_METHOD"] in ("GET", "HEAD"):
            return super().__call__(environment, respond)
        with self.changing:
            return super().__call__(environment, respond)

threaded_moto_server.DomainDispatcherApplication = OneChangeAtATime
server = ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
server.start()
print(*server.get_host_and_port(), flush=True)
sys.stdin.read()
"""
CREDENTIALS = {"AWS_ACCESS_KEY_ID": "newhope-tests", "AWS_SECRET_ACCESS_KEY": "tell-nobody-of-this"}


@dataclass
class S3Server:
    """Where it listens."""

    host: str
    port: int

    @property
    def endpoint(self) -> str:
        return f"http://{self.host}:{self.port}"

    def make_bucket(self, name: str) -> None:
        urllib.request.urlopen(urllib.request.Request(f"{self.endpoint}/{name}", method="PUT")).close()


@contextmanager
def s3_server() -> Iterator[S3Server]:
    process = subprocess.Popen(
        [sys.executable, "-c", SERVE],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
    )
    try:
        assert process.stdout
        host, port = process.stdout.readline().split()
        yield S3Server(host, int(port))
    finally:
        process.terminate()
        process.wait()
        for stream in (process.stdin, process.stdout):
            if stream:
                stream.close()
