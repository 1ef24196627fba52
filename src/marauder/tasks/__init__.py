"""Kinds of models that a run can train; one file a kind, each with its loss, its evaluator and its gates."""
