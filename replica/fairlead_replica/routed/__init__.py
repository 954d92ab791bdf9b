"""Methods with ``@serve.route`` in a replica: requests to arguments, results and errors to responses."""
