"""CloudEvents of a run and a registry: a durable outbox, and sinks that deliver from it at least once."""
