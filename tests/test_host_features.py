"""What TRL's trainers take is taken here, with dynamic sampling on; test_refusals.py has what is refused by name."""

import pytest
import torch
from datasets import Dataset
from peft import LoraConfig
from transformers import Qwen3ForSequenceClassification, TrainerCallback

from dapo_ext.playground.policy import build_policy, build_tokenizer
from pg_grpo import PGDPOTrainer
from tests.pg_tiny import pg_trainer
from tests.tiny import SMALL, dapo_trainer, logged, odd_length, policy, prompts, weights
from tests.tiny_pairs import pairs, pg_dpo_config, pg_dpo_trainer


CHAT_TEMPLATE = "{% for message in messages %}{{ message['content'] }}{% endfor %}"
LORA = LoraConfig(r=4, target_modules=["q_proj", "v_proj"], task_type="CAUSAL_LM")
SAMPLING = {"dynamic_sampling": True, "max_steps": 2}
ON_POLICY = {"DAPO": dapo_trainer, "PG-GRPO": pg_trainer}
on_policy = pytest.mark.parametrize("start", ON_POLICY.values(), ids=ON_POLICY)


def chat_tokenizer():
    tokenizer = build_tokenizer()
    tokenizer.chat_template = CHAT_TEMPLATE
    return tokenizer


def conversation(row: dict) -> dict:
    return {**row, "prompt": [{"role": "user", "content": row["prompt"]}]}


def moved(trainer) -> bool:
    before = weights(trainer)
    trainer.train()
    assert trainer.state.global_step == trainer.args.max_steps
    return not torch.equal(weights(trainer), before)


@on_policy
def test_conversational_prompts(tmp_path, start):
    seen = []

    def role_and_length(prompts, completions, completion_ids, **kwargs):
        seen.extend(
            (prompt[0]["role"], completion[0]["role"]) for prompt, completion in zip(prompts, completions, strict=True)
        )
        return odd_length(completion_ids)

    dataset = Dataset.from_list([conversation(row) for row in prompts(32).to_list()])
    trainer = start(tmp_path, role_and_length, dataset, {"processing_class": chat_tokenizer()}, **SAMPLING)
    assert moved(trainer)
    assert set(seen) == {("user", "assistant")}


@on_policy
def test_several_reward_functions_sync_and_async_with_weights(tmp_path, start):
    async def first_token(completion_ids, **kwargs):
        return [float(ids[0] % 2) for ids in completion_ids]

    def sometimes(completion_ids, **kwargs):
        return [None if len(ids) > 4 else 1.0 for ids in completion_ids]

    trainer = start(tmp_path, [odd_length, first_token, sometimes], reward_weights=[1.0, 0.5, 0.1], **SAMPLING)
    assert moved(trainer)
    assert all(logged(trainer, f"rewards/{name}/mean") for name in ("odd_length", "first_token", "sometimes"))


@on_policy
def test_a_reward_model_beside_a_function(tmp_path, start):
    config = build_policy(0, **SMALL).config
    config.num_labels = 1
    judge = Qwen3ForSequenceClassification(config)
    judge.config._name_or_path = "judge"
    trainer = start(
        tmp_path, [judge, odd_length], None, {"reward_processing_classes": [build_tokenizer(), None]}, **SAMPLING
    )
    assert moved(trainer)
    assert trainer.reward_funcs[0] is judge  # what is called with checks is given back as it was
    assert trainer.reward_funcs[1] is odd_length


def test_an_infinite_reward_model_is_named(tmp_path):
    config = build_policy(0, **SMALL).config
    config.num_labels = 1
    judge = Qwen3ForSequenceClassification(config)
    judge.score.weight.data.zero_()
    judge.score.weight.data[0, 0] = torch.inf
    judge.config._name_or_path = "judge"
    trainer = dapo_trainer(tmp_path, judge, trainer_args={"reward_processing_classes": build_tokenizer()})
    with pytest.raises(ValueError, match="The reward model 'judge' returned an infinite reward"):
        trainer.train()


@on_policy
def test_an_adapter(tmp_path, start):
    trainer = start(tmp_path, trainer_args={"model": policy(), "peft_config": LORA}, **SAMPLING)
    frozen = {name: p.clone() for name, p in trainer.model.named_parameters() if not p.requires_grad}
    assert moved(trainer)
    assert all(torch.equal(p, trainer.model.get_parameter(name)) for name, p in frozen.items())


@on_policy
def test_iterable_training_and_evaluation_data_and_callbacks(tmp_path, start):
    events = []

    class Recorder(TrainerCallback):
        def on_step_end(self, args, state, control, **kwargs):
            events.append("step")

        def on_evaluate(self, args, state, control, metrics=None, **kwargs):
            events.append(metrics["eval_rewards/odd_length/mean"])

    trainer = start(
        tmp_path,
        dataset=prompts(32).to_iterable_dataset(),
        trainer_args={"eval_dataset": prompts(8).to_iterable_dataset(), "callbacks": [Recorder()]},
        eval_strategy="steps",
        eval_steps=2,
        per_device_eval_batch_size=8,
        **SAMPLING,
    )
    assert moved(trainer)
    assert events[:2] == ["step", "step"]
    assert 0 <= events[2] <= 1


def test_a_rollout_function_is_trls_where_nothing_is_refilled(tmp_path, monkeypatch):
    monkeypatch.setenv("TRL_EXPERIMENTAL_SILENCE", "1")
    calls = []

    def rollout(prompts, trainer):
        calls.append(len(prompts))
        ids = [[5, 1] if i % 2 else [5, 6, 1] for i in range(len(prompts))]
        return {"prompt_ids": [[4]] * len(prompts), "completion_ids": ids, "logprobs": [[-1.0] * len(i) for i in ids]}

    off = {"dynamic_sampling": False, "soft_overlong_cache": 0, "max_steps": 2}
    assert moved(dapo_trainer(tmp_path, trainer_args={"rollout_func": rollout}, **off))
    assert calls == [16]


def test_conversational_pairs_with_an_adapter_and_evaluation(tmp_path):
    def chat(row: dict) -> dict:
        return {
            "prompt": [{"role": "user", "content": row["prompt"]}],
            **{side: [{"role": "assistant", "content": row[side]}] for side in ("chosen", "rejected")},
        }

    rows = Dataset.from_list([chat(row) for row in pairs(16).to_list()])
    trainer = PGDPOTrainer(
        model=build_policy(0, **SMALL),
        args=pg_dpo_config(tmp_path, eval_strategy="steps", eval_steps=3),
        train_dataset=rows,
        eval_dataset=rows.select(range(4)),
        processing_class=chat_tokenizer(),
        peft_config=LORA,
    )
    assert moved(trainer)
    assert logged(trainer, "eval_loss")


def test_iterable_pairs(tmp_path):
    assert moved(pg_dpo_trainer(tmp_path, pairs(32).to_iterable_dataset()))
