"""The link over a line that corrupts, loses, doubles, reorders, truncates and adds noise: no wrong result is accepted,
nothing is done twice, nothing hangs."""

from __future__ import annotations

import json
import os
import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.link.channel import Line, Session
from zobnn_edge.link import messages as msg

DAMAGE = 0.01
KINDS = {"_corrupt", "_truncate", "_lose", "_double", "_noise", "_reorder"}


@pytest.fixture
def session(request: pytest.FixtureRequest) -> Iterator[Session]:
    made = Session(*request.param)
    yield made
    made.close()


@pytest.mark.parametrize("session", [(DAMAGE, 1), (5 * DAMAGE, 2)], indirect=True)
def test_nothing_wrong_is_accepted_over_a_bad_line(session: Session) -> None:
    while session.frames < 4000:
        session.step()
    done, counters = session.channel.done, session.target.counters
    assert done.keys() >= KINDS, "the line did all kinds of damage"
    assert counters.resends > 0 < counters.bad_frames
    status = session.target.status()
    assert status["bad_frames"] > 0 < status["repeats"]
    assert status["boots"] == 1


@pytest.mark.parametrize("session", [(0.0, 3)], indirect=True)
def test_over_a_good_line_no_frame_is_sent_twice(session: Session) -> None:
    session._client.timeout = 2.0
    while session.frames < 2000:
        session.step()
    assert session.target.counters.resends == session.target.counters.bad_frames == 0
    assert session.target.status()["strays"] == 0


@pytest.mark.parametrize("session", [(0.0, 4)], indirect=True)
def test_goodput_is_nine_tenths_of_the_line(session: Session) -> None:
    """64 KB each way over a line of 2 Mbaud, by what the payload takes of the bytes that the line could carry."""
    size, rate = 1 << 16, 2e5
    session._client.timeout = 2.0
    line = session._client._transport = Line(session.channel._line, rate)
    best: dict[str, float] = Counter()
    for _ in range(2):  # the machine may be busy
        for way in ("put", "read"):
            begin = time.monotonic()
            if way == "put":
                session.target.put_inputs(session.pixels(size))
                session.target._bring(slice(0, size // 64))
            else:
                assert len(session.target._read(msg.READ, "offset", 0, size)) == size
            line.drain()
            best[way] = max(best[way], size / rate / (time.monotonic() - begin))
    assert line.sent > 2 * size < line.received
    assert best["put"] >= 0.9 <= best["read"], best


@pytest.mark.study
def test_a_million_frames(tmp_path: Path) -> None:
    """In pieces of 10,000 frames, each of its own seed, noted in a file: stopped, it goes on."""
    pieces, size = int(os.environ.get("ZOBNN_PIECES", "100")), 10_000
    path = Path("build/study/channel.jsonl")
    path.parent.mkdir(parents=True, exist_ok=True)
    done = [json.loads(line) for line in path.read_text().splitlines()] if path.exists() else []
    for seed in range(len(done), pieces):
        session, begin = Session(DAMAGE, 1000 + seed), time.monotonic()
        while session.frames < size:
            session.step()
        session.target.status()  # what the board has counted
        tally = {**session.channel.done, **vars(session.target.counters), "seconds": time.monotonic() - begin}
        session.close()
        with path.open("a") as file:
            file.write(json.dumps(tally) + "\n")
        done.append(tally)
    total = Counter[str]()
    for tally in done:
        total.update(tally)
    print(f"\n{json.dumps(dict(total), indent=1)}")
    assert total["frames"] >= pieces * size
    assert total["restarts"] == 0
    assert total["board_bad_frames"] > 0 < total["board_repeats"]
