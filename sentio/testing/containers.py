"""Kafka and TimescaleDB in containers, on the images of deploy/images/build (or any that behave alike).

Every container carries the label ``sentio.test=1``, by which deploy/images/test finds what a crash left.
Nothing is ever pulled: an image is used where the engine has it, Testcontainers' reaper included.
"""

import os
import socket

import docker  # type: ignore[import-untyped] # it has no types
from docker.errors import DockerException  # type: ignore[import-untyped] # it has no types
from testcontainers.core.config import testcontainers_config
from testcontainers.core.container import DockerContainer
from testcontainers.core.wait_strategies import LogMessageWaitStrategy

DEFAULT_SOCKET = "/var/run/docker.sock"
LABELS = {"sentio.test": "1"}
LOOPBACK = ("localhost", "127.0.0.1")
START_TIMEOUT_S = 60


def why_not(image: str) -> str | None:
    """Why a container of that image cannot run here, or none if it can."""
    if (path := _engine_socket()) and not _listens(path):
        return f"no Docker engine answers at {path}"
    try:
        client = docker.from_env(timeout=10)
    except DockerException as failure:
        return f"no Docker engine answers ({failure})"
    try:
        return None if client.images.list(name=image) else f"the Docker engine has no image {image}"
    except DockerException as failure:
        return f"the Docker engine does not answer ({failure})"
    finally:
        client.close()


def _engine_socket() -> str | None:
    """The engine's Unix socket, if it is at one."""
    scheme, _, path = os.environ.get("DOCKER_HOST", f"unix://{DEFAULT_SOCKET}").partition("://")
    return path if scheme == "unix" else None


def _listens(path: str) -> bool:
    """Asked before the Docker client is, which leaves a socket open when refused: a warning in tests."""
    with socket.socket(socket.AF_UNIX) as probe:
        try:
            probe.connect(path)
        except OSError:
            return False
    return True


class ServerContainer(DockerContainer):
    """A container with one port, published on loopback only where the engine is this machine's."""

    def __init__(self, image: str, *, port: int, ready: str) -> None:
        if not testcontainers_config.ryuk_disabled and why_not(testcontainers_config.ryuk_image):
            testcontainers_config.ryuk_disabled = True
        super().__init__(image)
        self.port = port
        self._ready = LogMessageWaitStrategy(ready).with_startup_timeout(START_TIMEOUT_S)
        self.with_kwargs(labels=LABELS)
        local = self.get_docker_client().host() in LOOPBACK
        if local:
            # Docker takes (address, port) too, none being any free port; the type knows only ports.
            self.ports[f"{port}/tcp"] = ("127.0.0.1", None)  # type: ignore[assignment] # an address is allowed, not declared
        else:
            self.with_exposed_ports(port)

    @property
    def host_port(self) -> str:
        return f"{self.get_container_host_ip()}:{self.get_exposed_port(self.port)}"

    @property
    def address(self) -> str:
        """What clients are given."""
        raise NotImplementedError

    def prepare(self) -> None:
        """What is left to do between the start of the container and that of the server in it."""

    def start(self) -> "ServerContainer":
        super().start()
        self.prepare()
        self._ready.wait_until_ready(self)
        return self


class KafkaContainer(ServerContainer):
    """Kafka, told once its port is known under which address clients find it."""

    ADVERTISED = "/run/advertised"

    def __init__(self, image: str) -> None:
        super().__init__(image, port=9092, ready="Kafka Server started")

    @property
    def address(self) -> str:
        return self.host_port

    def prepare(self) -> None:
        self.copy_into_container(f"{self.address}\n".encode(), self.ADVERTISED)


class TimescaleContainer(ServerContainer):
    """PostgreSQL with TimescaleDB preloaded; the role ``sentio`` may do everything."""

    def __init__(self, image: str) -> None:
        super().__init__(image, port=5432, ready="database system is ready to accept connections")

    @property
    def address(self) -> str:
        return f"postgresql://sentio@{self.host_port}/sentio"
