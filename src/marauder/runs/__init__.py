"""Runs: a task and the engine put together into work a user can start, stop and go on with."""
