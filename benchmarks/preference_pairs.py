"""Preference pairs from a policy's own samples: a correct against a wrong completion of the same prompt."""

from collections.abc import Sequence

from datasets import Dataset
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from benchmarks.counted_reward import CountedReward
from benchmarks.worlds import PLAYGROUND, World
from dapo_ext import evaluate


def sample_pairs(
    model: PreTrainedModel,
    tokenizer: PreTrainedTokenizerBase,
    prompts: Dataset,
    counted: CountedReward,
    seed: int,
    world: World = PLAYGROUND,
) -> Dataset:
    """
    Sample a group of completions per prompt and pair them off.

    Args:
        model ([`~transformers.PreTrainedModel`]), tokenizer ([`~transformers.PreTrainedTokenizerBase`]):
            Policy that writes both sides of every pair.
        prompts (`Dataset`):
            Prompts with their answers.
        counted ([`CountedReward`]):
            Says which completions are correct, and counts what is generated, paired or not.
        seed (`int`):
            Seed of the sampling.
        world ([`~benchmarks.worlds.World`], *optional*, defaults to the playground):
            Says how long a completion may be.

    Returns:
        `Dataset`: columns `prompt`, `chosen` and `rejected`, as TRL's `DPOTrainer` takes them.
    """
    pairs: list[dict[str, str]] = []

    def pair_off(prompts, completions, completion_ids, **columns) -> list[float]:
        rewards = counted(completions=completions, completion_ids=completion_ids, **columns)
        size = counted.num_generations
        faithful = [
            tokenizer(text)["input_ids"] + [tokenizer.eos_token_id] == ids
            for text, ids in zip(completions, completion_ids, strict=True)
        ]
        for start in range(0, len(completions), size):
            group = slice(start, start + size)
            pairs.extend(make_pairs(prompts[start], completions[group], rewards[group], faithful[group]))
        return rewards

    evaluate(
        model,
        tokenizer,
        prompts,
        pair_off,
        k=counted.num_generations,
        max_completion_length=world.max_completion_length,
        batch_size=world.evaluation_batch,
        seed=seed,
    )
    return Dataset.from_list(pairs)


def make_pairs(
    prompt: str, completions: Sequence[str], rewards: Sequence[float], faithful: Sequence[bool]
) -> list[dict[str, str]]:
    """
    Pair the correct completions of a group with the wrong ones, in the order of sampling, each used once at most.

    Args:
        prompt (`str`):
            The group's prompt.
        completions (`Sequence[str]`), rewards (`Sequence[float]`):
            Its completions, and 1 for a correct one, 0 for a wrong one.
        faithful (`Sequence[bool]`):
            Whether a completion's text, ended by EOS, has the tokens that were sampled. The others are left out, those
            that were cut off above all: the trainers would give them an end they do not have.

    Returns:
        `list[dict]`: as many pairs as there are of the rarer kind.
    """
    usable = [(text, reward) for text, reward, keep in zip(completions, rewards, faithful, strict=True) if keep]
    correct = [text for text, reward in usable if reward == 1]
    wrong = [text for text, reward in usable if reward == 0]
    return [
        {"prompt": prompt, "chosen": chosen, "rejected": rejected}
        for chosen, rejected in zip(correct, wrong, strict=False)
    ]
