"""Simulations of decisions that are pure: no processes, and a clock that is a number."""
