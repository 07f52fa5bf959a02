"""What was said, kept for good: published scores and forecasts, events, calls and overrides, and the keys to ask."""
