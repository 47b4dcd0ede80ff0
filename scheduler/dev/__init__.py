"""What a developer starts on one machine: the embedded server and child processes bound to us."""
