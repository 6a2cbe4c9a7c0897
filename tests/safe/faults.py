"""What every test of a refusal asserts."""

import pytest

from mmfuse.data.safe import DataError


def fault(read, *args, **kwargs) -> str:
    """The one line by which ``read`` refuses its arguments."""
    with pytest.raises(DataError) as caught:
        read(*args, **kwargs)
    message = str(caught.value)
    assert message.isprintable(), message
    return message
