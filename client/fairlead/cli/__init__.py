"""The ``fairlead`` command."""
