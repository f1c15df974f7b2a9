"""Notices to a webhook and by e-mail, from a thread of their own: whoever raises them never waits."""

import json
import smtplib
import ssl
import threading
import urllib.request
from collections import deque
from collections.abc import Callable
from dataclasses import asdict
from email.message import EmailMessage
from email.utils import format_datetime, make_msgid

from gateway.watch.alarms import Notice
from gateway.wire import time_text
from sentio import log
from sentio.config import WatchSettings
from sentio.errors import SettingError

TIMEOUT_S = 10.0
FIRST_PAUSE_S, LONGEST_PAUSE_S = 1.0, 60.0
MOST_WAITING = 100
"""Of one target; beyond it the oldest are dropped, and counted."""

Send = Callable[[Notice], None]


class Target:
    """One place that notices go to, in their order."""

    def __init__(self, name: str, send: Send) -> None:
        self.name = name
        self.sent = 0
        self.dropped = 0
        self.wrong: str | None = None
        """Why the newest try failed."""

        self._send = send
        self._waiting: deque[Notice] = deque()
        self._changed = threading.Condition()
        self._stopped = False
        self._once = log.OncePer()
        self._thread = threading.Thread(target=self._run, name=f"alerts-{name}", daemon=True)
        self._thread.start()

    @property
    def waiting(self) -> int:
        return len(self._waiting)

    @property
    def unsent(self) -> list[Notice]:
        """What waits, the oldest first."""
        with self._changed:
            return list(self._waiting)

    def put(self, notice: Notice) -> None:
        with self._changed:
            if len(self._waiting) >= MOST_WAITING:
                self._waiting.popleft()
                self.dropped += 1
            self._waiting.append(notice)
            self._changed.notify()

    def stop(self, within_s: float) -> None:
        """Let it try what waits once more."""
        with self._changed:
            self._stopped = True
            self._changed.notify()
        self._thread.join(within_s)

    def _run(self) -> None:
        pause_s = FIRST_PAUSE_S
        while True:
            with self._changed:
                self._changed.wait_for(lambda: self._waiting or self._stopped)
                if not self._waiting:
                    return
                notice = self._waiting[0]
            try:
                self._send(notice)
            except Exception as failure:  # noqa: BLE001 - whatever a server answers, those behind it are sent later
                # Only the network's own words are said: those of others may hold the address, which is a secret.
                self.wrong = (str(failure) if isinstance(failure, OSError) else "") or type(failure).__name__
                if self._once.due(self.wrong):
                    log.get().error("an alert cannot be sent, will try again", to=self.name, cause=self.wrong)
                with self._changed:
                    if self._stopped:
                        return
                    self._changed.wait_for(lambda: self._stopped, timeout=pause_s)
                pause_s = min(LONGEST_PAUSE_S, 2 * pause_s)
                continue
            pause_s, self.wrong = FIRST_PAUSE_S, None
            with self._changed:
                self.sent += 1
                if self._waiting and self._waiting[0] is notice:
                    self._waiting.popleft()


def targets(settings: WatchSettings) -> list[Target]:
    """As set; raises `SettingError` for an address that is none."""
    made = []
    if settings.alert_webhook is not None:
        url = settings.alert_webhook.get_secret_value()
        if not url.startswith(("http://", "https://")):
            raise SettingError("SENTIO_ALERT_WEBHOOK is http://... or https://...")
        made.append(Target("webhook", lambda notice: _post(url, notice)))
    if settings.alert_mail_to:
        _server(settings)
        made.append(Target("mail", lambda notice: _mail(settings, notice)))
    return made


def _post(url: str, notice: Notice) -> None:
    """JSON, by POST; whatever is not 2xx counts as not sent."""
    body = json.dumps(asdict(notice) | {"at": time_text(notice.at)}).encode()
    request = urllib.request.Request(url, body, {"Content-Type": "application/json"})  # noqa: S310 - checked above
    with urllib.request.urlopen(request, timeout=TIMEOUT_S):  # noqa: S310 - checked above
        pass


def _mail(settings: WatchSettings, notice: Notice) -> None:
    host, port = _server(settings)
    message = EmailMessage()
    message["From"] = settings.alert_mail_from
    message["To"] = settings.alert_mail_to
    message["Subject"] = (
        f"[{settings.topic_prefix}] {notice.alert} {'begins' if notice.state == 'begin' else 'is over'}"
    )
    message["Date"] = format_datetime(notice.at)
    message["Message-ID"] = make_msgid(domain="sentio.invalid")
    message.set_content(f"{notice.summary}\n\n{time_text(notice.at)}\nWhat to do: {notice.runbook}\n")
    checked = ssl.create_default_context()
    with (
        smtplib.SMTP_SSL(host, port, timeout=TIMEOUT_S, context=checked)
        if settings.alert_smtp_security == "tls"
        else smtplib.SMTP(host, port, timeout=TIMEOUT_S)
    ) as server:
        if settings.alert_smtp_security == "starttls":
            server.starttls(context=checked)
        if settings.alert_smtp_user and settings.alert_smtp_password:
            server.login(settings.alert_smtp_user, settings.alert_smtp_password.get_secret_value())
        server.send_message(message)


def _server(settings: WatchSettings) -> tuple[str, int]:
    host, _, port = settings.alert_smtp.rpartition(":")
    if not host or not port.isdecimal():
        raise SettingError(f"SENTIO_ALERT_SMTP={settings.alert_smtp}: HOST:PORT, such as 127.0.0.1:25")
    return host.strip("[]"), int(port)
