"""The replica: the process that hosts one instance of the user's class. Run it with ``python -m fairlead_replica``."""
