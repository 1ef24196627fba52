"""Match once, then aggregate: metrics, slices, figures."""
