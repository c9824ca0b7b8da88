"""What a browser shows: HTML reports and explanations, and the artifacts of Prefect runs."""
