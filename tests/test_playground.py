"""The playground: task, teacher, tokenizer, policy and warm start."""

import importlib
import json
import random
import re
from collections import Counter

import pytest
import torch
from transformers import AutoModelForCausalLM, AutoTokenizer

from dapo_ext.playground import (
    build_policy,
    build_tokenizer,
    correctness_reward,
    make_dataset,
    teacher_completion,
    warm_start,
)
from dapo_ext.playground.policy import EOS_TOKEN_ID, VOCABULARY
from dapo_ext.playground.task import SPLIT_SHARES, draw_prompt, solve, split_of, stable_hash
from dapo_ext.playground.teacher import FACT_KINDS, teacher_fact


# By name, since the package's attribute of this name is the function.
warm_start_module = importlib.import_module("dapo_ext.playground.warm_start")

FACTS = [(operator, left, right) for operator in "+-" for left in range(10) for right in range(10)]


def true_result(operator: str, left: int, right: int) -> int:
    return (left + right if operator == "+" else left - right) % 10


class TestTask:
    def test_hash_is_stable_across_processes_and_versions(self):
        # Pinned: a change would move prompts between splits and the teacher's errors between facts.
        assert stable_hash("9-1-4-1=") == 17769063134006462882
        prompts = ("9-1-4-1=", "0+0=", "1+1=", "2+2=")
        assert [split_of(p) for p in prompts] == ["held_out", "train", "tuning", "tuning"]

    @pytest.mark.parametrize("split", list(SPLIT_SHARES))
    def test_splits_are_disjoint_for_every_seed_and_size(self, split):
        for seed, size in ((0, 512), (1, 3000)):
            prompts = set(make_dataset(split, size, seed=seed)["prompt"])
            for other in SPLIT_SHARES:
                for other_seed in (0, 1, 2):
                    if other != split:
                        assert prompts.isdisjoint(make_dataset(other, 2000, seed=other_seed)["prompt"])

    def test_every_prompt_belongs_to_exactly_one_split(self):
        # All 200 sums of two terms, collected over the splits by exhausting each.
        sizes = [sum(split_of(f"{a}{o}{b}=") == split for o, a, b in FACTS) for split in SPLIT_SHARES]
        collected = [
            p
            for split, n in zip(SPLIT_SHARES, sizes, strict=True)
            for p in make_dataset(split, n, max_terms=2)["prompt"]
        ]
        assert sorted(collected) == sorted(f"{a}{o}{b}=" for o, a, b in FACTS)

    def test_rows_are_well_formed_and_distinct(self):
        dataset = make_dataset("train", 3000, seed=3)
        assert dataset.column_names == ["prompt", "answer", "terms"]
        assert len(set(dataset["prompt"])) == 3000
        for row in dataset:
            assert re.fullmatch(r"\d([+-]\d)+=", row["prompt"])
            assert row["terms"] == sum(c.isdigit() for c in row["prompt"])
            assert row["answer"] == str(eval(row["prompt"][:-1]) % 10)  # Python's own arithmetic

    @pytest.mark.parametrize("split", list(SPLIT_SHARES))
    def test_terms_are_uniform_up_to_512_prompts(self, split):
        counts = Counter(make_dataset(split, 512)["terms"])
        assert set(counts) == set(range(2, 11))
        assert max(counts.values()) - min(counts.values()) <= 1

    def test_short_sums_run_out_and_the_rest_stays_uniform(self):
        counts = Counter(make_dataset("train", 4000)["terms"])
        available = sum(split_of(f"{a}{o}{b}=") == "train" for o, a, b in FACTS)
        longer = [counts[terms] for terms in range(3, 11)]
        assert counts[2] == available
        assert sum(longer) == 4000 - available
        assert max(longer) - min(longer) <= 1

    def test_seed_fixes_the_rows_and_their_order(self):
        first = make_dataset("train", 100, seed=5)["prompt"]
        assert list(first) == list(make_dataset("train", 100, seed=5)["prompt"])
        assert set(first) != set(make_dataset("train", 100, seed=6)["prompt"])
        assert [len(p) for p in first] != sorted(len(p) for p in first)

    def test_asking_for_more_prompts_than_exist_is_an_error(self):
        available = sum(split_of(f"{a}{o}{b}=") == "held_out" for o, a, b in FACTS)
        assert len(make_dataset("held_out", available, max_terms=2)) == available
        with pytest.raises(ValueError, match=f"only {available} distinct prompts .* {available + 1} were asked for"):
            make_dataset("held_out", available + 1, max_terms=2)

    @pytest.mark.parametrize(
        ("kwargs", "message"),
        [
            ({"split": "test", "size": 1}, "Unknown split 'test'"),
            ({"split": "train", "size": -1}, "size=-1"),
            ({"split": "train", "size": 1, "min_terms": 1}, "min_terms=1"),
            ({"split": "train", "size": 1, "min_terms": 5, "max_terms": 4}, "min_terms=5, max_terms=4"),
        ],
    )
    def test_bad_arguments_are_named(self, kwargs, message):
        with pytest.raises(ValueError, match=message):
            make_dataset(**kwargs)


