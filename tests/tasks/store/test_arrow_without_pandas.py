"""pyarrow without pandas: equal tables, and pandas itself can still be imported."""

import subprocess
import sys

PROGRAM = """
import sys
from datetime import UTC, datetime
import numpy as np
import pyarrow as pa
from tasks.store.arrow_without_pandas import use_arrow_without_pandas
use_arrow_without_pandas()
kinds = {"name": pa.string(), "at": pa.timestamp("us", "UTC"), "value": pa.float64(), "by": pa.list_(pa.int64())}
schema = pa.schema(kinds)
rows = [
    {"name": "a", "at": datetime(2026, 1, 2, 3, tzinfo=UTC), "value": float("nan"), "by": [1, None]},
    {"name": None, "at": None, "value": None, "by": None},
]
table = pa.Table.from_pylist(rows, schema=schema)
assert table["value"].null_count == 1 and np.isnan(table["value"][0].as_py())
assert table["at"].to_pylist() == [each["at"] for each in rows]
assert table["by"].to_pylist() == [[1, None], None]
np.testing.assert_array_equal(pa.array(np.array([1.5, 2.5])).to_numpy(), [1.5, 2.5])
assert "pandas" not in sys.modules
import pandas
assert pandas.DataFrame({"a": [1]})["a"].sum() == 1
"""


def test_values_are_converted_without_pandas() -> None:
    done = subprocess.run([sys.executable, "-c", PROGRAM], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
