"""TRL's model card, with the configuration in it."""

from pathlib import Path

import yaml

from .settings import settings


# Of this machine or of this upload, and no part of how the model was trained
NOT_ON_THE_CARD = {
    *("output_dir", "logging_dir", "run_name", "resume_from_checkpoint", "project", "trackio_space_id"),
    *("push_to_hub", "hub_model_id", "hub_token", "hub_strategy", "hub_private_repo", "hub_revision", "report_to"),
    *(
        "use_cpu",
        "dataloader_pin_memory",
        "disable_tqdm",
        "log_completions",
        "logging_steps",
        "save_strategy",
        "save_steps",
        "remove_unused_columns",
    ),
}
BEFORE = "### Framework versions"
NO_BASE_MODEL = "[None](https://huggingface.co/None)"  # TRL's words for a model that came from a local directory


class CardWithConfiguration:
    """Mixin, to stand before a TRL trainer among the bases: the card lists what the run was configured with."""

    def create_model_card(self, *args, **kwargs):
        super().create_model_card(*args, **kwargs)
        if self.is_world_process_zero():
            path = Path(self.args.output_dir) / "README.md"
            card = path.read_text(encoding="utf-8").replace(NO_BASE_MODEL, "a local model")
            path.write_text(card.replace(BEFORE, f"{self._configuration_section()}\n{BEFORE}", 1), encoding="utf-8")

    def _configuration_section(self) -> str:
        values = {name: value for name, value in settings(self.args).items() if name not in NOT_ON_THE_CARD}
        adapter = getattr(self.model, "peft_config", {}).get("default")
        if adapter is not None:
            values["adapter"] = f"{adapter.peft_type.value}, r={getattr(adapter, 'r', None)}"
        if getattr(self.model, "is_loaded_in_4bit", False):
            values["quantization"] = "4-bit"
        listed = yaml.safe_dump(values, sort_keys=False, allow_unicode=True, width=1000)
        return (
            f"### Configuration\n\nFields of `{type(self.args).__name__}`; what is not listed is at its default, or "
            "concerns only where the run wrote and what it logged.\n\n"
            f"```yaml\n{listed}```\n"
        )