class TestReward:
    @pytest.mark.parametrize(
        ("completion", "ended", "reward"),
        [
            ("-1:8-4:4-1:3#3", True, 1.0),
            ("#3", True, 1.0),  # the scratchpad is not checked
            ("-1:8-4:4-1:3#3", False, 0.0),  # cut off
            ("-1:8-4:4-1:3#4", True, 0.0),
            ("-1:8#8-4:4-1:3#3", True, 0.0),  # two marks
            ("##3", True, 0.0),
            ("#3#3", True, 0.0),
            ("#3?", True, 0.0),  # trailing text
            ("#33", True, 0.0),
            ("#", True, 0.0),
            ("3", True, 0.0),
            ("", True, 0.0),
        ],
    )
    def test_only_a_finished_right_answer_scores(self, completion, ended, reward):
        ids = build_tokenizer()(completion)["input_ids"] + [EOS_TOKEN_ID] * ended
        assert correctness_reward(completions=[completion], completion_ids=[ids], answer=["3"]) == [reward]

    def test_empty_ids_score_nothing(self):
        assert correctness_reward(completions=["#3"], completion_ids=[[]], answer=["3"]) == [0.0]

    def test_name_and_extra_arguments(self):
        assert correctness_reward.__name__ == "correctness_reward"
        rewards = correctness_reward(
            prompts=["1+2=", "1+2="],
            completions=["#3", "#2"],
            completion_ids=[[0, EOS_TOKEN_ID]] * 2,
            answer=["3", "3"],
            terms=[2, 2],
            trainer_state=None,
        )
        assert rewards == [1.0, 0.0]


