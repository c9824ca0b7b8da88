"""The flows, one module each, and the command line.

Garbage is collected less often than Python does by default, and not at the end of a process: a collection visits every
object of the libraries. The interpreter's last ones took 2 s of CPU time per run, those in a `predict` a tenth of it.

NumPy computes on one thread, unless the environment says otherwise: a second one spins while it waits for the next
small product, which cost a retrain 0.9 s of CPU time and saved no time. Pydantic does not search every installed
package for plugins, which takes a thirtieth of a `predict`.
"""

import atexit
import gc
import os

for name, value in {"OPENBLAS_NUM_THREADS": "1", "PYDANTIC_DISABLE_PLUGINS": "true"}.items():
    os.environ.setdefault(name, value)  # noqa: TID251 - before any library is imported, `tasks.settings` needs some
gc.set_threshold(50_000, 20, 20)  # Python 3.11: 700, 10, 10
atexit.register(gc.freeze)
