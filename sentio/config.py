"""Settings of every process: environment (``SENTIO_…``) over ``sentio.toml`` over the defaults here.

Validated before anything connects; a wrong value is one line that names the setting (`load`).
"""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated, Literal, TypeVar

from pydantic import Field, SecretStr, ValidationError
from pydantic_settings import (
    BaseSettings,
    PydanticBaseSettingsSource,
    SettingsConfigDict,
    TomlConfigSettingsSource,
)

from sentio.errors import SettingError

PREFIX = "SENTIO_"
CONFIG_FILE = "sentio.toml"

Port = Annotated[int, Field(ge=0, le=65535)]


class Settings(BaseSettings):
    """What every process shares."""

    model_config = SettingsConfigDict(
        env_prefix=PREFIX, frozen=True, extra="ignore", toml_file=CONFIG_FILE, validate_default=True
    )

    kafka: str = Field("127.0.0.1:9092", min_length=3, description="bootstrap servers, host:port[,host:port]")
    topic_prefix: str = Field("sentio", pattern=r"^[a-z0-9][a-z0-9._-]*$", description="first part of every topic name")
    partitions: int = Field(50, ge=1, le=10_000, description="partitions of each topic (can only grow)")
    replication: int = Field(1, ge=1, le=9, description="replicas of each topic; 3 on a production cluster")
    log_level: str = Field("INFO", pattern="^(DEBUG|INFO|WARNING|ERROR)$", description="DEBUG, INFO, WARNING or ERROR")

    traces: str | None = Field(
        None, pattern=r"^https?://\S+$", description="OTLP collector of traces, http://HOST:4318; unset: none are made"
    )
    errors_dsn: SecretStr | None = Field(
        None, description="DSN of an error tracker with Sentry's protocol; unset: errors are in the log only"
    )

    @classmethod
    def settings_customise_sources(
        cls,
        settings_cls: type[BaseSettings],
        init_settings: PydanticBaseSettingsSource,
        env_settings: PydanticBaseSettingsSource,
        dotenv_settings: PydanticBaseSettingsSource,  # noqa: ARG003 - the signature is pydantic's
        file_secret_settings: PydanticBaseSettingsSource,
    ) -> tuple[PydanticBaseSettingsSource, ...]:
        return (init_settings, env_settings, file_secret_settings, TomlConfigSettingsSource(settings_cls))


class DatabaseSettings(Settings):
    """A process that talks to TimescaleDB or PostgreSQL."""

    database: SecretStr = Field(
        SecretStr("postgresql://sentio:sentio@127.0.0.1:5432/sentio"), description="PostgreSQL connection URL"
    )


class ObservedSettings(Settings):
    """A process that shows how it is on a port of its own."""

    metrics_port: Port | None = Field(None, description="port of /metrics, /livez and /readyz; unset: none")


class RedriveSettings(Settings):
    """Dead letters by hand: `sentio dead`."""

    redrive_most: int = Field(3, ge=1, le=100, description="how often a record may be redriven")


class ConsumerSettings(DatabaseSettings, ObservedSettings):
    """A consumer group: `sentio run store`, `sentio run aggregates`, or one of yours."""

    batch_records: int = Field(20_000, ge=1, le=1_000_000, description="most records in one batch and transaction")
    batch_wait_ms: int = Field(50, ge=1, le=60_000, description="longest wait for a batch to fill, milliseconds")
    session_timeout_ms: int = Field(
        45_000,
        ge=6_000,
        le=300_000,
        description="silence after which the group gives a member's partitions away",
    )


class ReplaySettings(DatabaseSettings):
    """`sentio replay`."""

    replay_state: Path = Field(Path(".sentio/replays"), description="folder of the jobs of 'sentio replay'")


class ArchiveSettings(ConsumerSettings):
    """The archive: `sentio run archive`, `sentio archive`."""

    archive: str = Field(
        "archive", min_length=1, description="where the archive is: a folder, or s3://bucket/prefix", max_length=1_000
    )
    archive_endpoint: str | None = Field(
        None, pattern=r"^https?://[^/]+/?$", description="URL of a store with S3's protocol; unset: Amazon's"
    )
    archive_region: str = Field("us-east-1", min_length=1, description="region of the bucket")
    archive_key: SecretStr | None = Field(
        None, description="access key of the bucket; unset: as AWS's own tools find it (environment, file, instance)"
    )
    archive_secret: SecretStr | None = Field(None, description="secret of that access key")
    archive_file_bytes: int = Field(
        64 << 20, ge=1_024, le=1 << 30, description="a partition's records are written when they take so many bytes"
    )
    archive_file_s: float = Field(
        300.0, gt=0, le=86_400, description="and at the latest when the first of them is so many seconds old"
    )
    archive_memory_bytes: int = Field(
        512 << 20,
        ge=1 << 20,
        description="most bytes that records of all partitions take before the largest is written",
    )


