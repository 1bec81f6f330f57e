"""Importance-weighted tokens: the normalisations, the weighted losses against loops, and the policy's own entropies."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from trl import GRPOTrainer

from dapo_ext.loss.token_weights import check_token_weights, normalize_in_completions, normalize_in_steps
from tests.loss_reference import MAX_LENGTH, Objective, assert_matches, first_step, random_case, reference_step
from tests.pg_tiny import LAYOUT, pg_trainer
from tests.refusal_cases import WEIGHTING
from tests.tiny import NEUTRAL, dapo_trainer, logged, policy_dir, prompts, weights


PLAIN = {**LAYOUT, **NEUTRAL}
BATCH, COMPLETION = {"token_weight_normalization": "batch"}, {"token_weight_normalization": "completion"}
# Every loss with the normalization that fits its denominator
WEIGHTED_LOSSES = [
    ({"loss_type": "dapo", **BATCH}),
    ({"loss_type": "dapo", "importance_sampling_level": "sequence", **BATCH}),
    ({"loss_type": "dr_grpo", **BATCH}),
    ({"loss_type": "cispo", "epsilon_high": 5.0, **BATCH}),
    ({"loss_type": "vespo", **BATCH}),
    ({"loss_type": "grpo", **COMPLETION}),
    ({"loss_type": "sapo", **COMPLETION}),
]


def row_dependent(completion_ids, mask, logps, entropies, advantages):
    """Weights that depend on row and position, some of them 0; nonsense where the mask is 0."""
    rows = completion_ids[:, :1]
    weights = ((rows * 7 + torch.arange(MAX_LENGTH) * 3) % 5).double()
    return weights.masked_fill(mask == 0, -1)


def with_weights(tmp_path, fn, **changes):
    return dapo_trainer(tmp_path, trainer_args={"token_weight_fn": fn}, **{**PLAIN, **changes})


# ---- The normalisations ----


def test_weights_of_a_completion_sum_to_one():
    mask = torch.tensor([[1, 1, 1, 0], [1, 1, 0, 0], [0, 0, 0, 0]])
    weights = check_token_weights(torch.tensor([[1, 2, 5, 9], [0, 0, 9, 9], [1, 1, 1, 1]]), mask)
    scaled = normalize_in_completions(weights, mask)
    # 1/8, 2/8 and 5/8 of the completion, times the 3 tokens that the host divides by
    assert scaled.tolist() == [[3 / 8, 6 / 8, 15 / 8, 0], [0, 0, 0, 0], [0, 0, 0, 0]]


def test_weights_of_a_step_have_mean_one_over_its_tokens():
    masks = [torch.tensor([[1, 1]]), torch.tensor([[1, 0]]), torch.tensor([[1, 1]]), torch.tensor([[0, 0]])]
    weights = [torch.tensor([[1.0, 3.0]]), torch.tensor([[2.0, 0.0]]), torch.zeros(1, 2), torch.zeros(1, 2)]
    scaled = normalize_in_steps(weights, masks, 2, gather=lambda values: values)
    # 3 tokens of total weight 6 in the first step; the second has no weight at all
    assert [weight.tolist() for weight in scaled] == [[[0.5, 1.5]], [[1.0, 0.0]], [[0.0, 0.0]], [[0.0, 0.0]]]


def test_a_step_is_normalised_over_all_ranks():
    """The other rank holds 3 tokens of weight 0.1 and one of 8."""
    mine = ([torch.tensor([[1.0, 1.0]])], [torch.ones(1, 2)])
    theirs = ([torch.tensor([[0.1, 0.1, 0.1, 8.0]])], [torch.ones(1, 4)])
    sent: list[torch.Tensor] = []
    (whole,) = normalize_in_steps(
        [torch.cat([mine[0][0], theirs[0][0]], dim=1)], [torch.ones(1, 6)], 1, lambda values: values
    )
    largest = torch.tensor([[8.0]])
    sums = torch.tensor([[[4.0, 8.3 / 8]]])
    (scaled,) = normalize_in_steps(
        *mine, 1, lambda values: sent.append(values) or torch.cat([values, (largest, sums)[len(sent) - 1]])
    )
    torch.testing.assert_close(scaled, whole[:, :2])


@pytest.mark.parametrize("value", [1.0, 0.3, 1e-30, 3e38])
def test_equal_weights_become_exactly_one(value):
    mask = (torch.arange(700) < torch.tensor([[1], [333], [700]])).long()
    weights = check_token_weights(torch.full(mask.shape, value), mask)
    assert torch.equal(normalize_in_completions(weights, mask), mask.float())
    (scaled,) = normalize_in_steps([weights], [mask], 1, lambda values: values)
    assert torch.equal(scaled, mask.float())


@pytest.mark.parametrize(
    ("spoil", "said"),
    [
        (lambda weights: weights.index_fill(1, torch.tensor(0), -0.1), "has the weight -0.1"),
        (lambda weights: weights.index_fill(1, torch.tensor(0), torch.nan), "has the weight nan"),
        (lambda weights: weights.index_fill(1, torch.tensor(0), torch.inf), "has the weight inf"),
        (lambda weights: weights[:, :1], r"returned shape \(4, 1\)"),
        (lambda weights: weights[0], r"returned shape \(8,\)"),
        (lambda weights: weights.tolist(), "returned list"),
        (lambda weights: None, "returned NoneType"),
    ],
    ids=["negative", "nan", "inf", "one per row", "one row", "list", "None"],
)
def test_what_are_no_weights_is_an_error(tmp_path, spoil, said):
    trainer = with_weights(tmp_path, lambda ids, *rest: spoil(torch.ones(ids.shape)), pad_to_multiple_of=8)
    with pytest.raises(ValueError, match=said):
        trainer.train()


# ---- The weighted losses ----


def normalised(case, micro_batches, normalization):
    """The weights of `row_dependent` by loops: sums over the step, or over each completion."""
    raw, counted = {}, {}
    for row in (row for batch in micro_batches for row in batch["completion_ids"][:, 0].tolist()):
        tokens = [
            t for t in range(MAX_LENGTH) if case.batch["completion_mask"][row, t] * case.batch["tool_mask"][row, t]
        ]
        raw.update({(row, t): float((row * 7 + t * 3) % 5) for t in tokens})
        counted[row] = len(tokens)
    scaled = {}
    for (row, t), weight in raw.items():
        if normalization == "batch":
            scaled[row, t] = weight * len(raw) / sum(raw.values())
        else:
            total = sum(other for (r, _), other in raw.items() if r == row)
            scaled[row, t] = weight * counted[row] / total if total else 0.0
    return scaled


@pytest.mark.parametrize(
    ("fields", "objective"),
    [
        ({"loss_type": "dapo", "beta": 0.1, **BATCH}, Objective("dapo", "token", 1.0, kl=0.1)),
        (
            {"loss_type": "dapo", "delta": 1.5, "importance_sampling_level": "sequence", **BATCH},
            Objective("dapo", "sequence", 1.0, 1.0, delta=1.5),
        ),
        ({"loss_type": "dr_grpo", "beta": 0.1, **BATCH}, Objective("dr_grpo", "token", 1.0, kl=0.1)),
        ({"loss_type": "cispo", "epsilon_high": 5.0, **BATCH}, Objective("cispo", "token", 1.0)),
        ({"loss_type": "grpo", "beta": 0.1, **COMPLETION}, Objective("grpo", "token", 1.0, kl=0.1)),
    ],
    ids=lambda value: str(value)[:60],
)
def test_value_and_gradient_equal_the_loops_and_the_kl_term_is_not_weighted(tmp_path, monkeypatch, fields, objective):
    trainer = with_weights(tmp_path, row_dependent, use_bias_correction_kl=False, **fields)
    objective.epsilon_high = fields.get("epsilon_high", 0.28)
    objective.bound = float("inf")
    for seed in range(6):
        case = random_case(seed, rows=16, spread=0.4)
        loss, micro_batches = first_step(trainer, case, monkeypatch)
        gradient = case.scores.gradient.clone()
        case.scores.logps.grad = None
        objective.weights = normalised(case, micro_batches, fields["token_weight_normalization"])
        expected = reference_step(case, micro_batches, objective)
        expected.backward()
        torch.testing.assert_close(loss, expected.detach(), rtol=1e-10, atol=1e-12)
        torch.testing.assert_close(gradient, case.scores.gradient, rtol=1e-10, atol=1e-12)
        objective.weights = {}
        assert abs(reference_step(case, micro_batches, objective) - loss) > 1e-4


@pytest.mark.parametrize("fields", WEIGHTED_LOSSES, ids=str)
def test_equal_weights_give_the_unweighted_losses_to_the_bit(tmp_path, fields):
    """Float32 runs: the weighted loss goes through advantages of shape (B, T) and is the same number."""
    fields = {**fields, "gradient_accumulation_steps": 1, "max_steps": 3, "beta": 0.01}
    plain = dapo_trainer(tmp_path, **{**PLAIN, **fields, **BATCH})  # it would refuse a normalization of no weights
    plain.train()
    weighted = with_weights(tmp_path, lambda completion_ids, *rest: torch.full(completion_ids.shape, 0.3), **fields)
    weighted.train()
    if fields.get("importance_sampling_level") == "sequence":
        # The gradient of the one ratio is summed over tokens in another order, so only the first loss is bound
        assert logged(weighted, "loss")[0] == logged(plain, "loss")[0]
        torch.testing.assert_close(weights(weighted), weights(plain), rtol=1e-3, atol=1e-5)
    else:
        assert logged(weighted, "loss") == logged(plain, "loss")
        assert torch.equal(weights(weighted), weights(plain))


@pytest.mark.parametrize("fields", WEIGHTED_LOSSES, ids=str)
def test_every_allowed_loss_is_linear_in_the_normalised_weights(tmp_path, monkeypatch, fields):
    """The weighted loss is the sum of what each token alone gives, whatever the loss does with the ratio."""
    picked = {}

    def one_token(completion_ids, mask, *rest):
        chosen = (completion_ids[:, :1] == picked["row"]) & (torch.arange(MAX_LENGTH) == picked["token"])
        return chosen.double()

    layout = {"per_device_train_batch_size": 4, "steps_per_generation": 1, "gradient_accumulation_steps": 1}
    case = random_case(2, rows=4, spread=0.4)
    mixed, micro_batches = first_step(with_weights(tmp_path, row_dependent, **fields, **layout), case, monkeypatch)
    expected = normalised(case, micro_batches, fields["token_weight_normalization"])
    alone = with_weights(tmp_path, one_token, **fields, **layout)
    total = torch.zeros_like(mixed)
    for (row, token), weight in expected.items():
        picked.update(row=row, token=token)
        loss, _ = first_step(alone, case, monkeypatch)
        in_completion = fields["token_weight_normalization"] == "completion"
        count = sum(r == row for r, _ in expected) if in_completion else len(expected)
        total += loss * weight / count  # alone, the token has the weight `count`
    torch.testing.assert_close(mixed, total, rtol=1e-9, atol=1e-12)


def test_with_pg_grpo_the_weights_and_the_ratio_compose(tmp_path, monkeypatch):
    trainer = pg_trainer(
        tmp_path, ratio_level="token", pg_beta=0.4, trainer_args={"token_weight_fn": row_dependent}, **COMPLETION
    )
    objective = Objective("grpo", "token", 0.4, kl=0.001)
    for seed in range(6):
        case = random_case(seed, rows=16, spread=0.5)
        objective.weights = {}
        for batch in range(4):
            ids = torch.arange(batch * 4, batch * 4 + 4).unsqueeze(1)
            objective.weights.update(normalised(case, [{"completion_ids": ids}], "completion"))
        assert_matches(trainer, case, objective, monkeypatch)


def test_dead_rows_do_not_distort_clip_metrics_of_weighted_sequences(tmp_path, monkeypatch):
    """With (B, T) advantages the host already leaves dead rows out of its clip shares."""
    trainer = with_weights(tmp_path, lambda ids, *rest: torch.ones(ids.shape), importance_sampling_level="sequence")
    plain = dapo_trainer(tmp_path, **PLAIN, importance_sampling_level="sequence")
    for seed in range(6):
        for one in (trainer, plain):
            torch.manual_seed(seed)
            case = random_case(seed, rows=16, spread=1.0)
            case.batch["completion_mask"] = torch.ones(16, MAX_LENGTH, dtype=torch.long)
            case.batch["tool_mask"][:] = case.batch["tool_mask"][:, :1]
            first_step(one, case, monkeypatch)
    shares = trainer._metrics["train"]["clip_ratio/region_mean"]
    assert shares == pytest.approx(plain._metrics["train"]["clip_ratio/region_mean"])
    assert sum(shares) > 0


# ---- Entropies and log-probabilities of the policy that generated ----


class Recorder:
    """A token_weight_fn that compares what it is given with a plain forward pass of the policy as it is now."""

    trainer: GRPOTrainer
    calls = 0

    def __call__(self, completion_ids, mask, logps, entropies, advantages):
        batches = self.trainer._buffered_inputs
        batch = batches[self.calls % len(batches)]
        self.calls += 1
        assert torch.equal(batch["completion_ids"], completion_ids)
        assert torch.equal(batch["advantages"], advantages)
        with torch.no_grad():
            logits = self.trainer.model(
                input_ids=torch.cat([batch["prompt_ids"], completion_ids], dim=1),
                attention_mask=torch.cat([batch["prompt_mask"], batch["completion_mask"]], dim=1),
            ).logits[:, -completion_ids.size(1) - 1 : -1]
        log_probs = logits.log_softmax(dim=-1)
        live = mask.bool()
        expected = -(log_probs.exp() * log_probs).sum(dim=-1)
        torch.testing.assert_close(entropies[live], expected[live], rtol=1e-4, atol=1e-4)
        expected = log_probs.gather(2, completion_ids.unsqueeze(2)).squeeze(2)
        torch.testing.assert_close(logps[live], expected[live], rtol=1e-4, atol=1e-4)
        assert not entropies.requires_grad
        assert not logps.requires_grad
        return entropies.clamp(min=0)


ALIGNED = {"steps_per_generation": 2, "gradient_accumulation_steps": 2}
OFF_POLICY = {"steps_per_generation": 4, "gradient_accumulation_steps": 2}


def passes_per_generation(trainer, monkeypatch) -> list[int]:
    """Rows of each forward pass over whole generation batches, as the trainer asks for them."""
    rows = []
    original = GRPOTrainer._get_per_token_logps_and_entropies

    def counting(self, model, input_ids, *args, **kwargs):
        if not torch.is_grad_enabled():
            rows.append(len(input_ids))
        return original(self, model, input_ids, *args, **kwargs)

    monkeypatch.setattr(GRPOTrainer, "_get_per_token_logps_and_entropies", counting)
    trainer.train()
    return rows


@pytest.mark.parametrize(
    ("layout", "forward_passes"),
    # The host scores the policy itself when it needs old log-probabilities, and the reference when beta is not 0
    [(ALIGNED, 1), (OFF_POLICY, 1), ({**ALIGNED, "beta": 0.1}, 2), ({**OFF_POLICY, "beta": 0.1}, 2)],
    ids=str,
)
@pytest.mark.parametrize("peft", [False, True])
@pytest.mark.parametrize("sampling", [False, True])
def test_the_policy_is_scored_once_and_before_it_moves(tmp_path, monkeypatch, layout, forward_passes, peft, sampling):
    from peft import LoraConfig

    recorder = Recorder()
    trainer_args = {"token_weight_fn": recorder}
    if peft:
        trainer_args["peft_config"] = LoraConfig(r=4, target_modules=["q_proj", "v_proj"], task_type="CAUSAL_LM")
    options = {**NEUTRAL, **LAYOUT, **layout, "dynamic_sampling": sampling, "learning_rate": 3e-2}
    options["carry_surplus"] = False  # what waits is scored when it is written: tests/test_surplus.py
    recorder.trainer = trainer = dapo_trainer(tmp_path, trainer_args=trainer_args, **options, max_steps=4)
    generations = 4 * 2 // layout["steps_per_generation"]
    rows = passes_per_generation(trainer, monkeypatch)
    assert rows == [4 * layout["steps_per_generation"]] * forward_passes * generations
    assert recorder.calls == 4 * 2


def test_the_policy_is_scored_once_in_pg_grpo_as_well(tmp_path, monkeypatch):
    recorder = Recorder()
    recorder.trainer = trainer = pg_trainer(
        tmp_path, loss_type="dapo", trainer_args={"token_weight_fn": recorder}, learning_rate=3e-2
    )
    rows = passes_per_generation(trainer, monkeypatch)
    assert rows == [16] * 2 * 2  # the policy and the reference, in two generations
    assert recorder.calls == 4 * 2


def test_entropy_weighting_is_the_function_that_returns_the_entropies(tmp_path):
    by_name = dapo_trainer(tmp_path, **PLAIN, token_weighting="entropy")
    by_name.train()
    by_function = with_weights(tmp_path, lambda ids, mask, logps, entropies, advantages: entropies.clamp(min=0))
    by_function.train()
    assert torch.equal(weights(by_name), weights(by_function))
    uniform = dapo_trainer(tmp_path, **PLAIN)
    uniform.train()
    assert not torch.equal(weights(by_name), weights(uniform))
    # With several iterations over a generation the weights are formed once
    again = dapo_trainer(tmp_path, **PLAIN, token_weighting="entropy", num_iterations=2)
    again.train()
    assert all(batch["advantages"].dim() == 2 for batch in again._buffered_inputs)


def test_evaluation_is_not_weighted(tmp_path):
    def never(*args):
        raise AssertionError("called in evaluation")

    trainer = with_weights(tmp_path, never, per_device_eval_batch_size=4)
    assert "eval_loss" in trainer.evaluate(prompts(8))


# ---- Refusals ----


@pytest.mark.parametrize(
    ("changes", "field"), [case for case in WEIGHTING if case[0].get("token_weighting") == "entropy"], ids=str
)
def test_a_function_is_refused_with_the_same_losses(tmp_path, changes, field):
    """It is known to the trainer alone."""
    with pytest.raises(ValueError, match=rf"`{field}=.*` is refused: .*\. Remedy: .*\."):
        dapo_trainer(
            tmp_path, trainer_args={"token_weight_fn": row_dependent}, **{**changes, "token_weighting": "uniform"}
        )


def test_two_sources_of_weights_are_refused(tmp_path):
    with pytest.raises(ValueError, match="`token_weighting='entropy'` is refused"):
        with_weights(tmp_path, row_dependent, token_weighting="entropy")


# ---- Two ranks ----

WORKER = Path(__file__).with_name("weighted_worker.py")


@pytest.mark.xdist_group("two ranks")
def test_two_ranks_give_the_loss_and_the_gradient_of_the_whole(tmp_path):
    launcher = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc_per_node", "2"]
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": str(WORKER.parent.parent)}
    done = subprocess.run(
        [*launcher, str(WORKER), str(tmp_path), policy_dir().name],
        env=environment,
        capture_output=True,
        text=True,
        timeout=200,
    )
    assert done.returncode == 0, done.stderr[-3000:]
    ranks = [json.loads((tmp_path / f"rank{rank}.json").read_text()) for rank in (0, 1)]

    case = random_case(0, rows=16)
    everything = [{"completion_ids": case.batch["completion_ids"]}]
    objective = Objective("dapo", kl=0.001, weights=normalised(case, everything, "batch"))
    expected = reference_step(case, everything, objective)
    expected.backward()
    # The mean over ranks is left to the reduction of the gradients
    loss = (ranks[0]["loss"] + ranks[1]["loss"]) / 2
    assert loss == pytest.approx(expected.item(), rel=1e-10)
    gradient = (torch.tensor(ranks[0]["gradient"]) + torch.tensor(ranks[1]["gradient"])) / 2
    torch.testing.assert_close(gradient, case.scores.gradient.float(), rtol=1e-5, atol=1e-7)
    assert ranks[0]["metrics"] == ranks[1]["metrics"]
    assert ranks[0]["metrics"]["pg_grpo/clipped_high"] != [0.0]
