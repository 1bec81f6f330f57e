import pytest
from datasets import Dataset, IterableDataset

from dapo_ext.sampling.prompt_stream import PromptStream, prompt_key


def dataset(size: int = 10) -> Dataset:
    return Dataset.from_dict({"prompt": [f"p{i}" for i in range(size)], "answer": list(range(size))})


def iterable(size: int = 10) -> IterableDataset:
    return IterableDataset.from_generator(lambda: iter(dataset(size).to_list()))


def names(examples) -> list[str]:
    return [example["prompt"] for example in examples]


@pytest.mark.parametrize("make", [dataset, iterable])
class TestBothKinds:
    def test_a_pass_holds_every_prompt_once_and_passes_differ(self, make):
        stream = PromptStream(make(), seed=3)
        first, second = names(stream.draw(10)), names(stream.draw(10))
        assert sorted(first) == sorted(second) == sorted(names(dataset()))
        assert first != second

    def test_the_order_depends_on_seed_and_position_alone(self, make):
        whole = names(PromptStream(make(), seed=3).draw(7))
        stream = PromptStream(make(), seed=3)
        assert names(stream.draw(2)) + names(stream.draw(5)) == whole
        assert names(PromptStream(make(), seed=4).draw(7)) != whole

    def test_a_resumed_stream_continues_where_it_was(self, make):
        stream = PromptStream(make(), seed=3)
        stream.draw(13)
        resumed = PromptStream(make(), seed=3)
        resumed.load_state_dict(stream.state_dict())
        assert names(resumed.draw(9)) == names(stream.draw(9))

    def test_prompts_just_seen_are_passed_over(self, make):
        avoid = {prompt_key({"prompt": f"p{i}"}) for i in range(8)}
        assert set(names(PromptStream(make(), seed=3).draw(2, avoid))) == {"p8", "p9"}

    def test_a_dataset_smaller_than_the_demand_repeats_itself(self, make):
        avoid = {prompt_key({"prompt": f"p{i}"}) for i in range(3)}
        assert set(names(PromptStream(make(3), seed=3).draw(6, avoid))) == {"p0", "p1", "p2"}

    def test_without_shuffling_the_dataset_order_is_kept(self, make):
        assert names(PromptStream(make(), seed=3, shuffle=False).draw(4)) == ["p0", "p1", "p2", "p3"]

    def test_an_empty_dataset_is_an_error(self, make):
        with pytest.raises(ValueError, match="dataset is empty"):
            PromptStream(make(0), seed=3).draw(1)


def test_drawn_examples_are_objects_of_their_own():
    rows = Dataset.from_dict({"prompt": ["p0"], "meta": [{"seen": 0}]})
    stream = PromptStream(rows, seed=3)
    first = stream.draw(1)[0]
    first["meta"]["seen"] = 1
    assert stream.draw(1)[0]["meta"]["seen"] == 0
