"""What a browser shows: HTML reports and explanations, artifacts of Prefect runs."""
