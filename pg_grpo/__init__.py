"""PG-GRPO on Hugging Face TRL: the preference ratio, on top of `dapo_ext`."""
