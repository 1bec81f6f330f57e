"""Warnings of the usual ways in which RL goes wrong, each said once, with the metric and the remedy."""

from accelerate.logging import get_logger
from transformers import TrainerCallback, TrainingArguments
from trl import DPOConfig, GRPOConfig

from ..refusals import refusal
from .symptoms import HeldOutFall, Logs, OutOfBounds, Symptom


logger = get_logger(__name__)


class TrainingGuards(TrainerCallback):
    """
    Watches the metrics of a run and warns, once for each symptom, when it looks like going wrong.

    Every trainer of this project takes it, and TRL's `GRPOTrainer` and `DPOTrainer`. It changes nothing in the run. A
    symptom whose metric is not logged is not looked for. A resumed run goes on from the log of its checkpoint.
    docs/guards.md has the table of symptoms, metrics and remedies.

    Args:
        held_out_metric (`str`, *optional*, defaults to `"eval_reward"`):
            For trainers that generate, the metric of an evaluation that says how well the task is done. With a reward
            model as reward, pass that of a verifier beside it (with `reward_weights` 0), as in
            `"eval_rewards/accuracy_reward/mean"`. Its standard deviation must be logged as well, as TRL does.

    Raises:
        ValueError: when the training begins, with a trainer whose metrics mean something else.

    Example:
    ```python
    from dapo_ext import DAPOTrainer, TrainingGuards

    trainer = DAPOTrainer(..., callbacks=[TrainingGuards()])
    ```
    """

    def __init__(self, held_out_metric: str = "eval_reward"):
        self.held_out_metric = held_out_metric
        self._symptoms: list[Symptom] = []

    def on_train_begin(self, args, state, control, **kwargs):
        self._symptoms = symptoms_of(args, self.held_out_metric)
        for logs in state.log_history:  # of a resumed run, which has warned of them
            self._observe(logs)

    def on_log(self, args, state, control, logs=None, **kwargs):
        for symptom, finding in self._observe(logs):
            logger.warning(f"{symptom.name.capitalize()} at step {state.global_step}: {finding}")

    def _observe(self, logs: Logs) -> list[tuple[Symptom, str]]:
        """What has been found now, which is not looked for any more."""
        found, still_looked_for = [], []
        for symptom in self._symptoms:
            finding = symptom.observe(logs)
            if finding is None:
                still_looked_for.append(symptom)
            else:
                found.append((symptom, finding))
        self._symptoms = still_looked_for
        return found


def symptoms_of(args: TrainingArguments, held_out_metric: str) -> list[Symptom]:
    """
    What [`TrainingGuards`] looks for in a run, in a state that has seen nothing.

    Args:
        args ([`~transformers.TrainingArguments`]):
            Configuration of the run.
        held_out_metric (`str`):
            See [`TrainingGuards`].

    Raises:
        ValueError: for a configuration of another trainer.
    """
    if isinstance(args, GRPOConfig):
        return _symptoms_of_groups(args.importance_sampling_level, held_out_metric)
    if isinstance(args, DPOConfig):
        return _symptoms_of_pairs()
    raise refusal(
        "callbacks",
        "TrainingGuards",
        f"what a trainer with {type(args).__name__} logs means something else",
        "use it with DAPOTrainer, PGGRPOTrainer, PGDPOTrainer, or TRL's GRPOTrainer and DPOTrainer",
    )


def _symptoms_of_groups(importance_sampling_level: str, held_out_metric: str) -> list[Symptom]:
    spread_metric = (
        f"{held_out_metric.removesuffix('mean')}std" if held_out_metric.endswith("/mean") else f"{held_out_metric}_std"
    )
    return [
        OutOfBounds(
            "entropy collapse",
            "entropy",
            "The policy stops exploring, so that groups will agree and teach nothing: raise epsilon_high (DAPO: 0.28), "
            "lower learning_rate, raise temperature, or set beta above 0.",
            low=0.2,
            relative=True,
        ),
        OutOfBounds(
            "length drift",
            "completions/mean_length",
            "Unless answers are meant to change so, the reward may pay for length: look at completions, and see "
            "soft_overlong_cache and loss_type.",
            low=0.5,
            high=2.0,
            relative=True,
        ),
        OutOfBounds(
            "truncation",
            "completions/clipped_ratio",
            "What is cut off counts as wrong, or for nothing where it is filtered: raise max_completion_length, or "
            "punish length before the limit (soft_overlong_cache, in TRL get_soft_overlong_punishment).",
            high=0.25,
        ),
        OutOfBounds(
            "clipping",
            "clip_ratio/region_mean",
            "Where the clip ends the gradient, updates do nothing: lower learning_rate, make fewer updates of a "
            "generation (steps_per_generation, num_iterations), or widen the clip (epsilon, epsilon_high, a lower "
            "pg_beta).",
            # Single tokens are clipped by the hundred, whole sequences by half without harm
            high={"token": 0.1, "sequence": 0.5}[importance_sampling_level],
        ),
        OutOfBounds(
            "distance from the reference",
            "kl",
            "In nats per token, this is another model than the one it began as: raise beta, lower learning_rate, or "
            "see whether a few tokens of tiny probability make up the mean.",
            high=1.0,
        ),
        HeldOutFall(
            "overfitting of the reward",
            held_out_metric,
            "The policy learns what the reward gives and not what the task asks, or learns its prompts by heart: keep "
            "the checkpoint of the best evaluation, look at completions of high reward (log_completions), mend the "
            "reward, add prompts, or set beta above 0.",
            "reward",
            spread_metric,
        ),
    ]


def _symptoms_of_pairs() -> list[Symptom]:
    return [
        OutOfBounds(
            "entropy collapse",
            "entropy",
            "The policy grows certain of the pairs it has seen: lower learning_rate or num_train_epochs, or raise "
            "pg_beta (in TRL beta).",
            low=0.2,
            relative=True,
        ),
        OutOfBounds(
            "clipping of rejected answers",
            "pg_dpo/rejected_clipped_low",
            "Nearly every pair has reached the clip and has no gradient left: stop, or lower pg_beta, learning_rate or "
            "num_train_epochs.",
            high=0.9,
        ),
        HeldOutFall(
            "overfitting of the pairs",
            "eval_rewards/accuracies",
            "The policy learns its pairs by heart: keep the checkpoint of the best evaluation, lower num_train_epochs "
            "or learning_rate, or add pairs.",
            "rewards/accuracies",
        ),
    ]
