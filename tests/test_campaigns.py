"""Kills, races, full disks and damaged files, many of each: see campaigns.py."""

import os
import subprocess
import sys
from pathlib import Path

import pytest
from campaigns import CAMPAIGNS

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(not hasattr(os, "fork"), reason="this system has no fork"),
]


@pytest.mark.parametrize("name", CAMPAIGNS)
def test_all_hold(name):
    """In a process of its own: a process with threads should not be forked."""
    command = [sys.executable, Path(__file__).with_name("campaigns.py"), name]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
