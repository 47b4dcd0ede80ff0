"""What users would otherwise call per job: one script for each, run in an environment of their own."""
