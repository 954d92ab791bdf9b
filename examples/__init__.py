"""Programs that show Fairlead at work."""
