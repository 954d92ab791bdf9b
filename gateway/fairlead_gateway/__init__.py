"""The gateway: a worker that carries calls, and the controller that says what runs."""
