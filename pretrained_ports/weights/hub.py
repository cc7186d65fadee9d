"""Files of the Hugging Face hub."""

import logging
from pathlib import Path

from pretrained_ports.catalog.entry import Hub
from pretrained_ports.checkpoints.readers import CheckpointError


def fetch(hub: Hub, what: str, option: str) -> Path:
    """A file of the hub, from the cache if it is there.

    Raises:
        CheckpointError: It cannot be had; says which file to give with which option.
    """
    import huggingface_hub

    repository, file = hub
    if there := cached(hub):  # without asking the hub, which takes long where there is none
        return there
    download = huggingface_hub.hf_hub_download  # imports what sets the level of its logger
    # Its warnings about every retry would bury the one line below.
    logger = logging.getLogger("huggingface_hub")
    level = logger.level
    logger.setLevel(logging.ERROR)
    try:
        return Path(download(repository, file))
    except (OSError, ValueError, RuntimeError) as error:
        raise CheckpointError(
            f"cannot fetch {what} ({type(error).__name__}): download {file} of the Hugging Face "
            f"repository {repository} elsewhere and pass {option}"
        ) from error
    finally:
        logger.setLevel(level)


def cached(hub: Hub) -> Path | None:
    """A file of the hub that was fetched before; None if it was not."""
    import huggingface_hub

    found = huggingface_hub.try_to_load_from_cache(*hub)
    return Path(found) if isinstance(found, str) else None
