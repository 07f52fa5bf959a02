"""A client that costs little: many connections from one loop, each asking again as soon as it is answered."""

import asyncio
import itertools
import json
import time
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from urllib.parse import urlsplit


@dataclass
class Load:
    """What came of asking for a while: the seconds of each answer, how often each status came, how many came before."""

    seconds: list[float] = field(default_factory=list)
    statuses: Counter[int] = field(default_factory=Counter)
    lasted: float = 0.0
    before: int = 0

    @property
    def per_second(self) -> float:
        """Answers with success a second."""
        return sum(count for status, count in self.statuses.items() if status // 100 == 2) / self.lasted

    def within(self, share: float) -> float:
        """The milliseconds within which a share of the answers came."""
        ordered = sorted(self.seconds)
        return 1000 * ordered[min(int(share * len(ordered)), len(ordered) - 1)]

    def __str__(self) -> str:
        p50, p95, p99 = (self.within(share) for share in (0.5, 0.95, 0.99))
        failed = sum(count for status, count in self.statuses.items() if status // 100 != 2)
        told = f"{self.per_second:8.1f} a second   p50 {p50:8.1f}   p95 {p95:8.1f}   p99 {p99:8.1f} ms"
        return f"{told}   {failed} not answered with success" if failed else told


def request_of(url: str, body: object, key: str = "") -> bytes:
    """One POST as it goes over the wire; None as the body makes it a GET."""
    parts = urlsplit(url)
    content = b"" if body is None else json.dumps(body).encode()
    head = [f"{'GET' if body is None else 'POST'} {parts.path} HTTP/1.1", f"host: {parts.netloc}", f"x-api-key: {key}"]
    head += ["content-type: application/json", f"content-length: {len(content)}", "", ""]
    return "\r\n".join(head).encode() + content


async def answered(reader: asyncio.StreamReader) -> int:
    """Read one answer; its status."""
    head = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1").lower()
    length = int(head.split("content-length:", 1)[1].split("\r\n", 1)[0])
    await reader.readexactly(length)
    return int(head.split(" ", 2)[1])


async def ask_for(url: str, requests: Sequence[bytes], connections: int, seconds: float) -> Load:
    """Ask the requests in turn over so many connections for so many seconds."""
    parts, load, began = urlsplit(url), Load(), time.perf_counter()
    turn = itertools.cycle(requests)

    async def connection() -> None:
        reader, writer = await asyncio.open_connection(parts.hostname, parts.port, limit=2**24)
        while time.perf_counter() - began < seconds:
            asked = time.perf_counter()
            writer.write(next(turn))
            load.statuses[await answered(reader)] += 1
            load.seconds.append(time.perf_counter() - asked)
        writer.close()

    await asyncio.gather(*(connection() for _ in range(connections)))
    load.lasted = time.perf_counter() - began
    return load


def measure(url: str, requests: Sequence[bytes], *, connections: int, seconds: float) -> Load:
    """`ask_for`, from code that does not wait; the first answers, before everything is warm, do not count."""
    warming = asyncio.run(ask_for(url, requests, connections, min(1.0, seconds / 4)))
    load = asyncio.run(ask_for(url, requests, connections, seconds))
    load.before = len(warming.seconds)
    return load
