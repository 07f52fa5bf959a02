"""The service: scores and forecasts over HTTP, from memory, following the champion and the data without a restart."""
