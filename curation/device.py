"""The device that a setting means."""

import torch

from strata.curation.errors import ConfigError


def resolve_device(device: str, field: str = "device") -> torch.device:
    """ "auto" is the GPU if there is one; else what torch understands by the name.

    Raises:
        ConfigError: of ``field``: unknown, or not on this machine.
    """
    if device == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    try:
        found = torch.device(device)
    except (RuntimeError, TypeError) as error:
        raise ConfigError(field, f"{device!r} is not a device", "use auto, cpu or cuda") from error
    if found.type == "cuda" and not torch.cuda.is_available():
        raise ConfigError(field, f"{device!r}, but this machine has no usable GPU", "use auto or cpu")
    return found
