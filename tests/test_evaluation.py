"""Evaluation by sampling: estimators, intervals, and how models and reward functions are called."""

import itertools
import math
import random
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from datasets import Dataset
from transformers import TrainerState
from trl import GRPOConfig, GRPOTrainer

from dapo_ext.evaluation import evaluate
from dapo_ext.evaluation.estimators import bootstrap_intervals, pass_at
from dapo_ext.playground import build_policy, build_tokenizer, correctness_reward, make_dataset


TOKENIZER = build_tokenizer()
EOS, PAD = TOKENIZER.eos_token_id, TOKENIZER.pad_token_id


class EchoModel(torch.nn.Module):
    """Completes every prompt with its own digits and `end`, then garbage. Checks what `generate` is given."""

    def __init__(self, end=(EOS,)):
        super().__init__()
        self.device = torch.device("cpu")
        self.generation_config = SimpleNamespace(eos_token_id=None)
        self.frozen = torch.nn.Dropout().eval()  # a submodule whose mode differs from its parent's
        self.end = list(end)
        self.batch_sizes: list[int] = []

    def generate(self, input_ids, attention_mask, generation_config):
        assert not any(module.training for module in self.modules())
        assert torch.equal(attention_mask, (input_ids != PAD).long())
        assert attention_mask[:, -1].all()  # padded on the left
        self.batch_sizes.append(len(input_ids))
        echoes = [[*row[row != PAD].tolist(), *self.end] for row in input_ids]
        length = generation_config.max_new_tokens
        garbage = TOKENIZER("7" * length)["input_ids"]
        return torch.cat([input_ids, torch.tensor([(echo + garbage)[:length] for echo in echoes])], dim=1)


def constant_reward(completions, **kwargs):
    return [1.0] * len(completions)


class TestEstimators:
    @pytest.mark.parametrize("k", range(1, 7))
    def test_pass_at_is_the_mean_over_all_subsets(self, k):
        for size in range(1, k + 1):
            for successes in range(k + 1):
                outcomes = [1] * successes + [0] * (k - successes)
                subsets = list(itertools.combinations(outcomes, size))
                expected = sum(any(subset) for subset in subsets) / len(subsets)
                assert pass_at(np.array([successes]), k, size) == pytest.approx([expected], abs=1e-15)

    def test_interval_covers_the_true_mean_in_about_95_percent_of_samples(self):
        rng = np.random.default_rng(0)
        rates = rng.beta(0.5, 0.5, size=(200, 60))  # 200 experiments of 60 prompts, true mean 1/2
        figures = rng.binomial(4, rates) / 4
        covered = [low <= 0.5 <= high for ((low, high),) in (bootstrap_intervals(f[:, None]) for f in figures)]
        # Nominal .95, a little less for a percentile bootstrap; the standard error of the share is .015.
        assert 0.90 <= np.mean(covered) <= 0.98

    def test_interval_has_the_width_of_the_standard_error_in_every_column(self):
        figures = np.random.default_rng(1).normal(size=(400, 3)) * [1.0, 2.0, 5.0]
        for (low, high), column in zip(bootstrap_intervals(figures), figures.T, strict=True):
            assert low < column.mean() < high
            assert high - low == pytest.approx(2 * 1.96 * column.std() / math.sqrt(400), rel=0.1)

    def test_interval_depends_on_the_seed_alone(self):
        figures = np.random.default_rng(1).normal(size=(50, 2))
        assert bootstrap_intervals(figures, seed=3) == bootstrap_intervals(figures, seed=3)
        assert bootstrap_intervals(figures, seed=3) != bootstrap_intervals(figures, seed=4)


