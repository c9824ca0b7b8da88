"""The flows, one module each, and the command line.

Garbage is collected less often than Python does by default, and not at the end of a process: a collection visits every
object of the libraries. The interpreter's last ones took 2 s of CPU time per run, those in a `predict` a tenth of it.
"""

import atexit
import gc

gc.set_threshold(50_000, 20, 20)  # Python 3.11: 700, 10, 10
atexit.register(gc.freeze)
