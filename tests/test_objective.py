"""The loss of the real trainer against plain loops in float64, written from the papers: value and gradient."""

from types import SimpleNamespace

import pytest
import torch

from tests.tiny import dapo_trainer


MICRO_BATCHES = 4


def number(value: float) -> torch.Tensor:
    return torch.tensor(value, dtype=torch.float64)


def reference_losses(given, options) -> torch.Tensor:
    """
    One loss per optimizer step, `(S / A,)`, by loops over rows and tokens (METHOD: surrogate, aggregations, KL).

    `given.step_of[i]` is the optimizer step that row `i` is trained in.
    """
    low, high = options.get("epsilon", 0.2), options.get("epsilon_high", 0.28)
    delta, beta = options.get("delta"), options.get("beta", 0.0)
    losses = []
    for step in range(max(given.step_of) + 1):
        rows = []
        for i in [i for i, owner in enumerate(given.step_of) if owner == step]:
            tokens = [t for t in range(given.mask.size(1)) if given.mask[i, t]]
            if not tokens:
                continue
            mean_log_ratio = sum(given.logps[i, t] - given.old[i, t] for t in tokens) / len(tokens)
            terms = []
            for t in tokens:
                sequence = options.get("importance_sampling_level") == "sequence"
                ratio = torch.exp(mean_log_ratio if sequence else given.logps[i, t] - given.old[i, t])
                clipped = min(max(ratio, number(1 - low)), number(1 + high))
                capped = ratio if delta is None else min(ratio, number(delta))
                term = -min(capped * given.advantages[i], clipped * given.advantages[i])
                if beta:
                    difference = given.ref[i, t] - given.logps[i, t]
                    term = term + beta * (torch.exp(difference) - difference - 1)
                terms.append(term)
            rows.append(terms)
        total = sum(term for terms in rows for term in terms)
        match options.get("loss_type", "dapo"):
            case "dapo":
                losses.append(total / sum(len(terms) for terms in rows))
            case "grpo":
                losses.append(sum(sum(terms) / len(terms) for terms in rows) / len(rows))
            case "dr_grpo":
                losses.append(total / (len(rows) * options["max_completion_length"]))
            case "luspo":
                losses.append(sum(sum(terms) for terms in rows) / len(rows))
    return torch.stack(losses)


