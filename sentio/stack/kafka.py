"""A Kafka broker of one's own, straight from its jars: KRaft, one node, loopback only.

Settings are those of a single node that starts fast; topics are made elsewhere.
"""

import os
import shutil
import subprocess
import uuid
from base64 import urlsafe_b64encode
from collections.abc import Sequence
from pathlib import Path

from sentio.errors import Fatal
from sentio.stack import processes
from sentio.stack.server import Server

JARS = Path(__file__).parents[2] / ".sentio" / "kafka-jars"
JARS_SETTING = "SENTIO_KAFKA_JARS"

SMALL = (
    "-Xms128m",
    "-Xmx512m",
    "-XX:+UseSerialGC",  # G1's threads cost more than its pauses save on a small heap
    # The second compiler takes half a core for minutes; at 10,000 records a second what it makes then costs the same.
    "-XX:TieredStopAtLevel=1",
)
"""Java's options for a broker that is there soon and has little to do."""

JAVA = [
    "java",
    "-XX:+ExitOnOutOfMemoryError",
    "-XX:-UsePerfData",  # no file in the system's temp folder that a SIGKILL would leave
    "-Djava.awt.headless=true",
    "-Dorg.slf4j.simpleLogger.showDateTime=true",
    "-Dorg.slf4j.simpleLogger.dateTimeFormat=yyyy-MM-dd'T'HH:mm:ss.SSS",
]

SETTINGS = Path(__file__).with_name("kafka.properties")

ROOM_BYTES = 16 << 20
"""With less the broker is not started: it writes into mapped files, and dies of that without a word of the disk."""


class KafkaServer(Server):
    """One broker; all it has is under ``root``, and a second start goes on with it.

    ``jars`` is the folder of Kafka's jars (``SENTIO_KAFKA_JARS`` before the default, where ``make setup``
    puts them). ``java``: options of its Java, of heap, collector and compiler.
    """

    NAME = "kafka"
    ERRORS = ("ERROR", "Exception", "Error: ", "Error occurred")

    def __init__(
        self,
        root: Path,
        jars: Path | None = None,
        *,
        dies_with_parent: bool = False,
        java: Sequence[str] = SMALL,
    ) -> None:
        super().__init__(root, dies_with_parent=dies_with_parent)
        self._java = [*JAVA, *java]
        self.jars = (jars or Path(os.environ.get(JARS_SETTING) or JARS)).absolute()
        self._data = self.root / "data"
        self._config = self.root / "server.properties"

    @property
    def address(self) -> str | None:
        """Bootstrap address, also of a broker that is stopped; none before the first start."""
        return f"127.0.0.1:{port}" if (port := self._previous_port()) else None

    @property
    def size_bytes(self) -> int:
        return processes.size_bytes(self._data)

    def start(self, *, reuse: bool = False) -> str:
        """Start, wait until it answers, and return the bootstrap address.

        A broker that still runs from a start before is stopped first, or with ``reuse`` simply used.
        Raises `Fatal` when Java or the jars are missing, or the broker ends before it answers.
        """
        if running := self.process:
            if reuse and self._ready(running):
                return f"127.0.0.1:{running.port}"
            self.stop()
        self._check()
        self.root.mkdir(parents=True, exist_ok=True)
        self._check_room()
        return f"127.0.0.1:{self._run(self._command, cwd=self.root)}"

    def remove(self) -> None:
        """Stop at once and delete all data."""
        self.kill()
        shutil.rmtree(self.root, ignore_errors=True)

    def _command(self, port: int) -> list[str]:
        self._configure(port)
        self._format()
        return [*self._java, "-cp", f"{self.jars}/*", "kafka.Kafka", str(self._config)]

    def _check(self) -> None:
        if not shutil.which("java"):
            raise Fatal("kafka needs Java 17 or newer, and there is no 'java' on the PATH")
        if not any(self.jars.glob("kafka_*.jar")):
            raise Fatal(f"no Kafka jars in {self.jars}; 'make setup' puts them there, or set {JARS_SETTING}")

    def _check_room(self) -> None:
        folder = self._data if self._data.exists() else self.root
        free = shutil.disk_usage(folder).free
        if free < ROOM_BYTES:
            raise Fatal(
                f"kafka is not started: the disk of {folder} is full ({free / 1e6:.0f} MB are free, it takes"
                f" {ROOM_BYTES / 1e6:.0f}); make room as docs/runbooks/broker-disk-full.md says"
            )

    def _configure(self, port: int) -> None:
        controller = processes.free_port(None)
        self._config.write_text(
            SETTINGS.read_text()
            + f"listeners=PLAINTEXT://127.0.0.1:{port},CONTROLLER://127.0.0.1:{controller}\n"
            + f"advertised.listeners=PLAINTEXT://127.0.0.1:{port}\n"
            # A static voter: its port may change with every start, a dynamic one's is in the log.
            + f"controller.quorum.voters=1@127.0.0.1:{controller}\n"
            + f"log.dirs={self._data}\n"
        )

    def _format(self) -> None:
        """Give the storage its cluster id, once; StorageTool also says which features are on."""
        if (self._data / "meta.properties").exists():
            return
        shutil.rmtree(self._data, ignore_errors=True)
        cluster = urlsafe_b64encode(uuid.uuid4().bytes).decode().rstrip("=").replace("-", "A", 1)
        tool = ["kafka.tools.StorageTool", "format", "--config", str(self._config), "--cluster-id", cluster]
        done = subprocess.run(
            [*JAVA, *SMALL, "-cp", f"{self.jars}/*", *tool],
            capture_output=True,
            text=True,
            check=False,
        )
        if done.returncode:
            lines = (done.stdout + done.stderr).strip().splitlines() or ["no message"]
            raise Fatal(f"kafka storage in {self._data} cannot be formatted: {lines[-1]}")

    @staticmethod
    def _answers(port: int) -> bool:
        """Whether it tells clients of itself."""
        if not processes.answers(port):  # first without the client, which complains aloud of every refusal
            return False
        from confluent_kafka import KafkaException
        from confluent_kafka.admin import AdminClient

        try:
            metadata = AdminClient({"bootstrap.servers": f"127.0.0.1:{port}", "log_level": 0}).list_topics(timeout=2)
        except KafkaException:
            return False
        return bool(metadata.brokers)
