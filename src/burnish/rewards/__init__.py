"""Rewards: values that score a group of completions, one kind a file."""