class PublisherSettings(ObservedSettings):
    """A process that publishes: `sentio play`, `sentio simulate`, or your engine."""

    spool: Path | None = Field(None, description="folder that keeps events while the broker is gone; unset: none")
    spool_max_bytes: int = Field(1 << 30, ge=1 << 20, description="largest size of the spool, bytes")
    queue_records: int = Field(100_000, ge=100, description="events held in memory before the spool takes over")


class SidecarSettings(PublisherSettings):
    """Ways in for engines: `sentio sidecar`."""

    events_token: SecretStr | None = Field(
        None, min_length=16, description="what senders to /v1/events prove themselves with, 16 characters or more"
    )


class WebhookSettings(PublisherSettings):
    """The receiver of prices: `sentio run webhooks`. It needs a spool."""

    webhook_secret: SecretStr = Field(
        min_length=16, description="what senders have in the header Authorization, 16 characters or more; required"
    )
    webhook_tokens: Path = Field(description="TOML file of the tokens whose prices are wanted; required")
    webhook_host: str = Field("127.0.0.1", description="address to listen on")
    webhook_port: Port = Field(8090, description="port to listen on; 0 takes a free one")
    webhook_body_bytes: int = Field(
        4 << 20, ge=1_024, le=1 << 30, description="largest body of a request, bytes, before and after decompression"
    )
    webhook_remember_h: float = Field(
        24.0, gt=0, le=24 * 365, description="hours for which signatures are remembered, so that repeats are dropped"
    )


class AccessSettings(DatabaseSettings, ObservedSettings):
    """Who may read what, for the processes that clients connect to."""

    auth_keys: Path | None = Field(
        None, description="JWKS file of the keys that tokens are signed with; unset: all may read all"
    )
    auth_anonymous: str = Field(
        "", max_length=10_000, description="channels that may be read without a token, such as trades,signals.SPY or *"
    )
    auth_owner: str = Field("engine", pattern=r"^[a-z,]*$", description="channels that only an owner may read")
    auth_issuer: str | None = Field(None, description="what a token's iss has to be; unset: anything")
    proxies: str = Field(
        "", max_length=10_000, description="networks of proxies that are believed whom they speak for: 10.0.0.0/8,..."
    )
    proxy_says: Literal["x-forwarded-for", "forwarded", "protocol"] = Field(
        "x-forwarded-for", description="how they say it: x-forwarded-for, forwarded, or protocol (PROXY, stream only)"
    )
    auth_audience: str | None = Field(None, description="what a token's aud has to have; unset: anything")
    redis: SecretStr | None = Field(
        None,
        description="URL of the Redis in which instances share limits, redis://HOST:PORT/0; unset: each for itself",
    )


class StreamSettings(AccessSettings):
    """The WebSocket gateway: `sentio run stream`."""

    stream_host: str = Field("127.0.0.1", description="address to listen on")
    stream_port: Port = Field(8765, description="port to listen on; 0 takes a free one")
    stream_backlog_bytes: int = Field(
        65_536, ge=1_024, description="bytes kept for a client that reads too slowly; what follows it gets from the log"
    )
    stream_behind_s: float = Field(
        30.0, gt=0, description="seconds a client may take to catch up before it is closed (4508)"
    )
    stream_wait_ms: float = Field(
        20.0, ge=0, le=1_000, description="longest wait of a message for others to be sent with, milliseconds"
    )
    stream_conflated: str = Field(
        "positions,performance,prices",
        pattern="^((signals|positions|performance|prices)(,(signals|positions|performance|prices))*)?$",
        description="channels of which only the newest message of each key is sent: signals, positions, performance, "
        "prices",
    )
    stream_conflated_ms: float = Field(50.0, ge=0, le=10_000, description="the same wait on those, milliseconds")
    stream_tls_certificate: Path | None = Field(
        None, description="file of the certificate and its chain, PEM; unset: no TLS"
    )
    stream_tls_key: Path | None = Field(None, description="file of the certificate's key, PEM; unset: in the same file")
    stream_workers: int = Field(1, ge=1, le=256, description="processes that share the port")
    stream_compression: bool = Field(True, description="compress updates for clients that can (permessage-deflate)")
    stream_ring: int = Field(50_000, ge=100, description="newest messages of each topic kept in memory")
    stream_origins: str = Field(
        "", max_length=10_000, description="origins whose pages may connect: https://app.example.com,...; unset: all"
    )
    stream_user_connections: int = Field(20, ge=0, description="most connections of a user; 0: no limit")
    stream_address_connections: int = Field(
        1_000, ge=0, description="most connections from an address, or an IPv6 network of 64 bits; 0: no limit"
    )
    stream_handshakes: int = Field(
        1_000, ge=0, description="handshakes a second; more are told to come back later (503); 0: no limit"
    )
    stream_requests: int = Field(200, ge=0, description="requests of a connection in 10 seconds; 0: no limit")
    stream_drain_s: float = Field(
        10.0, ge=0, le=3_600, description="seconds over which clients are sent away when the gateway is stopped"
    )
    stream_resume_records: int = Field(
        500_000, ge=0, description="most messages that are read from the log for one client; beyond it gets a snapshot"
    )
    stream_resume_s: float = Field(60.0, gt=0, description="longest time for which one client reads the log, seconds")
    stream_heartbeat_s: float = Field(15.0, gt=0, description="seconds between heartbeats to a client")
    pusher_key: str | None = Field(
        None,
        pattern=r"^[A-Za-z0-9_-]{1,64}$",
        description="key that apps with Pusher's clients name, as in /app/KEY; unset: none is served",
    )
    pusher_secret: SecretStr | None = Field(None, description="secret with which their private channels are signed")


