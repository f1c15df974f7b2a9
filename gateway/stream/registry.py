"""Who is connected to which instance, in Redis: limits count all instances, and a user can be sent away from all.

Whoever is connected here is known here; Redis has a copy, written anew whenever it may have missed something. What it
is told goes through one queue and one connection, so that it is told in order.
"""

import asyncio
import hashlib
import itertools
import os
import random
import secrets
import socket
import time
from collections import deque
from contextlib import suppress
from dataclasses import dataclass, replace
from functools import cache

from pydantic import SecretStr
from redis.asyncio import Redis
from redis.asyncio.client import PubSub

from gateway import shared
from gateway.limits import source_of
from gateway.shared import BOUND_S, TROUBLE
from gateway.stream import protocol, scripts
from gateway.stream.admission import Alone
from gateway.stream.connection import Connection
from sentio import log
from sentio.config import StreamSettings

LEASE_S = 30.0
"""How long the connections of an instance count that was killed."""

SLICE = 100  # commands, or connections, that are sent at once: some two milliseconds of the event loop
PAUSE_S = 1.0  # in which an outage is left alone; doubled with each further failure
LONGEST_PAUSE_S = 16.0
LISTEN_S = 10.0  # of silence, after which the other side is asked whether it is there


@dataclass(frozen=True, slots=True)
class Entry:
    """One open connection."""

    number: int
    address: str
    product: str
    user: str | None
    opened_ms: int

    @property
    def field(self) -> str:
        return f"{self.number} {self.user or ''}"

    @property
    def value(self) -> str:
        return f"{self.opened_ms} {self.address} {self.product}"

    @property
    def places(self) -> tuple[str, str]:
        """What it takes; '' for no user."""
        return f"address {source_of(self.address)}", f"user {self.user}" if self.user else ""


@dataclass(frozen=True, slots=True)
class Command:
    """A script for Redis, and who waits for its answer."""

    script: str
    arguments: tuple[str | int, ...]
    answer: "asyncio.Future[str] | None" = None


class Lost(Exception):
    """Redis knows nothing of us any more."""


