"""The page's section on runs that were killed and resumed."""

from collections import Counter
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from benchmarks.page.markdown import table


LIMITS = (
    "A tiny policy on the CPU, generation by transformers, one machine. A kill leaves the file system whole; what a "
    "machine that loses power has not yet written is told by the manifest's digests, which the tests of torn "
    "checkpoints show, not this campaign."
)


def body(result: Mapping[str, Any], plots: Path) -> str:
    """Kills by trainer and ranks, where they fell, and what became of the runs."""
    kills = result["seeds"]
    phases = sorted({kill["phase"] for kill in kills})
    at_once = sum(kill["resumed_from"] == 0 for kill in kills)
    rows = []
    for trainer, ranks in sorted({(kill["trainer"], kill["ranks"]) for kill in kills}):
        mine = [kill for kill in kills if (kill["trainer"], kill["ranks"]) == (trainer, ranks)]
        fell = Counter(kill["phase"] for kill in mine)
        torn = sum(kill["torn"] > 0 for kill in mine)
        lost = sum(kill["verdict"] != "identical" for kill in mine)
        rows.append([trainer, *map(str, (ranks, len(mine), *(fell[phase] for phase in phases), torn, lost))])
    intro = (
        "Runs ended by SIGKILL from outside at random moments, resumed with `resume_from_checkpoint=True` until they "
        "completed, and compared with the run that nobody killed: weights, optimizer, schedule, log (times apart), "
        "random state, the sampler's state and the micro-batches of every step, on every rank, to the bit. Of "
        f"{len(kills)} kills {at_once} came before the first checkpoint was whole; there the run began anew."
    )
    header = [
        "trainer",
        "ranks",
        "kills",
        *(phase if phase.startswith("within") else f"in {phase}" for phase in phases),
        "left a torn checkpoint",
        "not identical",
    ]
    return f"{intro}\n\n{table(header, rows)}"