class RestSettings(AccessSettings):
    """The REST API: `sentio run rest`."""

    rest_host: str = Field("127.0.0.1", description="address to listen on")
    rest_port: Port = Field(8080, description="port to listen on; 0 takes a free one")
    rest_requests: int = Field(
        100, ge=0, description="requests a minute of a user, or of an address without a token; 0: no limit"
    )
    rest_stream: str | None = Field(
        None,
        pattern=r"^wss?://[^\s;,'\"]+$",
        description="the stream's address for the owner's page, wss://...; unset: port 8765 of the page's own host",
    )


class WatchSettings(AccessSettings, ObservedSettings):
    """Who compares what engine, store, aggregates and clients say: `sentio run watcher`."""

    watch_streams: str = Field(
        "ws://127.0.0.1:8765", max_length=10_000, description="gateways that are listened to as a client: ws://...,..."
    )
    watch_token_file: Path | None = Field(
        None, description="file of the token that is shown to them, read for every connection; unset: none"
    )
    watch_every_s: float = Field(1.0, ge=0.1, le=60, description="seconds between two comparisons")
    watch_hours: str = Field(
        "09:30-16:00",
        pattern=r"^((([01]\d|2[0-3]):[0-5]\d)-(([01]\d|2[0-3]):[0-5]\d)|always|never)$",
        description="when an engine has to be heard, New York, Monday to Friday; or always, or never",
    )
    alert_silence_s: float = Field(
        180.0, gt=0, description="silence of all engines, within those hours, that is an alert"
    )
    alert_lag_s: float = Field(60.0, gt=0, description="age of a group's oldest unread event that is an alert, seconds")
    alert_dead_letters: int = Field(10, ge=0, description="more dead letters than this in five minutes are an alert")
    alert_webhook: SecretStr | None = Field(None, description="URL that alerts are posted to; unset: none")
    alert_mail_to: str = Field("", max_length=1_000, description="addresses that alerts are mailed to; unset: none")
    alert_mail_from: str = Field("sentio@localhost", max_length=320, description="who those mails are from")
    alert_smtp: str = Field("127.0.0.1:25", description="server that takes them, host:port")
    alert_smtp_security: Literal["none", "starttls", "tls"] = Field(
        "none", description="how that is secured: none, starttls or tls"
    )
    alert_smtp_user: str | None = Field(None, description="who we are to it; unset: it does not ask")
    alert_smtp_password: SecretStr | None = Field(None, description="the password for it")
    alert_runbooks: str = Field(
        "docs/runbooks/",
        max_length=1_000,
        description="what is put before a runbook's name in an alert, such as https://.../",
    )


@contextmanager
def listening(setting: str, port: int) -> Iterator[None]:
    """Turns "this port cannot be had" into a `SettingError` that names the setting."""
    try:
        yield
    except OSError as failure:
        cause = os.strerror(failure.errno) if failure.errno else str(failure)
        raise SettingError(f"{PREFIX}{setting.upper()}={port}: {cause}; 0 takes a free one") from failure


S = TypeVar("S", bound=Settings)


def load(kind: type[S], **overrides: object) -> S:
    """Settings of one process; raises `SettingError` naming each wrong setting and what it may be."""
    try:
        return kind(**overrides)  # type: ignore[arg-type] # checked by pydantic, that is the point
    except ValidationError as failure:
        lines = []
        for error in failure.errors(include_url=False):
            name = str(error["loc"][0]) if error["loc"] else "?"
            field = kind.model_fields.get(name)
            may_be = field.description if field else "not a setting"
            if error["type"] == "missing":
                lines.append(f"{PREFIX}{name.upper()} is not set ({may_be})")
                continue
            given = "..." if field and "SecretStr" in str(field.annotation) else error["input"]
            lines.append(f"{PREFIX}{name.upper()}={given!s}: {error['msg']} ({may_be})")
        raise SettingError("; ".join(lines)) from None
    except ValueError as failure:  # sentio.toml is not TOML
        raise SettingError(f"{CONFIG_FILE}: {failure}") from None
