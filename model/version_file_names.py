"""Names of the files of a registered version, a stored format.

They stand here because `tasks/registry/pyfunc_model.py`, which is stored with each version, imports `model/` alone.
"""

KERAS = "network.keras"
ONNX = "network.onnx"
RECIPE = "recipe.json"
RECORD = "record.parquet"
CALIBRATOR = "calibrator.json"  # only if the recipe calibrates
