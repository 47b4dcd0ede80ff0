"""Benchmarks: ratios of a subject and a baseline, measured side by side in one run; they record and never assert."""
