"""The running replica: mirror, dispatch, batching, reaping, waking."""
