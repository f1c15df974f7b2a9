"""What `sentio skip archive` does: accept a loss that the stopped archive has named."""

import uuid

from consumers.archive import manifests
from consumers.archive.chains import Superseded
from consumers.archive.manifests import Absent, Head, Owned
from consumers.archive.stores import Store
from sentio import kafka
from sentio.config import Settings
from sentio.errors import Retryable, SettingError
from sentio.kafka import Place


def skip_to(store: Store, settings: Settings, place: Place, offset: int) -> None:
    """Have the archive go on at ``offset``; raises `SettingError` when that is not forward, or not in the log."""
    [(oldest, end)] = kafka.spans(settings.kafka, [place]).values()
    if not oldest <= offset <= end:
        raise SettingError(f"skip --to {offset}: {_name(place)} holds offsets {oldest} to {end}")
    owned = _own(store, place)
    stands = owned.head.next_offset
    if stands is None or stands >= offset:
        raise SettingError(f"skip --to {offset}: the archive is there already in {_name(place)}")
    given_up = Absent(epoch=owned.head.epoch, first=stands, next=offset, why="given up with sentio skip")
    _replace(owned, {"next_offset": offset, "absent": [*owned.head.absent, given_up]})


def accept_new_topic(store: Store, settings: Settings, place: Place) -> None:
    """Begin with a topic that was made anew, behind what is archived of the old one; `SettingError` if it was not."""
    state = kafka.describe(settings.kafka, [place[0]]).get(place[0])
    owned = _own(store, place)
    if state is None or owned.head.topic_id == state.id:
        raise SettingError(f"skip --new-topic: {_name(place)} is the topic that the archive knows")
    _replace(owned, {"topic_id": state.id, "epoch": owned.head.epoch + 1, "next_offset": None})


def _own(store: Store, place: Place) -> Owned:
    if manifests.view(store, place) is None:
        raise SettingError(f"skip: the archive (SENTIO_ARCHIVE) holds nothing of {_name(place)}")
    return Owned(store, place, "", uuid.uuid4().hex)


def _replace(owned: Owned, changes: dict[str, object]) -> None:
    try:
        owned.replace(Head.model_validate(owned.head.model_dump() | changes | {"pending": None}))
    except Superseded as failure:
        raise Retryable(f"skip: stop every member of the archive first ({failure})") from failure


def _name(place: Place) -> str:
    return f"{place[0]}[{place[1]}]"
