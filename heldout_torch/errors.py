"""The errors that a user can cause or meet, each carrying one clear line."""


class HeldoutError(Exception):
    """Base of every error that this package raises on purpose.

    The message is one line: what is wrong, in which file or run, what was expected, what to do.
    The command line prints it without a traceback.
    """


class CheckpointError(HeldoutError):
    """A TensorFlow checkpoint is damaged, incomplete, or not of the expected network."""


class ZooError(HeldoutError):
    """A run, an experiment or a zoo folder is missing or not as it must be."""


class DataError(HeldoutError):
    """A data set, or an array over its examples, is missing or not as it must be."""
