"""What who runs a server sees: metrics, logs, traces, readiness."""
