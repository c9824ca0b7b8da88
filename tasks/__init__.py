"""The world: sources, stores, MLflow as plain adapters, and thin Prefect tasks over each step."""
