"""pysher, unchanged: writes what it hears to standard output, a JSON object a line."""

import json
import logging
import sys
from typing import Any

import pysher

EVENTS = ("pusher_internal:subscription_succeeded", "pusher:subscription_error", "snapshot", "resume_failed")


def main() -> None:
    """Listen until killed."""
    wanted = json.loads(sys.argv[1])
    pusher = pysher.Pusher(
        wanted["key"],
        secret=wanted["secret"],
        custom_host="127.0.0.1",
        port=wanted["port"],
        secure=False,
        reconnect_interval=1,
        log_level=logging.CRITICAL,
        daemon=False,
    )

    def connected(_: str) -> None:
        say({"state": "connected"})
        for name in wanted["channels"]:
            channel = pusher.subscribe(name)
            for event in (*EVENTS, *wanted["events"]):
                channel.bind(event, heard, event=event, channel=name)
            if wanted["trigger"]:
                channel.trigger(wanted["trigger"], {"from": "pysher"})

    pusher.connection.bind("pusher:connection_established", connected)
    pusher.connection.bind("pusher:error", lambda data: say({"error": data}))
    pusher.connect()


def heard(data: str, *, event: str, channel: str) -> None:
    say({"event": event.replace("pusher_internal:", "pusher:"), "channel": channel, "data": json.loads(data)})


def say(what: dict[str, Any]) -> None:
    print(json.dumps(what), flush=True)


if __name__ == "__main__":
    main()
