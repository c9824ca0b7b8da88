"""The flows, one module each, and the command line.

At the end of a process its objects are exempted from garbage collection: the interpreter's last collections would visit
every object of TensorFlow and MLflow, which takes 2 s of CPU time per run.
"""

import atexit
import gc

atexit.register(gc.freeze)
