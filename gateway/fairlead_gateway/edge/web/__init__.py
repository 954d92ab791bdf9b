"""gRPC-Web and Connect on the HTTP port: methods of typed services and of ServingService, for browsers and fetch.

The framing is pure (envelopes, base64_text, compression, trailers, connect_errors) and knows neither ASGI nor calls.
"""
