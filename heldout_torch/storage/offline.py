"""Whether the network may be used. `HELDOUT_TORCH_OFFLINE=1` forbids it to all of the package, servers of this machine
included; a Ray cluster's own connections are the exception, since they are asked for by name and fetch nothing.
"""

from heldout_torch.errors import ZooError
from heldout_torch.storage.paths import environment

OFFLINE_VARIABLE = "HELDOUT_TORCH_OFFLINE"


def is_offline() -> bool:
    """Return whether the environment variable `HELDOUT_TORCH_OFFLINE` forbids any use of the network.

    It does unless it is empty, or `0`, `false`, `no` or `off`.
    """
    return environment(OFFLINE_VARIABLE).lower() not in ("", "0", "false", "no", "off")


def why_offline(otherwise: str = "name a place on this machine") -> str:
    """Return what forbids the use of the network, and what to do, as the end of a message."""
    if is_offline():
        return f"{OFFLINE_VARIABLE} forbids the use of the network; unset it, or {otherwise}"
    return f"offline=True forbids the use of the network; leave it out, or {otherwise}"


def check_network(what: object, offline: bool = False, otherwise: str = "name a place on this machine") -> None:
    """Check that the network may be used; whatever is about to use it asks here first.

    Args:
        what: What is to be reached, as the message names it.
        offline: Whether the caller is not to use the network, whatever the environment says.
        otherwise: What to do instead, as the end of the message.

    Raises:
        ZooError: If it may not.
    """
    if offline or is_offline():
        raise ZooError(f"{what}: {why_offline(otherwise)}")
