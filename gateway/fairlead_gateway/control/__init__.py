"""The controller: desired state, launchers, rollout, supervision."""
