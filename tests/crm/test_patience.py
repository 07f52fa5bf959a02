"""How long a busy server is left alone: as long as it asks, but no connector waits for ever."""

import pytest
from stand_in import Asked, StandIn, Told

from crm.connectors import transport
from crm.connectors.transport import LONGEST_ASKED, Patience, Transport
from crm.errors import OtherSideFailed


class Busy(StandIn):
    """Answers 429 with each of these headers in turn, and then that all is well."""

    def __init__(self, *headers: dict[str, str]) -> None:
        super().__init__()
        self.left = list(headers)

    def answer(self, asked: Asked) -> Told:
        return Told({}, 429, headers=self.left.pop(0)) if self.left else Told({"well": True})


@pytest.fixture
def pauses(monkeypatch) -> list[float]:
    """The pauses that were made, none of which takes any time."""
    made: list[float] = []
    monkeypatch.setattr(transport.time, "sleep", made.append)
    return made


def test_a_busy_server_is_left_alone_for_as_long_as_it_asks_and_at_most_five_minutes(pauses):
    with Busy({"retry-after": "7"}, {"retry-after": "86400"}, {}).running() as busy:
        sender = Transport(busy.url, Patience(tries=4, pause_seconds=0.5))
        answer = sender.send("GET", "/")
        assert (answer.status, answer.document, sender.requests) == (200, {"well": True}, 4)
        sender.close()
    assert pauses[:2] == [7, LONGEST_ASKED] and 0.75 * 2 <= pauses[2] <= 1.25 * 2  # our own, doubled twice


def test_a_server_that_stays_busy_is_told_with_what_it_said_last(pauses):
    with Busy({}, {}).running() as busy:
        sender = Transport(busy.url, Patience(tries=2, pause_seconds=0.5))
        with pytest.raises(OtherSideFailed) as failure:
            sender.post("/", {})
        sender.close()
    assert "in 2 tries; last: HTTP 429" in failure.value.details[0].rule and len(pauses) == 1
