"""Where DAPO is switched off, or finds nothing to do, the trainer is TRL's to the bit."""

import pytest
import torch

from tests.tiny import NEUTRAL, dapo_trainer, distinct, logged, odd_length, prompts, trl_trainer, weights


# One optimizer step per generation: TRL's mean window and the exact window are the same number.
ALIGNED = {"gradient_accumulation_steps": 2, "max_steps": 4}

# Options of the objective at values that change the result; each is honoured as the host honours it.
OBJECTIVE_OPTIONS = [
    {},
    {"beta": 0.1},
    {"beta": 0.1, "use_bias_correction_kl": False},
    {"beta": 0.1, "sync_ref_model": True, "ref_model_sync_steps": 1},
    {"epsilon": 0.01, "epsilon_high": 0.02, "num_iterations": 2},
    {"delta": 1.5, "num_iterations": 2},
    {"num_iterations": 3},
    {"importance_sampling_level": "sequence", "num_iterations": 2},
    {"loss_type": "grpo"},
    {"loss_type": "dr_grpo"},
    {"loss_type": "bnpo", "on_exhausted": "raise"},
    {"loss_type": "luspo", "importance_sampling_level": "sequence"},
    {"loss_type": "cispo", "epsilon_high": 5.0, "num_iterations": 2},
    {"loss_type": "sapo", "num_iterations": 2},
    {"loss_type": "vespo", "num_iterations": 2},
    {"scale_rewards": "none"},
    {"scale_rewards": "batch"},
    {"multi_objective_aggregation": "normalize_then_sum"},
    {"top_entropy_quantile": 0.5},
    {"entropy_coef": 0.1},
    {"use_adaptive_entropy": True, "entropy_target": 5.0},
    {"off_policy_mask_threshold": 0.0001, "num_iterations": 2},
    {"temperature": 0.7, "top_p": 0.9, "top_k": 5, "min_p": 0.01, "repetition_penalty": 1.1},
    {"generation_kwargs": {"suppress_tokens": [4]}},
    {"pad_to_multiple_of": 16},
    {"disable_dropout": True},
    {"shuffle_dataset": False},
    {"reward_weights": [0.5]},
    {"remove_unused_columns": True},
]


def assert_same_run(ours, theirs):
    ours.train()
    # The host seeds the generators in its constructor, so each trainer is built just before it trains
    theirs = theirs()
    theirs.train()
    assert torch.equal(weights(ours), weights(theirs))
    for name in ("loss", "reward", "entropy", "grad_norm", "completions/mean_length", "frac_reward_zero_std"):
        assert logged(ours, name) == logged(theirs, name), name


@pytest.mark.parametrize("options", OBJECTIVE_OPTIONS, ids=str)
def test_switched_off_it_is_trl_to_the_bit(tmp_path, options):
    trl_options = {name: value for name, value in options.items() if name != "on_exhausted"}
    assert_same_run(
        dapo_trainer(tmp_path / "dapo", **ALIGNED, **NEUTRAL, **trl_options),
        lambda: trl_trainer(tmp_path / "trl", **ALIGNED, **trl_options),
    )


@pytest.mark.parametrize("options", OBJECTIVE_OPTIONS, ids=str)
def test_with_nothing_to_refill_the_replayed_batch_is_trls_to_the_bit(tmp_path, options):
    """Dynamic sampling on, every group informative: what is handed to the host is what it would have generated."""
    if options.get("loss_type") in ("grpo", "dr_grpo") and "entropy_coef" in options:
        pytest.skip("refused while rows may be dropped")
    trl_options = {name: value for name, value in options.items() if name != "on_exhausted"}
    assert_same_run(
        dapo_trainer(tmp_path / "dapo", distinct, **ALIGNED, soft_overlong_cache=0, **options),
        lambda: trl_trainer(tmp_path / "trl", distinct, **ALIGNED, **trl_options),
    )


def test_the_options_above_do_change_the_result(tmp_path):
    """A parity test over options that change nothing would prove nothing."""
    plain = dapo_trainer(tmp_path / "plain", **ALIGNED, **NEUTRAL)
    plain.train()
    same = []
    for options in OBJECTIVE_OPTIONS[1:]:
        trl_options = {name: value for name, value in options.items() if name != "on_exhausted"}
        other = dapo_trainer(tmp_path / "other", **ALIGNED, **{**NEUTRAL, **trl_options})
        other.train()
        if torch.equal(weights(plain), weights(other)):
            same.append(options)
    # Dropout is zero in this policy, the weight is scaled away, and no task column is needed by the reward
    assert same == [{"disable_dropout": True}, {"remove_unused_columns": True}]


def test_the_soft_punishment_is_trls_with_its_weight(tmp_path):
    from trl.rewards import get_soft_overlong_punishment

    punishment = get_soft_overlong_punishment(8, 4)
    assert_same_run(
        dapo_trainer(
            tmp_path / "dapo", **ALIGNED, dynamic_sampling=False, soft_overlong_cache=4, soft_overlong_weight=0.5
        ),
        lambda: trl_trainer(tmp_path / "trl", [odd_length, punishment], reward_weights=[1.0, 0.5], **ALIGNED),
    )


def test_several_optimizer_steps_per_generation_differ_from_trl_by_the_window_alone(tmp_path):
    """With S > A the exact denominator of each step replaces the mean one: gradients differ by the ratio of the two."""
    layout = {"gradient_accumulation_steps": 1, "steps_per_generation": 2, "max_steps": 1}
    ours = dapo_trainer(tmp_path / "dapo", **layout, **NEUTRAL)
    ours.train()
    theirs = trl_trainer(tmp_path / "trl", **layout)
    theirs.train()
    tokens = [int(batch["completion_mask"].sum()) for batch in ours._buffered_inputs]
    (loss,), (trl_loss,) = logged(ours, "loss"), logged(theirs, "loss")
    assert tokens[0] != tokens[1]
    assert loss == pytest.approx(trl_loss * (sum(tokens) / 2) / tokens[0], rel=1e-5)


def test_peft_trains_as_in_trl(tmp_path):
    from peft import LoraConfig

    lora = LoraConfig(r=4, target_modules=["q_proj", "v_proj"], task_type="CAUSAL_LM")
    assert_same_run(
        dapo_trainer(tmp_path / "dapo", distinct, **ALIGNED, beta=0.1, trainer_args={"peft_config": lora}),
        lambda: trl_trainer(
            tmp_path / "trl", [distinct, _punishment()], **ALIGNED, beta=0.1, trainer_args={"peft_config": lora}
        ),
    )


def _punishment():
    from trl.rewards import get_soft_overlong_punishment

    return get_soft_overlong_punishment(8, 2)


def test_async_rewards_and_conversational_prompts_work(tmp_path):
    async def slow_odd_length(completions, completion_ids, **kwargs):
        assert all(completion[0]["role"] == "assistant" for completion in completions)
        return odd_length(completion_ids)

    from dapo_ext.playground.policy import build_tokenizer

    tokenizer = build_tokenizer()
    tokenizer.chat_template = "{% for message in messages %}{{ message['content'] }}{% endfor %}"
    rows = prompts(32).map(lambda row: {"prompt": [{"role": "user", "content": row["prompt"]}]})
    trainer = dapo_trainer(
        tmp_path, slow_odd_length, dataset=rows, trainer_args={"processing_class": tokenizer}, max_steps=4
    )
    trainer.train()
    assert trainer.state.global_step == 4
    assert trainer.sampler.ledger.informative_fraction == 1.0
