"""MLflow: runs, model versions and aliases, run artifacts, the pyfunc model."""
