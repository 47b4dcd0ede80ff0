"""Pure functions from a snapshot and a demand to candidates and reasons."""
