"""Preference pairs from a policy's own samples."""

import pytest
from tokenizers.processors import TemplateProcessing

from dapo_ext.playground import build_tokenizer, make_dataset
from pg_grpo import sample_pairs
from pg_grpo.sampled_pairs import _is_as_sampled, make_pairs
from tests.tiny import policy


EOS = build_tokenizer().eos_token_id
SETTING = {"k": 4, "max_completion_length": 48}


def test_pairs_join_each_correct_completion_to_a_wrong_one_of_its_group():
    pairs = make_pairs("1+1=", ["a", "b", "c", "d", "e"], [False, True, False, True, False], [True] * 5)
    assert pairs == [
        {"prompt": "1+1=", "chosen": "b", "rejected": "a"},
        {"prompt": "1+1=", "chosen": "d", "rejected": "c"},
    ]


def test_a_completion_whose_text_is_not_what_was_sampled_is_in_no_pair():
    assert make_pairs("1+1=", ["a", "b", "c"], [False, True, False], [False, True, True])[0]["rejected"] == "c"
    assert make_pairs("1+1=", ["a", "b"], [False, True], [False, True]) == []


def test_a_message_must_end_and_a_text_must_have_its_tokens():
    tokenizer = build_tokenizer()
    ids = tokenizer("1+1")["input_ids"]
    assert _is_as_sampled("1=", "1+1", [*ids, EOS], tokenizer)
    assert not _is_as_sampled("1=", "1+1", ids, tokenizer)
    assert not _is_as_sampled("1=", "1+", [*ids, EOS], tokenizer)
    prompt, message = [{"role": "user", "content": "1="}], [{"role": "assistant", "content": "1+1"}]
    assert _is_as_sampled(prompt, message, [*ids, EOS], tokenizer)
    assert not _is_as_sampled(prompt, message, ids, tokenizer)


def test_a_tokenizer_that_puts_a_token_before_every_text_gives_the_same_pairs():
    prompts = make_dataset("train", 64)
    plain, with_bos = build_tokenizer(), build_tokenizer()
    special = (plain.eos_token, plain.eos_token_id)  # it has no other
    with_bos.backend_tokenizer.post_processor = TemplateProcessing(
        single=f"{plain.eos_token} $A", special_tokens=[special]
    )
    assert with_bos("1+1")["input_ids"] == [EOS, *plain("1+1")["input_ids"]]
    assert len(sample_pairs(policy(), with_bos, prompts, EvenLength(), seed=3, **SETTING)) > 5


class EvenLength:
    """Correct is what has an even number of tokens, EOS included."""

    def __init__(self):
        self.tokens = 0

    def __call__(self, completions, completion_ids, answer, **kwargs):
        self.tokens += sum(len(ids) for ids in completion_ids)
        return [float(len(ids) % 2 == 0) for ids in completion_ids]


def test_sampled_pairs_are_of_one_prompt_and_hold_what_was_sampled():
    tokenizer, prompts, counted = build_tokenizer(), make_dataset("train", 128), EvenLength()
    pairs = sample_pairs(policy(), tokenizer, prompts, counted, seed=3, **SETTING)
    assert len(pairs) > 5
    assert counted.tokens > sum(len(row["chosen"]) + len(row["rejected"]) for row in pairs)
    for row in pairs:
        assert row["prompt"] in prompts["prompt"]
        # With EOS, which the trainers add
        assert (len(tokenizer(row["chosen"])["input_ids"]) + 1) % 2 == 0
        assert (len(tokenizer(row["rejected"])["input_ids"]) + 1) % 2 == 1
    again = sample_pairs(policy(), tokenizer, prompts, EvenLength(), seed=3, **SETTING)
    assert again.to_list() == pairs.to_list()


def test_prompts_without_a_pair_are_an_error_that_says_what_to_change():
    def always(completion_ids, **kwargs):
        return [1.0] * len(completion_ids)

    with pytest.raises(ValueError, match="None of 4 prompts had a correct and a wrong completion among 4"):
        sample_pairs(policy(), build_tokenizer(), make_dataset("train", 4), always, **SETTING)
