"""One rank's share of a checkpoint that the host leaves out, as JSON and safetensors."""

import json
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file, save_file

from ..whole_files import write_whole


Batches = list[dict[str, Any]]


@dataclass
class RankState:
    """What a rank needs to go on as if it had never stopped."""

    values: dict[str, Any] = field(default_factory=dict)  # plain types
    tensors: dict[str, torch.Tensor] = field(default_factory=dict)


def rank_state_file(rank: int) -> str:
    """Name of the plain values' file; the tensors lie beside it."""
    return f"resume_state_rank{rank}.json"


def rank_to_read(ranks_there: int, rank: int, ranks_here: int) -> int:
    """Whose state a rank takes up: its own, or the first's where another number of ranks wrote it."""
    return rank if ranks_there == ranks_here else 0


def save_rank_state(folder: Path, rank: int, state: RankState) -> None:
    """Write the state of a rank, each file whole or not at all."""
    # Copies: safetensors takes no tensors that share memory, as slices of one batch do
    tensors = {name: tensor.detach().cpu().contiguous().clone() for name, tensor in state.tensors.items()}
    write_whole(folder / f"resume_state_rank{rank}.safetensors", lambda path: save_file(tensors, path))
    text = json.dumps(state.values, indent=2)
    write_whole(folder / rank_state_file(rank), lambda path: path.write_text(text))


def load_rank_state(folder: Path, rank: int) -> RankState:
    """Read what [`save_rank_state`] wrote."""
    values = json.loads((folder / rank_state_file(rank)).read_text())
    return RankState(values, load_file(folder / f"resume_state_rank{rank}.safetensors"))


def pack_batches(batches: Batches) -> tuple[list[dict[str, Any]], dict[str, torch.Tensor]]:
    """Take micro-batches apart into plain values, and tensors named `batch_<number>/<name>`."""
    values: list[dict[str, Any]] = []
    tensors: dict[str, torch.Tensor] = {}
    for number, batch in enumerate(batches):
        values.append({name: value for name, value in batch.items() if not isinstance(value, torch.Tensor)})
        tensors |= {f"batch_{number}/{name}": value for name, value in batch.items() if isinstance(value, torch.Tensor)}
    return values, tensors


def unpack_batches(values: list[dict[str, Any]], tensors: dict[str, torch.Tensor], device: torch.device) -> Batches:
    """Put the micro-batches of [`pack_batches`] together again."""
    batches: Batches = [dict(part) for part in values]
    for name, tensor in tensors.items():
        if name.startswith("batch_"):
            number, _, column = name.removeprefix("batch_").partition("/")
            batches[int(number)][column] = tensor.to(device)
    return batches
