"""Match once, then aggregate: metrics, slices, figures and the report."""
