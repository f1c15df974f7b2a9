"""Exceptions that nobody expected, to an error tracker of Sentry's protocol, where SENTIO_ERRORS_DSN names one."""

from typing import Any

import structlog
from pydantic import SecretStr

from sentio.errors import SentioError, SettingError


def configure(dsn: SecretStr | None, *, process: str) -> None:
    """Report what ends the process or one of its threads, and what it logs with a traceback.

    What has a name in `sentio.errors` is expected: it says itself what to do. Neither variables nor addresses are sent.
    """
    if dsn is None:
        return
    try:
        import sentry_sdk
        from sentry_sdk.integrations.atexit import AtexitIntegration
        from sentry_sdk.integrations.excepthook import ExcepthookIntegration
        from sentry_sdk.integrations.threading import ThreadingIntegration
    except ModuleNotFoundError as failure:
        raise SettingError("SENTIO_ERRORS_DSN: needs the packages of the extra 'errors'") from failure
    try:
        sentry_sdk.init(
            dsn.get_secret_value(),
            integrations=[
                AtexitIntegration(callback=lambda _pending, _timeout_s: None),
                ExcepthookIntegration(always_run=True),
                ThreadingIntegration(),
            ],
            default_integrations=False,
            auto_enabling_integrations=False,
            include_local_variables=False,
            auto_session_tracking=False,
            send_client_reports=False,
            max_breadcrumbs=0,
            before_send=_unexpected,
        )
    except ValueError as failure:  # of its parser
        raise SettingError(f"SENTIO_ERRORS_DSN: {failure}") from failure
    sentry_sdk.set_tag("process", process)
    structlog.configure(processors=[_report, *structlog.get_config()["processors"]])


def _unexpected(event: Any, hint: dict[str, Any]) -> Any:
    kind = (hint.get("exc_info") or (None,))[0]
    return None if kind is not None and issubclass(kind, SentioError) else event


def _report(_: Any, __: str, line: structlog.typing.EventDict) -> structlog.typing.EventDict:
    """A processor of log lines: one with a traceback is reported, too."""
    if line.get("exc_info"):
        import sentry_sdk

        given = line["exc_info"]
        sentry_sdk.capture_exception(None if given is True else given)
    return line
