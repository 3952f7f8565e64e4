"""Exact methods on small worlds: what reinforcement learning estimates, computed without an estimate."""