class Registry:
    """Of one process; belongs to the event loop. Raises `SettingError` for a URL that is none."""

    def __init__(self, settings: StreamSettings, url: SecretStr) -> None:
        self.joined = False
        """Whether Redis knows all that are connected here, and can be asked."""

        shared.check(url)
        self._url = url
        self._prefix = shared.prefix(settings)
        self._most = {"user": settings.stream_user_connections, "address": settings.stream_address_connections}
        self._instance = ""
        self._former = ""
        """Under which name Redis last gave us a lease."""

        self._numbers = itertools.count(1)
        self._held: dict[Connection, Entry] = {}
        self._taking = False
        """Whether what changes is put into the queue; else all is written at once when Redis is back."""

        self._queue: deque[Command] = deque()
        self._wake = asyncio.Event()
        self._broken = False
        self._once = log.OncePer()

    # What the gateway tells and asks

    async def enter(self, connection: Connection, user: str | None) -> str | None:
        """Count a connection, or the user of one that is counted already.

        The limit that has no room ("user" or "address"), or None. Raises `Alone`, after `BOUND_S` at the latest; then
        `note` what becomes of it.
        """
        if not self.joined:
            raise Alone
        before = self._held.get(connection)
        entry = self._entry(connection, user)
        answer: asyncio.Future[str] = asyncio.get_running_loop().create_future()
        self._tell(self._entering(entry, before, self._most, answer))
        try:
            async with asyncio.timeout(BOUND_S):
                full = await answer
        except TimeoutError:
            self._broken, self.joined = True, False  # whether it has been counted is not known
            self._wake.set()
            raise Alone from None
        if full:
            return full.partition(" ")[0]
        self._held[connection] = entry
        return None

    def note(self, connection: Connection, user: str | None) -> None:
        """A connection is open, whether or not `enter` could be asked about it."""
        before = self._held.get(connection)
        if before and before.user == user:
            return
        entry = self._held[connection] = self._entry(connection, user)
        self._tell(self._entering(entry, before, {"user": 0, "address": 0}))

    def leave(self, connection: Connection) -> None:
        """It is closed; nothing happens if it was never counted."""
        if entry := self._held.pop(connection, None):
            self._tell(Command(scripts.LEAVE, (entry.field, *filter(None, entry.places))))

    def _entry(self, connection: Connection, user: str | None) -> Entry:
        if before := self._held.get(connection):
            return replace(before, user=user)
        return Entry(next(self._numbers), connection.address, connection.product, user, time.time_ns() // 1_000_000)

    def _entering(
        self, entry: Entry, before: Entry | None, most: dict[str, int], answer: "asyncio.Future[str] | None" = None
    ) -> Command:
        new = [place for place in entry.places if place and (before is None or place not in before.places)]
        limits = [part for place in new for part in (place, most[place.partition(" ")[0]])]
        return Command(
            scripts.ENTER,
            (self._places_of(""), entry.field, before.field if before else "", entry.value, *limits),
            answer,
        )

    def _tell(self, command: Command) -> None:
        if self._taking:
            self._queue.append(command)
            self._wake.set()

    # What goes on all the time

    async def run(self) -> None:
        """Keep Redis informed and listen to what operators say, for ever."""
        await asyncio.gather(self._inform(), self._listen())

    async def _inform(self) -> None:
        pause_s = PAUSE_S
        while True:
            began_s = time.monotonic()
            try:
                async with shared.connected(self._url) as redis:
                    await self._join(redis)
                    await self._tell_all(redis)
            except (*TROUBLE, Lost) as failure:
                if self._once.due("away"):
                    log.get().warning(
                        "redis is away; limits are those of each instance until it is back",
                        cause=str(failure) or type(failure).__name__,
                    )
            finally:
                self._stop_telling()
            if time.monotonic() - began_s > LEASE_S:
                pause_s = PAUSE_S
            await asyncio.sleep(pause_s * random.uniform(0.5, 1))  # noqa: S311 - no secret
            pause_s = min(LONGEST_PAUSE_S, 2 * pause_s)

    async def _join(self, redis: Redis) -> None:
        """Under a name that Redis has never heard, so that nothing of before counts, whenever it arrives."""
        self._instance = f"{socket.gethostname()}:{os.getpid()}:{secrets.token_hex(4)}"
        async with asyncio.timeout(BOUND_S):
            for script in scripts.ALL:
                await redis.script_load(script)
        await self._run(redis, [Command(scripts.JOIN, (self._prefix, self._former))])
        self._former = self._instance
        open_ones = list(self._held.values())
        self._taking = True
        for first in range(0, len(open_ones), SLICE):
            some = open_ones[first : first + SLICE]
            parts = [part for entry in some for part in (entry.field, entry.value, *entry.places)]
            await self._run(redis, [Command(scripts.WRITE, tuple(parts))])
        self.joined = True
        self._once.reset()
        log.get().info("redis answers; limits are those of all instances together", connections=len(open_ones))

    async def _tell_all(self, redis: Redis) -> None:
        renewed_s = time.monotonic()
        while not self._broken:
            left_s = renewed_s + LEASE_S / 3 - time.monotonic()
            if left_s <= 0:
                renewed_s = time.monotonic()
                await self._run(redis, [Command(scripts.RENEW, ())])
            if not self._queue:
                self._wake.clear()
                with suppress(TimeoutError):
                    async with asyncio.timeout(left_s):  # `wait_for` may lose a cancellation, before Python 3.12
                        await self._wake.wait()
            if self._queue:
                await self._run(redis, [self._queue.popleft() for _ in range(min(SLICE, len(self._queue)))])
        raise TimeoutError(f"no answer in {BOUND_S} s")

    async def _run(self, redis: Redis, commands: list[Command]) -> None:
        """One round trip. Raises what is in `TROUBLE`, or `Lost`; then nobody waits any more."""
        keys = (f"{self._prefix}instances", f"{self._prefix}clients:{self._instance}", self._places_of(self._instance))
        pipeline = redis.pipeline(transaction=False)
        for command in commands:
            pipeline.evalsha(
                _sha(command.script), len(keys), *keys, self._instance, int(LEASE_S * 1_000), *command.arguments
            )
        answers: list[str] = []
        try:
            async with asyncio.timeout(BOUND_S):
                answers = await pipeline.execute()
        finally:
            if not answers or "lost" in answers:
                for command in commands:
                    _give_up(command)
        if "lost" in answers:
            raise Lost("it has forgotten this instance: restarted, or not reached for too long")
        for command, answer in zip(commands, answers, strict=True):
            if command.answer and not command.answer.done():
                command.answer.set_result(answer)

    def _stop_telling(self) -> None:
        self.joined = self._taking = self._broken = False
        for command in self._queue:
            _give_up(command)
        self._queue.clear()

    def _places_of(self, instance: str) -> str:
        return f"{self._prefix}places:{instance}"

    # What operators say

    async def _listen(self) -> None:
        while True:
            with suppress(*TROUBLE):  # of which `_inform` tells
                async with shared.connected(self._url) as redis, redis.pubsub() as said:
                    await said.subscribe(self._prefix + shared.DISCONNECT)
                    await self._obey(said)
            await asyncio.sleep(PAUSE_S)

    async def _obey(self, said: PubSub) -> None:
        is_silent = False
        while True:
            message = await said.get_message(timeout=LISTEN_S)
            if message is None:
                if is_silent:
                    raise TimeoutError
                await said.ping()
            elif message["type"] == "message":
                self._disconnect(str(message["data"]))
            is_silent = message is None

    def _disconnect(self, user: str) -> None:
        found = [connection for connection, entry in self._held.items() if entry.user == user]
        log.get().info("a user is disconnected by an operator", user=user, connections=len(found))
        for connection in found:
            connection.close(protocol.CLOSE_DISCONNECTED, "disconnected by an operator")

    async def close(self) -> None:
        """Nobody is connected here any more; takes `BOUND_S` at most."""
        self._instance = ""
        if self._former:
            with suppress(*TROUBLE):
                async with asyncio.timeout(BOUND_S), shared.connected(self._url) as redis:
                    await self._run(redis, [Command(scripts.JOIN, (self._prefix, self._former))])


@cache
def _sha(script: str) -> str:
    return hashlib.sha1(script.encode(), usedforsecurity=False).hexdigest()


def _give_up(command: Command) -> None:
    if command.answer and not command.answer.done():
        command.answer.set_exception(Alone())
