"""What we said, kept for good: every published score and forecast, append-only, and the keys to ask for more."""