class TestTeacher:
    def test_kinds_of_facts_have_about_their_shares(self):
        counts = Counter(teacher_fact(*fact)[0] for fact in FACTS)
        assert set(counts) == {probability for _, probability in FACT_KINDS}
        for share, probability in FACT_KINDS:
            assert counts[probability] / len(FACTS) == pytest.approx(share, abs=0.03)

    @pytest.mark.parametrize("split", list(SPLIT_SHARES))
    def test_splits_are_equally_hard_where_prompts_are_few(self, split):
        known = [teacher_fact(o, a, b)[0] for o, a, b in FACTS if split_of(f"{a}{o}{b}=") == split]
        assert sum(known) / len(known) == pytest.approx(0.79, abs=0.01)

    def test_each_fact_is_right_with_its_probability_and_wrong_in_one_way(self):
        rng = random.Random(0)
        for operator, left, right in FACTS[::7]:
            answers = Counter(teacher_completion(f"{left}{operator}{right}=", rng, 0.0)[-1] for _ in range(2000))
            truth = true_result(operator, left, right)
            probability, wrong_answer = teacher_fact(operator, left, right)
            assert wrong_answer != truth
            assert set(answers) == {str(truth), str(wrong_answer)}
            assert answers[str(truth)] / 2000 == pytest.approx(probability, abs=0.05)

    def test_completions_follow_the_format_and_their_own_results(self):
        rng = random.Random(0)
        step = re.compile(r"([+-])(\d):(\d)(?:\?\1\2:(\d))?")
        for _ in range(2000):
            prompt = draw_prompt(rng, "train", rng.randint(2, 10))
            body, final = teacher_completion(prompt, rng).split("#")
            steps = list(step.finditer(body))
            assert "".join(s.group() for s in steps) == body
            assert "".join(s[1] + s[2] for s in steps) == prompt[1:-1]
            result = int(prompt[0])
            for operator, operand, *attempts in (s.groups() for s in steps):
                attempts = [int(attempt) for attempt in attempts if attempt is not None]
                fact = (operator, result, int(operand))
                assert set(attempts) <= {true_result(*fact), teacher_fact(*fact)[1]}
                result = attempts[-1]  # the last attempt counts
            assert final == str(result)

    @pytest.mark.parametrize("redo_rate", [0.15, 0.0])
    def test_accuracy_falls_from_two_to_ten_terms(self, redo_rate):
        # Nominal accuracies: .79 at K = 2, .12 at K = 10, .38 over K = 2..10. Standard error below .004.
        rng = random.Random(1)
        accuracy = {}
        for terms in range(2, 11):
            prompts = [draw_prompt(rng, "train", terms) for _ in range(10000 if terms in (2, 10) else 3000)]
            right = sum(teacher_completion(p, rng, redo_rate)[-1] == solve(p) for p in prompts)
            accuracy[terms] = right / len(prompts)
        assert accuracy[2] == pytest.approx(0.79, abs=0.02)
        assert accuracy[10] == pytest.approx(0.12, abs=0.02)
        assert sum(accuracy.values()) / 9 == pytest.approx(0.38, abs=0.02)

    def test_redone_steps_spread_the_lengths(self):
        rng = random.Random(2)
        prompts = [draw_prompt(rng, "train", 10) for _ in range(2000)]
        plain = {len(teacher_completion(p, rng, 0.0)) + 1 for p in prompts}
        redone = [teacher_completion(p, rng, 0.15) for p in prompts]
        assert plain == {39}  # with EOS: 9 steps of 4 tokens, the mark and the answer
        assert sum(c.count("?") for c in redone) / (9 * len(prompts)) == pytest.approx(0.15, abs=0.015)
        assert {len(c) + 1 - 5 * c.count("?") for c in redone} == {39}


class TestPolicy:
    def test_tokenizer_has_one_token_per_character(self):
        tokenizer = build_tokenizer()
        text = "".join(VOCABULARY[4:])
        assert len(tokenizer) == len(VOCABULARY) == 20
        assert tokenizer(text)["input_ids"] == list(range(4, 20))
        assert tokenizer("1 é")["input_ids"][1:] == [tokenizer.unk_token_id] * 2

    def test_round_trip_is_exact_before_and_after_saving(self, tmp_path):
        tokenizer = build_tokenizer()
        build_policy().save_pretrained(tmp_path)  # the model type must not make AutoTokenizer choose another class
        tokenizer.save_pretrained(tmp_path)
        loaded = AutoTokenizer.from_pretrained(tmp_path)
        rng = random.Random(0)
        texts = ["".join(rng.choices(VOCABULARY[4:], k=rng.randint(1, 60))) for _ in range(200)]
        for candidate in (tokenizer, loaded):
            ids = candidate(texts)["input_ids"]
            assert ids == [[VOCABULARY.index(c) for c in text] for text in texts]
            ended = [[*row, candidate.eos_token_id] for row in ids]
            assert candidate.batch_decode(ended, skip_special_tokens=True) == texts

    def test_tokenizer_pads_on_the_left_and_returns_what_generate_takes(self):
        batch = build_tokenizer()(["1=", "12="], padding=True)
        assert set(batch) == {"input_ids", "attention_mask"}
        assert batch["input_ids"][0][0] == build_tokenizer().pad_token_id
        assert batch["attention_mask"] == [[0, 1, 1], [1, 1, 1]]

    def test_model_is_the_small_qwen3(self):
        model = build_policy()
        config = model.config
        assert config.model_type == "qwen3"
        assert (config.hidden_size, config.num_hidden_layers, config.intermediate_size) == (96, 3, 256)
        assert (config.num_attention_heads, config.num_key_value_heads, config.head_dim) == (4, 2, 24)
        assert model.lm_head.weight is model.model.embed_tokens.weight
        assert {p.dtype for p in model.parameters()} == {torch.float32}
        assert 290_000 < sum(p.numel() for p in model.parameters()) < 320_000
        assert model.generation_config.eos_token_id == build_tokenizer().eos_token_id
        assert model.generation_config.pad_token_id == build_tokenizer().pad_token_id

    def test_weights_depend_on_the_seed_alone(self):
        torch.manual_seed(1)
        before = torch.get_rng_state()
        first = build_policy(seed=0).state_dict()
        assert torch.equal(torch.get_rng_state(), before)
        torch.manual_seed(2)
        again, other = build_policy(seed=0).state_dict(), build_policy(seed=1).state_dict()
        assert all(torch.equal(first[name], again[name]) for name in first)
        assert not torch.equal(first["lm_head.weight"], other["lm_head.weight"])


