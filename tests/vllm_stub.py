"""
A STUB of the vLLM engine, for machines without vLLM, behind TRL's own `VLLMGeneration`.

TRL's class runs as it is, in both modes. Replaced are the engine it would start (`llm`, colocate) or connect to
(`vllm_client`, server), its way of copying weights there, and vLLM's `SamplingParams`. The engine samples from a copy
of the policy that is as old as the last synchronization, at a temperature that is off by a tenth, as if its numerics
differed; the log-probabilities it returns are those of what it sampled from.
"""

import copy
from collections import defaultdict
from types import SimpleNamespace

import torch
from trl.generation import vllm_generation
from trl.generation.vllm_generation import VLLMGeneration
from trl.trainer import grpo_trainer


TEMPERATURE = 1.1  # of the engine, where the policy's is 1
EOS = 1


class Engine:
    """
    Samples, and remembers for every completion what it and the policy thought of it at the time.

    Attributes:
        written (`dict[tuple, list[tuple[list, list]]]`):
            Log-probabilities of the policy and of the engine, for each time a prompt and completion were written.
        synchronized (`int`):
            How often the weights were copied.
    """

    def __init__(self):
        self.written = defaultdict(list)
        self.synchronized = 0

    def load(self, model: torch.nn.Module) -> None:
        self.policy = copy.deepcopy(model).eval()
        self.synchronized += 1

    @torch.no_grad()
    def sample(self, prompt: list[int], max_tokens: int) -> tuple[list[int], list[float]]:
        ids, policy_logps, engine_logps = list(prompt), [], []
        while len(ids) < len(prompt) + max_tokens and ids[-1] != EOS:
            logits = self.policy(input_ids=torch.tensor([ids])).logits[0, -1]
            distribution = (logits / TEMPERATURE).log_softmax(dim=0)
            token = torch.multinomial(distribution.exp(), 1).item()
            policy_logps.append(logits.log_softmax(dim=0)[token].item())
            engine_logps.append(distribution[token].item())
            ids.append(token)
        completion = ids[len(prompt) :]
        self.written[tuple(prompt), tuple(completion)].append((policy_logps, engine_logps))
        return completion, engine_logps

    # ---- As `vllm.LLM` is called, in colocate mode ----

    def generate_colocated(self, prompts, sampling_params, use_tqdm):
        outputs = []
        for prompt in prompts:
            ids, logps = self.sample(prompt["prompt_token_ids"], sampling_params.max_tokens)
            tokens = [{token: SimpleNamespace(logprob=logp, rank=1)} for token, logp in zip(ids, logps, strict=True)]
            completion = SimpleNamespace(token_ids=ids, logprobs=tokens)
            outputs.append(SimpleNamespace(prompt_token_ids=prompt["prompt_token_ids"], outputs=[completion]))
        return outputs

    # ---- As TRL's client of a server is called ----

    def generate_served(self, prompts, features, n, max_tokens, **sampling_params):
        rows = [self.sample(prompt, max_tokens) for prompt in prompts for _ in range(n)]
        return {
            "prompt_ids": prompts,
            "completion_ids": [ids for ids, _ in rows],
            "logprobs": [[[logp] for logp in logps] for _, logps in rows],
        }


class StubbedVLLMGeneration(VLLMGeneration):
    """TRL's class on a stubbed engine."""

    def _init_vllm(self):
        self.engine = Engine()
        self.llm = SimpleNamespace(generate=self.engine.generate_colocated)
        self.vllm_client = SimpleNamespace(
            generate=self.engine.generate_served,
            get_server_info=lambda: {"model_config": {"logprobs_mode": "processed_logprobs"}},
        )

    def sync_weights(self):
        self.engine.load(self.accelerator.unwrap_model(self.model))


def install(monkeypatch) -> None:
    """Let TRL's trainer find the stub where it looks for its own class."""
    monkeypatch.setattr(grpo_trainer, "VLLMGeneration", StubbedVLLMGeneration)
    monkeypatch.setattr(vllm_generation, "SamplingParams", SimpleNamespace, raising=False)