class TestSampling:
    def test_order_of_the_dataset_is_restored(self):
        # Lengths in no order, batches that cut through prompts: every completion must meet its own row.
        prompts = [str(10 ** random.Random(i).randint(0, 9) + i) for i in range(13)]
        seen = []

        def reward(prompts, completions, index, **kwargs):
            seen.extend(zip(prompts, completions, strict=True))
            return [float(i) for i in index]

        model = EchoModel()
        dataset = Dataset.from_dict({"prompt": prompts, "index": list(range(13))})
        result = evaluate(model, TOKENIZER, dataset, reward, k=3, max_completion_length=32, batch_size=5)
        assert model.batch_sizes == [5] * 7 + [4]
        assert seen == [(p, p) for p in prompts for _ in range(3)]
        assert result.rewards.tolist() == [[i] * 3 for i in range(13)]

    def test_figures_follow_from_the_rewards(self):
        # Four prompts, k = 3, successes 0, 1, 2, 3 at a threshold of 0.5.
        table = [[0.0, 0.25, 0.0], [1.0, 0.0, 0.25], [0.5, 0.0, 0.5], [1.0, 1.0, 1.0]]

        def reward(prompts, **kwargs):
            return [r for row in table for r in row]

        result = evaluate(EchoModel(), TOKENIZER, [{"prompt": p} for p in "1234"], reward, k=3)
        assert result.k == 3
        assert result.num_prompts == 4
        assert result.rewards.tolist() == table
        assert result.avg_at_k == pytest.approx(5.5 / 12)
        assert set(result.pass_at_k) == set(result.pass_at_k_interval) == {1, 2, 3}
        assert result.pass_at_k[1] == pytest.approx((0 + 1 / 3 + 2 / 3 + 1) / 4)
        assert result.pass_at_k[2] == pytest.approx((0 + 2 / 3 + 1 + 1) / 4)
        assert result.pass_at_k[3] == pytest.approx(3 / 4)
        for value, (low, high) in [
            (result.avg_at_k, result.avg_at_k_interval),
            *((result.pass_at_k[j], result.pass_at_k_interval[j]) for j in (1, 2, 3)),
        ]:
            assert 0 <= low <= value <= high <= 1
            assert low < high

    @pytest.mark.parametrize(("k", "sizes"), [(1, {1}), (2, {1, 2}), (6, {1, 2, 4, 6}), (8, {1, 2, 4, 8})])
    def test_pass_at_powers_of_two_and_k(self, k, sizes):
        result = evaluate(EchoModel(), TOKENIZER, [{"prompt": "1"}], constant_reward, k=k)
        assert set(result.pass_at_k) == sizes

    def test_threshold_decides_what_a_success_is(self):
        def reward(prompts, **kwargs):
            return [0.2, 0.6] * (len(prompts) // 2)

        rows = [{"prompt": "1"}, {"prompt": "2"}]
        assert evaluate(EchoModel(), TOKENIZER, rows, reward, k=2).pass_at_k[1] == 0.5
        assert evaluate(EchoModel(), TOKENIZER, rows, reward, k=2, success_threshold=0.2).pass_at_k[1] == 1.0
        assert evaluate(EchoModel(), TOKENIZER, rows, reward, k=2, success_threshold=0.7).pass_at_k[1] == 0.0

    def test_completions_end_at_their_first_eos(self):
        ids = []

        def reward(completion_ids, **kwargs):
            ids.extend(completion_ids)
            return [0.0] * len(completion_ids)

        rows = [{"prompt": "1"}, {"prompt": "123"}]
        result = evaluate(EchoModel(), TOKENIZER, rows, reward, k=1, max_completion_length=3)
        one, two, three = TOKENIZER("123")["input_ids"]
        assert ids == [[one, EOS], [one, two, three]]  # the second was cut off before its EOS
        assert result.mean_length == 2.5
        assert result.truncated_fraction == 0.5

    def test_end_tokens_of_the_generation_config_count(self):
        stop = TOKENIZER("#")["input_ids"]
        model = EchoModel(end=stop)
        assert evaluate(model, TOKENIZER, [{"prompt": "1"}], constant_reward, k=1).truncated_fraction == 1.0
        for stop_ids in (stop, stop[0]):
            model.generation_config.eos_token_id = stop_ids
            result = evaluate(model, TOKENIZER, [{"prompt": "1"}], constant_reward, k=1)
            assert (result.truncated_fraction, result.mean_length) == (0.0, 2.0)

    def test_checkpoint_sampling_options_do_not_leak_in(self):
        texts = []

        def reward(completions, **kwargs):
            texts.extend(completions)
            return constant_reward(completions)

        model = build_policy()
        model.generation_config.do_sample = True
        model.generation_config.top_k = 1  # would make all completions equal
        model.generation_config.min_p = 1.0  # likewise
        model.generation_config.temperature = 1e-4
        model.generation_config.repetition_penalty = 50.0
        before = model.generation_config.to_dict()
        evaluate(model, TOKENIZER, [{"prompt": "1+1="}], reward, k=8, max_completion_length=8)
        assert len(set(texts)) == 8
        assert model.generation_config.to_dict() == before

    def test_top_p_and_temperature_are_used(self):
        texts = []

        def reward(completions, **kwargs):
            texts.append(set(completions))
            return constant_reward(completions)

        for options in ({"top_p": 1e-6}, {"temperature": 1e-4}, {}):
            evaluate(build_policy(), TOKENIZER, [{"prompt": "1+1="}], reward, k=8, max_completion_length=8, **options)
        assert [len(distinct) for distinct in texts] == [1, 1, 8]

    def test_result_depends_on_the_seed_and_not_on_the_global_state(self):
        dataset = make_dataset("held_out", 8)

        def reward(completion_ids, **kwargs):
            return [float(sum(ids)) for ids in completion_ids]

        results = []
        for global_seed, seed in ((0, 0), (1, 0), (1, 1)):
            torch.manual_seed(global_seed)
            np.random.seed(global_seed)
            random.seed(global_seed)
            before = torch.get_rng_state(), np.random.get_state()[1].tolist(), random.getstate()
            result = evaluate(build_policy(), TOKENIZER, dataset, reward, max_completion_length=8, seed=seed)
            assert torch.equal(torch.get_rng_state(), before[0])
            assert (np.random.get_state()[1].tolist(), random.getstate()) == before[1:]
            results.append(result.rewards.tolist())
        assert results[0] == results[1] != results[2]

    @pytest.mark.parametrize("training", [True, False])
    @pytest.mark.parametrize("fails", [True, False])
    def test_training_mode_is_restored(self, training, fails):
        model = EchoModel()
        model.training = training
        if fails:
            model.generate = lambda **kwargs: 1 / 0
            with pytest.raises(ZeroDivisionError):
                evaluate(model, TOKENIZER, [{"prompt": "1"}], constant_reward)
        else:
            evaluate(model, TOKENIZER, [{"prompt": "1"}], constant_reward)
        assert model.training is training
        assert model.frozen.training is False

    def test_a_directory_serves_as_the_model(self, tmp_path):
        model, dataset = build_policy(), make_dataset("held_out", 6)
        model.save_pretrained(tmp_path)

        def reward(completion_ids, **kwargs):
            return [float(sum(ids)) for ids in completion_ids]

        results = [
            evaluate(source, TOKENIZER, dataset, reward, k=2, max_completion_length=6)
            for source in (model, tmp_path, str(tmp_path))
        ]
        assert results[0].rewards.tolist() == results[1].rewards.tolist() == results[2].rewards.tolist()

    def test_untrained_policy_on_the_playground(self):
        dataset = make_dataset("held_out", 16)
        result = evaluate(build_policy(), TOKENIZER, dataset, correctness_reward, k=2, max_completion_length=40)
        assert result.rewards.shape == (16, 2)
        assert result.avg_at_k < 0.2
        assert 1 <= result.mean_length <= 40


class TestRewardCall:
    def test_called_with_what_trl_passes(self, tmp_path):
        calls = []

        def reward(**kwargs):
            calls.append(kwargs)
            kwargs["log_extra"]("column", kwargs["answer"])
            kwargs["log_metric"]("metric", 1.0)
            return [0.0] * len(kwargs["prompts"])

        rows = [{"prompt": "1", "answer": "1", "terms": 1}, {"prompt": "23", "answer": "5", "terms": 2}]
        evaluate(EchoModel(), TOKENIZER, rows, reward, k=2)
        trainer = GRPOTrainer(
            model=build_policy(),
            args=GRPOConfig(
                output_dir=str(tmp_path), use_cpu=True, bf16=False, num_generations=2, per_device_train_batch_size=2
            ),
            reward_funcs=reward,
            train_dataset=Dataset.from_list(rows),
            processing_class=TOKENIZER,
        )
        ours = calls[0]
        inputs = [row for row in rows for _ in range(2)]
        prompts = [row["prompt"] for row in inputs]
        trainer._calculate_rewards(inputs, prompts, ours["completions"], ours["completion_ids"])
        theirs = calls[1]
        assert set(ours) == set(theirs)
        assert isinstance(ours["trainer_state"], TrainerState)
        for name in ("prompts", "completions", "completion_ids", "answer", "terms"):
            assert ours[name] == theirs[name]

    def test_conversations_go_through_the_chat_template(self):
        tokenizer = build_tokenizer()
        tokenizer.chat_template = (
            "{% for message in messages %}{{ message['content'] }}{% endfor %}"  # then the generation prompt
            "{% if add_generation_prompt %}={% endif %}"
        )
        seen = {}

        def reward(prompts, completions, **kwargs):
            seen.update(prompts=prompts, completions=completions)
            return constant_reward(completions)

        conversation = [{"role": "system", "content": "1"}, {"role": "user", "content": "23"}]
        evaluate(EchoModel(), tokenizer, [{"prompt": conversation}], reward, k=2)
        assert seen["prompts"] == [conversation] * 2
        assert seen["completions"] == [[{"role": "assistant", "content": "123="}]] * 2

    def test_async_reward_also_inside_a_running_loop(self):
        import asyncio

        async def reward(completions, **kwargs):
            await asyncio.sleep(0)
            return [0.75] * len(completions)

        async def notebook():
            return evaluate(EchoModel(), TOKENIZER, [{"prompt": "1"}], reward)

        assert evaluate(EchoModel(), TOKENIZER, [{"prompt": "1"}], reward).avg_at_k == 0.75
        assert asyncio.run(notebook()).avg_at_k == 0.75

    @pytest.mark.parametrize("bad", [None, math.nan])
    def test_unscored_completions_are_an_error(self, bad):
        def lazy_reward(prompts, **kwargs):
            return [bad if prompt == "2" else 1.0 for prompt in prompts]

        with pytest.raises(ValueError, match=r"'lazy_reward' returned None .* for 3 of 6 completions, .* '2'"):
            evaluate(EchoModel(), TOKENIZER, [{"prompt": "1"}, {"prompt": "2"}], lazy_reward, k=3)

    @pytest.mark.parametrize("bad", [math.inf, "1", [1.0]])
    def test_what_is_no_finite_number_is_an_error(self, bad):
        with pytest.raises(ValueError, match=r"returned .* as the reward of completion 0"):
            evaluate(EchoModel(), TOKENIZER, [{"prompt": "1"}], lambda prompts, **kwargs: [bad] * len(prompts))

    def test_wrong_number_of_rewards_is_an_error(self):
        with pytest.raises(ValueError, match="returned 1 rewards for 4 completions"):
            evaluate(EchoModel(), TOKENIZER, [{"prompt": "1"}], lambda **kwargs: [1.0])

    def test_a_model_is_no_reward_function(self):
        with pytest.raises(TypeError, match="Wrap it in a function"):
            evaluate(EchoModel(), TOKENIZER, [{"prompt": "1"}], torch.nn.Linear(1, 1))

    @pytest.mark.parametrize(
        ("kwargs", "message"),
        [
            ({"k": 0}, "k=0"),
            ({"batch_size": 0}, "batch_size=0"),
            ({"max_completion_length": 0}, "max_completion_length=0"),
            ({"temperature": 0.0}, r"temperature=0\.0"),
            ({"dataset": []}, "got 0 rows"),
            ({"dataset": [{"question": "1"}]}, r"'prompt' column, got 1 rows with the columns \['question'\]"),
        ],
    )
    def test_bad_arguments_are_named(self, kwargs, message):
        dataset = kwargs.pop("dataset", [{"prompt": "1"}])
        with pytest.raises(ValueError, match=message):
            evaluate(EchoModel(), TOKENIZER, dataset, constant_reward, **kwargs)
