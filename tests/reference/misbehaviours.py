"""Ways in which an exchange misbehaves for a while: faults of the answer, and changes of the bars in it."""

import numpy as np
from loopback_exchange import Fault, Rows

FAULTS = {
    "429 with Retry-After": Fault(status=429, headers={"Retry-After": "0"}, body='{"message": "slow down"}'),
    "429 without": Fault(status=429, body="Too Many Requests"),
    "500 as JSON": Fault(status=500, body='{"error": "INTERNAL", "message": "oh"}'),
    "503 as HTML": Fault(status=503, body="<html><h1>Down</h1></html>"),
    "slow": Fault(delay_seconds=1.0),
    "closed connection": Fault(closes=True),
    "answer cut off": Fault(cut_bytes=50),
    "truncated JSON": Fault(truncated=True),
    "HTML instead of JSON": Fault(body="<html>Just a moment...</html>"),
    "empty answer": Fault(body=" "),
}


def shuffled(rows: Rows) -> Rows:
    return [rows[at] for at in np.random.default_rng(0).permutation(len(rows))]


def with_holes(rows: Rows) -> Rows:
    return [row for at, row in enumerate(rows) if not 20 <= at < 45]


CHANGES = {
    "out of order": shuffled,
    "oldest missing": lambda rows: rows[: len(rows) // 2],
    "newest missing": lambda rows: rows[len(rows) // 2 :],
    "holes": with_holes,
    "doubled": lambda rows: [*rows, *rows],
    "no bars": lambda _: [],
}
