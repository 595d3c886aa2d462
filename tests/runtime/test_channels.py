"""What a channel does when it cannot tell: nobody's order is to blame for it."""

import os
from pathlib import Path

import pytest

from orderstream.contract.errors import Unavailable
from orderstream.notification.channels import LogChannel
from orderstream.notification.rules import Notice
from tests.builders import NOON

NOTICE = Notice("1:inventory.reserved", "1", 42, "Order 1 is confirmed.")


class TestTheLog:
    @pytest.mark.skipif(not Path("/dev/full").exists(), reason="no /dev/full here")
    def test_on_a_full_disk_is_unavailable(self) -> None:
        with open("/dev/full", "w") as full:
            channel = LogChannel(full)
            with pytest.raises(Unavailable, match="No space left"):
                channel.tell([NOTICE], NOON)
            with pytest.raises(Unavailable, match="No space left"):
                channel.tell([NOTICE] * 1000, NOON)
            os.dup2(os.open(os.devnull, os.O_WRONLY), full.fileno())  # There is room again.
            channel.tell([NOTICE], NOON)

    def test_that_nobody_reads_any_more_is_unavailable(self) -> None:
        reading, writing = os.pipe()
        os.close(reading)
        with os.fdopen(writing, "w") as closed:
            with pytest.raises(Unavailable, match="Broken pipe"):
                LogChannel(closed).tell([NOTICE], NOON)
            os.dup2(os.open(os.devnull, os.O_WRONLY), closed.fileno())
