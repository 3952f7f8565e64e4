"""Comparisons of trained models: what each choice buys, with seeds, intervals, and the expectation written down before."""
