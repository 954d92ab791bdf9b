// Calls and payloads, for the scenarios.
import grpc from "@grpc/grpc-js";
import { loadSync } from "@grpc/proto-loader";

const PATIENCE_MS = 30_000;
const FILES = ["fairlead/v1/serving.proto", "google/rpc/error_details.proto"];

// A payload of positional and keyword arguments.
export const args = (positional = [], keywords = {}) => item([positional, keywords]);

// A payload of one value.
export const item = (value) => ({ content_type: "application/json", data: Buffer.from(JSON.stringify(value)) });

export const valueOf = (bytes) => JSON.parse(bytes.toString());

export const method = (name, options = {}) => ({
  application: "polyglot",
  deployment: "Polyglot",
  method: name,
  ...options,
});

export const codeName = (code) => (code === 0 ? "OK" : grpc.status[code]);

export class Calls {
  #types;

  constructor(includeDirs, target) {
    this.#types = loadSync(FILES, { keepCase: true, longs: Number, enums: String, defaults: true, oneofs: true, includeDirs });
    const { fairlead } = grpc.loadPackageDefinition(this.#types);
    this.stub = new fairlead.v1.ServingService(target, grpc.credentials.createInsecure());
  }

  close() {
    this.stub.close();
  }

  deadline(milliseconds = PATIENCE_MS) {
    return { deadline: Date.now() + milliseconds };
  }

  // Starts a unary call: `call` to cancel it; `answer`, a promise of the response and the trailing metadata.
  start(request, { metadata = new grpc.Metadata(), ...options } = this.deadline()) {
    let call;
    const answer = new Promise((resolve, reject) => {
      let response;
      call = this.stub.Call(request, metadata, options, (error, received) => {
        if (error) reject(error);
        response = received;
      });
      // Comes after the callback.
      call.on("status", (status) => resolve({ response, trailer: status.metadata }));
    });
    return { call, answer };
  }

  // Calls a method once and decodes its result.
  async value(target, payload) {
    const { response } = await this.start({ target, payload }).answer;
    return valueOf(response.payload.data);
  }

  // The error of a call that must fail, described.
  async failure(promise) {
    try {
      await promise;
    } catch (error) {
      return this.describeError(error);
    }
    return { code: "OK" };
  }

  // Broadcasts; the ids that were announced and the results by id.
  async onEveryReplica(name, payload) {
    const stream = this.stub.Broadcast({ target: method(name), payload }, this.deadline());
    let ids;
    const results = {};
    for await (const { answer, replicas, result } of stream) {
      if (ids === undefined) {
        if (answer !== "replicas") throw new Error(`the first answer is ${answer}`);
        ids = [...replicas.replica_ids].sort();
      } else {
        if (answer !== "result" || result.replica_id in results) throw new Error(`unexpected answer: ${answer}`);
        results[result.replica_id] = result;
      }
    }
    return { ids, results };
  }

  // Waits until a replica says of a key that it has "started" or "cancelled".
  async noticed(what, key) {
    const end = Date.now() + PATIENCE_MS;
    while (Date.now() < end) {
      const { results } = await this.onEveryReplica("observations", args());
      if (Object.values(results).some(({ payload }) => valueOf(payload.data)[what].includes(key))) return true;
      await new Promise((resolve) => setTimeout(resolve, 10));
    }
    return false;
  }

  // What a google.rpc.Status says: code and message, and the ErrorInfo among its details.
  describe(status) {
    const described = { code: codeName(status?.code ?? 0), message: status?.message ?? "" };
    for (const { type_url: type, value } of status?.details ?? []) {
      if (type.endsWith("/google.rpc.ErrorInfo")) {
        const { domain, reason, metadata } = this.#types["google.rpc.ErrorInfo"].deserialize(value);
        Object.assign(described, { domain, reason, metadata });
      }
    }
    return described;
  }

  describeError(error) {
    const [details] = error.metadata?.get("grpc-status-details-bin") ?? [];
    if (details === undefined) return { code: codeName(error.code), message: error.details };
    return this.describe(this.#types["google.rpc.Status"].deserialize(details));
  }
}

// Decodes what is left of a stream. `failure` is the error it ended with, if it did.
export async function items(stream) {
  const values = [];
  try {
    for await (const { payload } of stream) values.push(valueOf(payload.data));
  } catch (failure) {
    return { values, failure };
  }
  return { values };
}
