"""What the token-level loss is divided by, and what its tokens weigh."""
