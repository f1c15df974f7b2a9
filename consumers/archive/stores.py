"""Where an archive lies: a folder, or a bucket with S3's protocol. Every write is whole or not there.

It asks of a store only that what was written is read and listed at once, by everyone. Failures that may pass are
`Retryable`.
"""

import os
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from urllib.parse import urlsplit

import pyarrow as pa
from pyarrow import fs

from sentio.config import ArchiveSettings
from sentio.errors import Retryable, SettingError

CONNECT_TIMEOUT_S = 5.0
REQUEST_TIMEOUT_S = 10.0
UNFINISHED = "_unfinished"
"""Folder, in a folder's archive, of files that are being written."""
LEFT_S = 86_400.0
"""None takes so long."""


class Store:
    """Objects by path below a root. Raises FileNotFoundError for one that is not there."""

    def __init__(self, files: fs.FileSystem, root: str) -> None:
        self.files = files
        self.root = root

    @property
    def url(self) -> str:
        """What its paths begin with, for other programs."""
        return f"s3://{self.root}"

    def put(self, path: str, data: pa.Buffer | bytes) -> None:
        """Write an object, or replace it: readers see the old one or the new one."""
        with _trouble():
            # Not in a `with`: leaving that after a failure would complete the object with what there is of it.
            stream = self.files.open_output_stream(self._full(path))
            stream.write(data)
            stream.close()

    def get(self, path: str) -> bytes:
        with self.open(path) as file:
            data: bytes = file.read()
        return data

    @contextmanager
    def open(self, path: str) -> Iterator[pa.NativeFile]:
        """An object, to be read here and there meanwhile."""
        try:
            with self.files.open_input_file(self._full(path)) as file:
                yield file
        except FileNotFoundError:
            raise
        except OSError as failure:
            # Where it is deleted after it was opened, S3's client says other things than that it is not there.
            with _trouble():
                found = self.files.get_file_info(self._full(path))
                if found.type == fs.FileType.NotFound:
                    raise FileNotFoundError(path) from failure
                raise

    def list(self, folder: str) -> dict[str, int]:
        """Path and size in bytes of every object in a folder and those below it."""
        with _trouble():
            found = self.files.get_file_info(fs.FileSelector(self._full(folder), recursive=True, allow_not_found=True))
        skip = len(self.root) + 1
        return {info.path[skip:]: info.size for info in found if info.type == fs.FileType.File}

    def delete(self, path: str) -> None:
        """Remove an object; one that is not there is no error."""
        with suppress(FileNotFoundError), _trouble():
            self.files.delete_file(self._full(path))

    def move(self, path: str, to: str) -> None:
        with _trouble():
            self.files.copy_file(self._full(path), self._full(to))
        self.delete(path)

    def _full(self, path: str) -> str:
        return f"{self.root}/{path}"


class Folder(Store):
    """In a folder of this machine, or one that is mounted."""

    def __init__(self, root: Path) -> None:
        super().__init__(fs.LocalFileSystem(), str(root))
        self._unfinished = root / UNFINISHED
        with _trouble():
            self._unfinished.mkdir(parents=True, exist_ok=True)
            for left in self._unfinished.iterdir():  # of processes that were killed
                with suppress(FileNotFoundError):
                    if left.stat().st_mtime < time.time() - LEFT_S:
                        left.unlink()

    @property
    def url(self) -> str:
        return self.root

    def put(self, path: str, data: pa.Buffer | bytes) -> None:
        with _trouble():
            handle, name = tempfile.mkstemp(dir=self._unfinished)
            try:
                with os.fdopen(handle, "wb") as file:
                    file.write(data)
                    file.flush()
                    os.fsync(file.fileno())
                Path(name).chmod(0o644)
                self._rename(Path(name), path)
            except BaseException:
                Path(name).unlink(missing_ok=True)
                raise

    def delete(self, path: str) -> None:
        super().delete(path)
        with _trouble():
            _sync((Path(self.root) / path).parent)

    def move(self, path: str, to: str) -> None:
        with _trouble():
            self._rename(Path(self._full(path)), to)

    def _rename(self, source: Path, path: str) -> None:
        target = Path(self._full(path))
        made = [folder for folder in target.parents if not folder.exists()]
        target.parent.mkdir(parents=True, exist_ok=True)
        source.replace(target)
        for folder in {target.parent, *(folder.parent for folder in made)}:
            _sync(folder)


def open_store(settings: ArchiveSettings) -> Store:
    """The archive's store; raises `SettingError` where there can be none, `Retryable` while it does not answer."""
    url = urlsplit(settings.archive)
    if not url.scheme:
        return Folder(Path(settings.archive).absolute())
    bucket, prefix = url.netloc, url.path.strip("/")
    if url.scheme != "s3" or not bucket:
        raise SettingError(f"SENTIO_ARCHIVE={settings.archive}: it may be a folder, or s3://bucket/prefix")
    if (settings.archive_key is None) != (settings.archive_secret is None):
        raise SettingError("SENTIO_ARCHIVE_KEY and SENTIO_ARCHIVE_SECRET: set both or none")
    files = _s3(settings)
    with _trouble():
        found = files.get_file_info(bucket)
    if found.type == fs.FileType.NotFound:
        raise SettingError(f"SENTIO_ARCHIVE={settings.archive}: there is no bucket {bucket}; make it first")
    return Store(files, f"{bucket}/{prefix}" if prefix else bucket)


def _s3(settings: ArchiveSettings) -> fs.S3FileSystem:
    endpoint = urlsplit(settings.archive_endpoint or "")
    key, secret = settings.archive_key, settings.archive_secret
    return fs.S3FileSystem(
        access_key=key.get_secret_value() if key else None,
        secret_key=secret.get_secret_value() if secret else None,
        region=settings.archive_region,
        scheme=endpoint.scheme or "https",
        endpoint_override=endpoint.netloc or None,
        connect_timeout=CONNECT_TIMEOUT_S,
        request_timeout=REQUEST_TIMEOUT_S,
        # The loop must turn again within what /livez allows (60 s).
        retry_strategy=fs.AwsStandardS3RetryStrategy(max_attempts=2),
        # A small object is then one request.
        allow_delayed_open=True,
    )


def _sync(folder: Path) -> None:
    """A name is on disk only when its folder is."""
    try:
        handle = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    except FileNotFoundError:
        return
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


@contextmanager
def _trouble() -> Iterator[None]:
    try:
        yield
    except FileNotFoundError:
        raise
    except (OSError, pa.ArrowException) as failure:
        raise Retryable(f"archive (SENTIO_ARCHIVE): {failure}") from failure
