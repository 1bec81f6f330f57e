"""Reward functions, timed and checked."""
