"""What ends a stream for good; everything else it comes back from by itself.

`StreamError`
    `Rejected`   the handshake was answered with an HTTP status such as 401 or 403
    `Closed`     the gateway closed with a code that says not to come back (44xx)
    `Refused`    a request was answered with an error
    `BadFrame`   the gateway sent what this client cannot read
"""


class StreamError(Exception):
    """The stream cannot go on as it was asked to."""


class Rejected(StreamError):
    """The gateway does not let this client in."""

    def __init__(self, status: int, message: str) -> None:
        super().__init__(f"the gateway answered {status}: {message}")
        self.status = status


class Closed(StreamError):
    """The gateway closed the connection and does not want it back as it is."""

    def __init__(self, code: int, reason: str) -> None:
        super().__init__(f"the gateway closed the connection with {code}: {reason}")
        self.code = code
        self.reason = reason


class Refused(StreamError):
    """The gateway did not follow a request."""

    def __init__(self, code: str, message: str) -> None:
        super().__init__(f"the gateway refused: {message} ({code})")
        self.code = code


class BadFrame(StreamError):
    """A frame that does not follow the protocol."""
