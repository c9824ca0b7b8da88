"""Choose the device that TensorFlow trains on: the CPU, or the first GPU."""

import logging

from model.errors import DeviceUnavailable

log = logging.getLogger(__name__)


def choose_device(*, require_gpu: bool = False) -> str:
    """Return the device that TensorFlow will use: `CPU`, or the name of its first GPU, with memory growth enabled.

    Raises:
        DeviceUnavailable: a GPU is required and TensorFlow finds none.
    """
    import tensorflow as tf  # imported here: takes ten seconds to load

    gpus = tf.config.list_physical_devices("GPU")
    if not gpus:
        if require_gpu:
            raise DeviceUnavailable(
                "training: expected a GPU, TensorFlow found none. Install riseorfall[gpu] and the NVIDIA "
                "driver, or train without --training.require-gpu."
            )
        return "CPU"
    for gpu in gpus:
        try:
            tf.config.experimental.set_memory_growth(gpu, True)
        except RuntimeError as error:  # TensorFlow was initialised before: its setting stays
            log.warning("GPU memory growth could not be set: %s", error)
    return str(tf.config.experimental.get_device_details(gpus[0]).get("device_name", "GPU"))
