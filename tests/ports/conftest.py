"""Files around a pickle, in both of PyTorch's formats, and what refusing them may cost."""

import time
import tracemalloc

import pytest

from pretrained_ports.checkpoints import CheckpointError, read
from tests.ports.torch_bytes import SIX, WRITERS


@pytest.fixture(params=WRITERS)
def around(request, tmp_path):
    """Writes a file around a pickle; its storage "0" holds 0 to 5."""
    write = WRITERS[request.param]
    return lambda code, storages=(("0", SIX),): write(tmp_path / "a.pth", code, storages)


@pytest.fixture
def refused(unchecked):
    """Reads a file, which must fail in one short line, soon and without memory."""

    def refused(file, match, megabytes=16, seconds=20):
        tracemalloc.start()
        start = time.perf_counter()
        try:
            with pytest.raises(CheckpointError, match=match) as caught:
                read(file)
            peak = tracemalloc.get_traced_memory()[1]
        finally:
            tracemalloc.stop()
        assert time.perf_counter() - start < seconds
        assert peak < megabytes * 2**20
        message = str(caught.value)
        assert str(file) in message
        assert message.isprintable()
        assert len(message) < len(str(file)) + 300

    return refused
