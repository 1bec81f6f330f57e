"""The host's completions table in a checkpoint, so that a resumed run does not log an empty one."""

import json
from collections import deque
from typing import Any


COLUMNS = ("prompt", "completion", "advantages")
NAMED_COLUMNS = ("rewards", "extra")


def empty_tables(logs: dict[str, Any], maxlen: int) -> None:
    """Bring the host's table back to how it begins, without rows and with room for `maxlen`; changed in place."""
    for name in (*COLUMNS, "images"):
        logs[name] = deque(maxlen=maxlen)
    for name in NAMED_COLUMNS:
        logs[name].clear()


def pack_tables(logs: dict[str, Any]) -> dict[str, Any]:
    """The table as plain values; what JSON does not know is kept as text, and images are left out."""
    packed: dict[str, Any] = {name: list(logs[name]) for name in COLUMNS}
    for name in NAMED_COLUMNS:
        packed[name] = {column: list(values) for column, values in logs[name].items()}
    return json.loads(json.dumps(packed, default=str))


def unpack_tables(packed: dict[str, Any] | None, logs: dict[str, Any]) -> None:
    """Fill the host's table with what [`pack_tables`] gave, dropped rows included; changed in place."""
    if packed is None:
        return
    for name in COLUMNS:
        logs[name] = _filled(logs[name], packed[name])
    for name in NAMED_COLUMNS:
        for column, values in packed[name].items():
            logs[name][column] = _filled(logs[name][column], values)


def _filled(rows: deque, values: list) -> deque:
    return deque(values, maxlen=max(rows.maxlen or 0, len(values)))
