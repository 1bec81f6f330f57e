"""What of the generated completions the soft overlong punishment can act on."""

from benchmarks.harness.counted_reward import CountedReward
from benchmarks.harness.methods import SOFT_OVERLONG_SHARE
from dapo_ext.playground.task import EOS_TOKEN_ID


class CountedOverlong:
    """
    The verifier's reward, which counts on the way the completions of the punished interval, ended or cut off.

    With the overlong filter on, one that was cut off leaves loss and statistics, so that the punishment acts on those
    alone that ended there.

    Args:
        counted ([`~benchmarks.harness.counted_reward.CountedReward`]):
            What rewards.
        limit (`int`):
            Tokens after which a completion is cut off.
    """

    __name__ = "correctness_reward"

    def __init__(self, counted: CountedReward, limit: int):
        self.counted, self.start = counted, limit - round(SOFT_OVERLONG_SHARE * limit)
        self.completions = self.overlong = self.ended_overlong = 0

    def __call__(self, completions, completion_ids, answer, **kwargs) -> list[float]:
        overlong = [ids for ids in completion_ids if len(ids) > self.start]
        self.completions += len(completion_ids)
        self.overlong += len(overlong)
        self.ended_overlong += sum(ids[-1] == EOS_TOKEN_ID for ids in overlong)
        return self.counted(completions=completions, completion_ids=completion_ids, answer=answer)

    def shares(self) -> dict[str, float]:
        """Of all completions."""
        return {"overlong": self.overlong / self.completions, "ended_overlong": self.ended_overlong / self.completions}
