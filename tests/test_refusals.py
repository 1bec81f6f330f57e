"""What the trainer can only refuse once it knows model, rewards and data."""

import pytest
from trl.rewards import get_soft_overlong_punishment

from dapo_ext.refusals.trainer_checks import check_trainer
from tests.tiny import dapo_trainer, odd_length, prompts, rare_first_token


def refused(field: str):
    return pytest.raises(ValueError, match=rf"`{field}=.*` is refused: .*\. Remedy: .*\.")


def a_tool(number: int) -> int:
    """
    Doubles.

    Args:
        number: what to double.

    Returns:
        The double.
    """
    return 2 * number


def a_rollout(prompts, trainer):
    raise AssertionError("never called")


class AnEnvironment:
    def reset(self, **kwargs):
        return None


def test_trls_own_punishment_would_punish_twice(tmp_path):
    with refused("reward_funcs"):
        dapo_trainer(tmp_path, [odd_length, get_soft_overlong_punishment(8, 2)])
    dapo_trainer(tmp_path, [odd_length, get_soft_overlong_punishment(8, 2)], soft_overlong_cache=0)


def test_rollout_functions(tmp_path, monkeypatch):
    monkeypatch.setenv("TRL_EXPERIMENTAL_SILENCE", "1")
    with refused("rollout_func"):
        dapo_trainer(tmp_path, trainer_args={"rollout_func": a_rollout})
    dapo_trainer(tmp_path, trainer_args={"rollout_func": a_rollout}, dynamic_sampling=False)


def test_images(tmp_path):
    with refused("train_dataset"):
        dapo_trainer(tmp_path, dataset=prompts(16).add_column("image", [None] * 16))


def test_tools_and_environments(tmp_path, monkeypatch):
    monkeypatch.setenv("TRL_EXPERIMENTAL_SILENCE", "1")
    trainer = dapo_trainer(tmp_path, soft_overlong_cache=0)
    # The playground's tokenizer has no chat template for tools, which the host asks for first
    trainer.tools = [a_tool]
    with refused("tools"):
        check_trainer(trainer)
    trainer.tools, trainer.environment_factories = [], {None: AnEnvironment}
    with refused("environment_factory"):
        check_trainer(trainer)
    trainer.environment_factories, trainer._is_vlm = None, True
    with refused("processing_class"):
        check_trainer(trainer)


def test_an_empty_dataset(tmp_path):
    with refused("train_dataset"):
        dapo_trainer(tmp_path, dataset=prompts(16).select([]))


@pytest.mark.parametrize("names", [["accuracy"], ["soft_overlong_punishment_reward"]])
def test_filter_rewards_that_nobody_has(tmp_path, names):
    with refused("filter_rewards"):
        dapo_trainer(tmp_path, filter_rewards=names)


def test_filter_rewards_that_two_have(tmp_path):
    with refused("filter_rewards"):
        dapo_trainer(tmp_path, [odd_length, odd_length], filter_rewards=["odd_length"])


def test_deciding_rewards_without_weight(tmp_path):
    rewards = [odd_length, rare_first_token]
    with refused("reward_weights"):
        dapo_trainer(tmp_path, rewards, reward_weights=[0.0, 1.0], filter_rewards=["odd_length"])
