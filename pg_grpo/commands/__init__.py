"""What the command `pg-grpo` runs, one module for each thing it does."""
