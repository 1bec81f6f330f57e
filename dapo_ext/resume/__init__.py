"""Checkpoints from which a killed run goes on as if it had never stopped."""