STEPS = 16


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    """A short warm start: its directory and the losses of its steps."""
    losses = []
    path = warm_start(
        tmp_path_factory.mktemp("playground") / "deep" / "start",
        steps=STEPS,
        on_step=lambda step, steps, loss: losses.append((step, steps, loss)),
    )
    return path, losses


class TestWarmStart:
    def test_loss_falls_and_progress_is_reported(self, finished):
        _, progress = finished
        losses = [loss for _, _, loss in progress]
        assert [step for step, _, _ in progress] == list(range(1, STEPS + 1))
        assert {steps for _, steps, _ in progress} == {STEPS}
        assert losses[-1] < 0.6 * losses[0]

    def test_directory_is_a_model_directory_with_settings(self, finished):
        path, _ = finished
        model, tokenizer = AutoModelForCausalLM.from_pretrained(path), AutoTokenizer.from_pretrained(path)
        initial = build_policy(seed=0).state_dict()
        assert any(not torch.equal(value, initial[name]) for name, value in model.state_dict().items())
        assert tokenizer("1+1=")["input_ids"] == build_tokenizer()("1+1=")["input_ids"]
        settings = json.loads((path / "warm_start.json").read_text())
        assert settings["seed"] == 0
        assert settings["steps"] == STEPS
        assert settings["redo_rate"] == 0.15
        assert [p.name for p in path.parent.iterdir()] == [path.name]  # no temporary directory is left

    def test_finished_directory_is_reused(self, finished):
        path, _ = finished
        before = {p.name: p.stat().st_mtime_ns for p in path.iterdir()}
        assert warm_start(path, steps=STEPS, on_step=lambda *_: pytest.fail("trained again")) == path
        assert {p.name: p.stat().st_mtime_ns for p in path.iterdir()} == before

    def test_other_settings_are_refused_by_name(self, finished):
        path, _ = finished
        with pytest.raises(
            ValueError, match=f"steps is {STEPS} there and 6 here, redo_rate is 0.15 there and 0.3"
        ) as e:
            warm_start(path, steps=6, redo_rate=0.3)
        assert "seed is" not in str(e.value)
        assert "Choose another output_dir" in str(e.value)

    def test_max_terms_bounds_the_curriculum(self, tmp_path, monkeypatch):
        drawn = []

        def draw(rng, split, terms):
            drawn.append(terms)
            return draw_prompt(rng, split, terms)

        monkeypatch.setattr(warm_start_module, "draw_prompt", draw)
        path = warm_start(tmp_path / "start", steps=4, max_terms=4)  # a step of 2..3 terms, one of 2..5, two of 2..10
        assert [max(drawn[i : i + 64]) for i in range(0, 256, 64)] == [3, 4, 4, 4]
        with pytest.raises(ValueError, match="max_terms is 4 there and 10 here"):
            warm_start(path, steps=4)
        with pytest.raises(ValueError, match="max_terms=1 leaves no sum"):
            warm_start(tmp_path / "none", steps=1, max_terms=1)
        # A directory from before there was such a setting went up to all ten
        settings = path / "warm_start.json"
        settings.write_text(json.dumps({k: v for k, v in json.loads(settings.read_text()).items() if k != "max_terms"}))
        assert warm_start(path, steps=4) == path

    def test_foreign_directory_is_refused_and_left_alone(self, tmp_path):
        (tmp_path / "thesis.tex").write_text("mine")
        with pytest.raises(ValueError, match="is not a warm start"):
            warm_start(tmp_path, steps=1)
        assert [p.name for p in tmp_path.iterdir()] == ["thesis.tex"]

    def test_interrupted_run_leaves_nothing_and_can_be_repeated(self, tmp_path, monkeypatch):
        path = tmp_path / "start"

        def interrupt(directory):
            raise KeyboardInterrupt

        with monkeypatch.context() as patch:  # after the model is written, before the directory is complete
            patch.setattr("transformers.PreTrainedTokenizerFast.save_pretrained", lambda self, path: interrupt(path))
            with pytest.raises(KeyboardInterrupt):
                warm_start(path, steps=1)
        assert list(tmp_path.iterdir()) == []
        path.mkdir()  # an empty directory is no obstacle
        assert (warm_start(path, steps=1) / "warm_start.json").is_file()

    def test_a_directory_finished_meanwhile_is_taken(self, tmp_path):
        path = tmp_path / "start"

        def overtake(step, steps, loss):
            if step == 1:
                warm_start(path, steps=3)

        assert warm_start(path, steps=3, on_step=overtake) == path
        assert [p.name for p in tmp_path.iterdir()] == ["start"]

    def test_same_seed_same_weights_whatever_the_global_state(self, tmp_path):
        weights = {}
        for name, seed in (("a", 0), ("b", 0), ("c", 1)):
            torch.manual_seed(len(weights))
            random.seed(len(weights))
            torch_state, python_state = torch.get_rng_state(), random.getstate()
            path = warm_start(tmp_path / name, seed=seed, steps=3)
            assert torch.equal(torch.get_rng_state(), torch_state)
            assert random.getstate() == python_state
            weights[name] = (path / "model.safetensors").read_bytes()
        assert weights["a"] == weights["b"] != weights["c"]

    def test_curriculum_raises_the_terms_by_quarters(self, tmp_path, monkeypatch):
        drawn = []

        def spy(rng, split, terms):
            drawn.append((split, terms))
            return draw_prompt(rng, split, terms)

        monkeypatch.setattr(warm_start_module, "draw_prompt", spy)
        warm_start(tmp_path / "start", steps=8)
        batches = [drawn[i : i + 64] for i in range(0, len(drawn), 64)]
        assert [max(terms for _, terms in batch) for batch in batches] == [3, 3, 5, 5, 10, 10, 10, 10]
        assert {min(terms for _, terms in batch) for batch in batches} == {2}
        assert {split for split, _ in drawn} == {"train"}

    def test_seed_fixes_the_initial_weights(self, tmp_path, monkeypatch):
        seeds = []
        monkeypatch.setattr(warm_start_module, "build_policy", lambda seed: seeds.append(seed) or build_policy(seed))
        warm_start(tmp_path / "start", seed=7, steps=1)
        assert seeds == [7]

    def test_loss_covers_the_completion_and_its_eos_only(self):
        tokenizer = build_tokenizer()
        input_ids, labels = warm_start_module._draw_batch(random.Random(0), tokenizer, 10, 0.15)
        for ids, row in zip(input_ids.tolist(), labels.tolist(), strict=True):
            end = ids.index(EOS_TOKEN_ID) + 1
            text = tokenizer.decode(ids[: end - 1])
            start = text.index("=") + 1
            assert row == [-100] * start + ids[start:end] + [-100] * (len(ids) - end)
            assert set(ids[end:]) <= {tokenizer.pad_token_id}

    def test_another_policy_is_warmed_up_on_longer_sums_and_told_apart(self, tmp_path, monkeypatch):
        drawn = []
        monkeypatch.setattr(warm_start_module, "draw_prompt", lambda *a: drawn.append(a[2]) or draw_prompt(*a))
        larger = {"hidden_size": 32, "num_hidden_layers": 1, "max_length": 640}
        options = {"steps": 2, "policy": larger, "max_terms": 40, "learning_rate": 1e-3}
        path = warm_start(tmp_path / "start", **options)
        model = AutoModelForCausalLM.from_pretrained(path)
        assert max(drawn[:64]) <= 3
        assert max(drawn[64:]) > 10
        assert (model.config.hidden_size, model.config.max_position_embeddings) == (32, 640)
        assert AutoTokenizer.from_pretrained(path).model_max_length == 640
        assert warm_start(path, **options, on_step=lambda *_: pytest.fail("trained again")) == path
        with pytest.raises(ValueError, match="policy is"):
            warm_start(path, **{**options, "policy": {**larger, "hidden_size": 48}})

    def test_no_steps_is_an_error(self, tmp_path):
        with pytest.raises(ValueError, match="steps=0"):
            warm_start(tmp_path / "start", steps=0)
