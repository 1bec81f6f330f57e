"""Runs on the playground: what is trained, on which prompts, with which settings, and where results are kept."""
