"""What answers: forecasts with their guards and backfill, the REST server."""
