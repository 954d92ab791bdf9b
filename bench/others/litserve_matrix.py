"""The matrix model in LitServe: ``python -m bench.others.litserve_matrix PORT BATCH_SIZE WAIT_S``."""

from __future__ import annotations

import sys

import litserve

from bench.matrix_model import MatrixModel


class Classify(litserve.LitAPI):
    def setup(self, device):
        self.model = MatrixModel()

    def decode_request(self, request):
        return request["number"]

    def batch(self, inputs):
        return inputs

    def unbatch(self, output):
        return output

    def predict(self, x):
        return self.model.classify(x) if isinstance(x, list) else self.model.classify([x])[0]

    def encode_response(self, output):
        return {"class": output}


if __name__ == "__main__":
    port, size, wait_s = int(sys.argv[1]), int(sys.argv[2]), float(sys.argv[3])
    api = Classify(max_batch_size=size, batch_timeout=wait_s if size > 1 else 0.0)
    server = litserve.LitServer(api, accelerator="cpu", workers_per_device=1)
    server.run(host="127.0.0.1", port=port, num_api_servers=1, generate_client_file=False, log_level="error")
