"""Each technique of the ladder in one line: what it changed, what it had to act on, and the verdict."""

import itertools
from collections.abc import Mapping
from typing import Any

from benchmarks.ablation.rows import LADDER, LEFT_OUT, NAIVE, PREDICTIVE, TECHNIQUES, compared_with
from benchmarks.page.markdown import LEVEL, p_value, share, table, with_interval


Row = Mapping[str, Any]
SCARCE = 0.01
LABELS = {name: label for name, (label, _) in TECHNIQUES.items()} | {PREDICTIVE: "predictive selection"}
INTRO = (
    "**Technique by technique.** As a rung: with it against the rung below; left out: DAPO without it against DAPO, so "
    "that a technique that helps has a negative difference there. What it acts on is measured in training, in the row "
    f"below it, which does not have it yet; below {SCARCE:.0%} counts as next to nothing. The overlong filter is on in "
    "every rung above its own, so that a completion that was cut off has left loss and statistics and its punishment "
    "with it: the punishment acts on those alone that end inside the punished interval. The last two rungs change what "
    "an update costs, so that their verdict has a second half, at equal generated tokens."
)


def techniques(rows: Mapping[str, Row]) -> str:
    """The table; a rung whose neighbour below is not in it says nothing of one technique alone."""
    against = compared_with(list(rows))
    lines = []
    for below, name in itertools.pairwise(LADDER):
        rung = rows[name]["difference"] if against.get(name) == below else None
        left_out = rows.get(f"{LEFT_OUT}{name}", {}).get("difference")
        amount, what = _acts_on(name, rows[below if below in rows else NAIVE], rows.get(name))
        at_tokens = rows[name].get("difference_at_tokens") if rung else None
        verdict = _verdict(rung, left_out, amount) + (_at_equal_tokens(at_tokens) if at_tokens else "")
        lines.append([LABELS[name], *_shown(rung), *_shown(left_out), what, verdict])
    header = ["technique", "as a rung", "p (Holm)", "left out", "p (Holm)", "what it had to act on", "verdict"]
    return INTRO + "\n\n" + table(header, lines)


def _shown(difference: Row | None) -> list[str]:
    return ["-", "-"] if difference is None else [with_interval(difference, "+"), p_value(difference["p_holm"])]


def _acts_on(name: str, below: Row, row: Row | None) -> tuple[float, str]:
    """How much there was for a technique to act on, and the same as text."""
    clipped, dead, spread = below["clip"], below["dead_groups"], below["length_spread"]
    if name == "overlong-filtering":
        cut_off = below["truncated_in_training"]
        return cut_off, f"{share(cut_off)} of completions cut off"
    if name == "clip-higher":
        with_it = f", {share(row['clip']['high'])} with it" if row else ""
        above, under = clipped["high"], clipped["low"]
        return above, f"{share(above)} of tokens clipped above{with_it}; {share(under)} below"
    if name == "soft-overlong":
        ended, every = below["ended_overlong"], below["overlong"]
        return ended, f"{share(ended)} of completions in the interval and not cut off ({share(every)} with those)"
    if name == "token-level":
        return spread, f"sd of lengths {spread:.2f} of their mean"
    if name == PREDICTIVE and row:
        return dead, f"{share(dead)} of generated groups have equal rewards, {share(row['dead_groups'])} with it"
    return dead, f"{share(dead)} of generated groups have equal rewards"


def _at_equal_tokens(difference: Row) -> str:
    if difference["p_holm"] is None:
        return "; not tested at equal tokens"
    if difference["p_holm"] >= LEVEL:
        return f"; no effect told apart at equal tokens ({difference['mean']:+.3f})"
    return f"; {'helps' if difference['mean'] > 0 else 'hurts'} at equal tokens ({difference['mean']:+.3f})"


def _verdict(rung: Row | None, left_out: Row | None, amount: float) -> str:
    tested = [each for each in (rung, left_out) if each and each["p_holm"] is not None]
    if not tested:
        return "not tested"
    found = [
        f"{'helps' if each['mean'] * sign > 0 else 'hurts'} {how}"
        for each, sign, how in ((rung, 1, "as a rung"), (left_out, -1, "beside all others"))
        if each in tested and each["p_holm"] < LEVEL
    ]
    if found:
        return " and ".join(found)
    reason = "it had next to nothing to act on" if amount < SCARCE else "though it had something to act on"
    return f"no effect told apart, {reason}"
