"""What commands raise for what a user can mend."""

from __future__ import annotations


class ConfigFileError(Exception):
    """A configuration file is wrong. One line: file, line, where in the document, what, what may have been meant."""


class ImportPathError(Exception):
    """An import path leads to no application. The message says where it ended, and what is there."""