def random_case(seed: int, with_dead_rows: bool):
    """Random lengths, log-probabilities far enough apart that every clip is active, and advantages of both signs."""
    generator = torch.Generator().manual_seed(seed)

    def normal(*shape, scale=1.0):
        return torch.randn(*shape, generator=generator, dtype=torch.float64) * scale

    rows_each = int(torch.randint(2, 5, (1,), generator=generator))
    rows, length = rows_each * MICRO_BATCHES, int(torch.randint(3, 9, (1,), generator=generator))
    lengths = torch.randint(1, length + 1, (rows,), generator=generator)
    mask = (torch.arange(length) < lengths.unsqueeze(1)).long()
    live = torch.ones(rows, dtype=torch.long)
    if with_dead_rows:
        live[torch.randperm(rows, generator=generator)[: rows // 3]] = 0
    logps = normal(rows, length) - 2
    return SimpleNamespace(
        rows_each=rows_each,
        logps=logps.requires_grad_(),
        old=logps.detach() + normal(rows, length, scale=0.3),
        ref=logps.detach() + normal(rows, length, scale=0.3),
        advantages=normal(rows),
        completion_mask=mask,
        mask=mask * live.unsqueeze(1),
        live=live,
        step_of=[],
    )


def trainer_losses(tmp_path, case, accumulation: int, options, mutate=lambda trainer: None) -> torch.Tensor:
    """Loss of each optimizer step through `_prepare_inputs` and `_compute_loss` of a real trainer."""
    trainer = dapo_trainer(
        tmp_path,
        per_device_train_batch_size=4,
        steps_per_generation=MICRO_BATCHES,
        gradient_accumulation_steps=accumulation,
        soft_overlong_cache=0,
        **options,
    )
    rows, length = case.logps.shape
    generation = {
        "prompt_ids": torch.arange(rows).unsqueeze(1),  # which row is which after the host has shuffled them
        "prompt_mask": torch.ones(rows, 1, dtype=torch.long),
        "completion_ids": torch.zeros(rows, length, dtype=torch.long),
        "completion_mask": case.completion_mask,
        "tool_mask": case.live.unsqueeze(1).expand(rows, length),
        "advantages": case.advantages,
        "old_per_token_logps": case.old,
        "ref_per_token_logps": case.ref,
        "num_items_in_batch": case.completion_mask.sum(),  # what the host counts
    }
    trainer._generate_and_score_completions = lambda inputs: dict(generation)
    trainer._get_per_token_logps_and_entropies = lambda model, input_ids, *args, **kwargs: (
        case.logps[input_ids[:, 0]],
        torch.ones(len(input_ids), length, dtype=torch.float64),
        None,
    )
    trainer.current_gradient_accumulation_steps = accumulation
    trainer.model.train()
    mutate(trainer)
    losses = torch.zeros(MICRO_BATCHES // accumulation, dtype=torch.float64)
    case.step_of = [0] * rows
    for index in range(MICRO_BATCHES):
        trainer._step = index
        inputs = trainer._prepare_inputs(None)
        for row in inputs["prompt_ids"].flatten().tolist():
            case.step_of[row] = index // accumulation
        losses[index // accumulation] = losses[index // accumulation] + trainer._compute_loss(trainer.model, inputs)
    return losses


def check(tmp_path, seed, accumulation, options, with_dead_rows=True, mutate=lambda trainer: None):
    case = random_case(seed, with_dead_rows)
    losses = trainer_losses(tmp_path, case, accumulation, options, mutate)
    expected = reference_losses(case, {"max_completion_length": 8, **options})
    torch.testing.assert_close(losses, expected, rtol=1e-12, atol=1e-13)
    for step in range(len(losses)):
        (gradient,) = torch.autograd.grad(losses[step], case.logps, retain_graph=True)
        (expected_gradient,) = torch.autograd.grad(expected[step], case.logps, retain_graph=True)
        torch.testing.assert_close(gradient, expected_gradient, rtol=1e-12, atol=1e-13)


OPTIONS = [
    {},
    {"epsilon": 0.1, "epsilon_high": 0.5},
    {"delta": 1.4},
    {"beta": 0.3, "use_bias_correction_kl": False},
    {"importance_sampling_level": "sequence"},
    {"loss_type": "grpo"},
    {"loss_type": "grpo", "beta": 0.3, "use_bias_correction_kl": False},
    {"loss_type": "dr_grpo"},
    {"loss_type": "luspo", "importance_sampling_level": "token"},
]


@pytest.mark.parametrize("options", OPTIONS, ids=str)
@pytest.mark.parametrize("accumulation", [1, 2, 4])
def test_value_and_gradient_equal_the_reference(tmp_path, options, accumulation):
    for seed in range(3):
        check(tmp_path, seed, accumulation, options)
    check(tmp_path, 3, accumulation, options, with_dead_rows=False)


def test_a_split_into_micro_batches_gives_the_gradient_of_the_whole(tmp_path):
    """Four micro-batches accumulated into one step: the loss of the 4 B rows at once, whatever their lengths."""
    case = random_case(7, with_dead_rows=True)
    (loss,) = trainer_losses(tmp_path, case, MICRO_BATCHES, {})
    ratio = torch.exp(case.logps - case.old)
    advantages = case.advantages.unsqueeze(1)
    surrogate = torch.min(ratio * advantages, ratio.clamp(0.8, 1.28) * advantages)
    whole = -(surrogate * case.mask).sum() / case.mask.sum()
    (gradient,) = torch.autograd.grad(loss, case.logps)
    (expected,) = torch.autograd.grad(whole, case.logps)
    torch.testing.assert_close(gradient, expected, rtol=1e-12, atol=1e-14)


def _mutate_inputs(change):
    def mutate(trainer):
        prepare = trainer._prepare_inputs

        def mutated(generation_batch):
            inputs = dict(prepare(generation_batch))
            change(inputs)
            return inputs

        trainer._prepare_inputs = mutated

    return mutate


def _set(name, value):
    return lambda trainer: setattr(trainer, name, value)


def _host_denominators(trainer):
    host = super(type(trainer), trainer)._prepare_inputs

    def without_exact_denominators(generation_batch):
        return {**host(generation_batch), "window_is_empty": False, "row_mean_scale": 1, "live_row_share": 1}

    trainer._prepare_inputs = without_exact_denominators


MUTATIONS = {
    "sign of the advantage": (_mutate_inputs(lambda inputs: inputs.update(advantages=-inputs["advantages"])), {}),
    "bounds swapped": (lambda trainer: trainer.__dict__.update(epsilon_low=0.28, epsilon_high=0.2), {}),
    "upper bound": (_set("epsilon_high", 0.2), {}),
    "lower bound": (_set("epsilon_low", 0.28), {}),
    "denominator off by one": (
        _mutate_inputs(lambda inputs: inputs.update(num_items_in_batch=inputs["num_items_in_batch"] + 1)),
        {},
    ),
    "dead rows left in": (_mutate_inputs(lambda inputs: inputs.pop("tool_mask")), {}),
    "the mean step, as in TRL": (_host_denominators, {}),
    "dead rows left in the row mean": (
        _mutate_inputs(lambda inputs: inputs.update(row_mean_scale=1)),
        {"loss_type": "grpo"},
    ),
    "sign of the KL term": (_set("beta", -0.3), {"beta": 0.3, "use_bias_correction_kl": False}),
    "dual clip left out": (lambda trainer: setattr(trainer.args, "delta", None), {"delta": 1.4}),
}


@pytest.mark.parametrize("name", MUTATIONS)
def test_the_reference_test_notices_a_mutation(tmp_path, name):
    mutate, options = MUTATIONS[name]
    check(tmp_path, 0, 2, options)
    with pytest.raises(AssertionError, match="not close"):
        check(tmp_path, 0, 2, options, mutate=mutate)


def test_every_clip_is_active_in_the_random_cases():
    """Otherwise the cases above could not tell a bound from another."""
    case = random_case(0, with_dead_rows=True)
    ratio = torch.exp(case.logps - case.old)[case.mask.bool()]
    assert (ratio < 0.72).any()
    assert (ratio > 1.5).any()
    assert ((ratio > 1.2) & (ratio < 1.28)).any() or ((ratio > 0.72) & (ratio < 0.8)).any()
