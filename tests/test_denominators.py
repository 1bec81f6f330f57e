import pytest
import torch

from dapo_ext.loss.denominators import set_denominators, window_sums


def test_window_sums_are_the_sums_over_each_optimizer_step():
    assert window_sums(torch.tensor([1, 2, 3, 4, 5, 6]), 2).tolist() == [3, 3, 7, 7, 11, 11]
    assert window_sums(torch.tensor([[1, 10], [2, 20]]), 2).tolist() == [[3, 30], [3, 30]]


def test_a_window_that_would_span_generations_is_an_error():
    with pytest.raises(ValueError, match="3 micro-batches cannot be divided into windows of 2"):
        window_sums(torch.tensor([1, 2, 3]), 2)


def test_dead_rows_and_empty_windows_are_counted_out():
    full = torch.ones(2, 3, dtype=torch.long)
    one_dead = torch.tensor([[1, 1, 1], [0, 0, 0]])
    batches = [
        {"completion_mask": full, "tool_mask": one_dead},
        {"completion_mask": full},
        {"completion_mask": full, "tool_mask": torch.zeros_like(full)},
        {"completion_mask": full, "tool_mask": torch.zeros_like(full)},
    ]
    set_denominators(batches, 2, num_processes=1, sum_over_ranks=lambda counts: counts)
    # Step 0 has 3 + 6 tokens in 1 + 2 of its 4 rows; step 1 has nothing. TRL scales by S / A = 2.
    assert [batch["num_items_in_batch"].item() for batch in batches] == [18, 18, 0, 0]
    assert [batch["row_mean_scale"] for batch in batches[:2]] == [4 / 3, 4 / 3]
    assert [batch["window_is_empty"] for batch in batches] == [False, False, True, True]
    assert [batch["live_row_share"] for batch in batches] == [0.5, 1.0, 0.0, 0.0]
