// What a client can do, one scenario each; the Go client plays the same ones.
import grpc from "@grpc/grpc-js";

import { args, codeName, item, items, method, valueOf } from "./calls.js";

async function unary(calls) {
  const payload = args(["hello"], { punctuation: "!" });
  const { response } = await calls.start({ target: method("echo"), payload }).answer;
  return {
    value: valueOf(response.payload.data),
    content_type: response.payload.content_type,
    // No name at all: the only application, its ingress deployment, __call__ without arguments.
    by_default: await calls.value(undefined, undefined),
  };
}

async function options(calls) {
  const requestId = (trailer) => trailer.get("x-request-id").join(",");
  const names = { request_id: "from-the-field", multiplexed_model_id: "model-1", idempotent: true };
  const named = await calls.start({ target: method("describe", names) }).answer;

  const metadata = new grpc.Metadata();
  metadata.set("x-request-id", "from-metadata");
  const tagged = await calls.start({ target: method("describe") }, { metadata, ...calls.deadline() }).answer;

  const generated = requestId((await calls.start({ target: method("describe") }).answer).trailer);

  const accepting = method("echo", { accept: "application/msgpack" });
  const accepted = (await calls.start({ target: accepting, payload: args(["x"]) }).answer).response.payload;

  const replicas = new Set();
  for (let call = 0; call < 12; call++) {
    replicas.add(await calls.value(method("whoami", { session_id: "session-1" })));
  }
  return {
    described: valueOf(named.response.payload.data),
    echoed: requestId(named.trailer),
    described_by_metadata: valueOf(tagged.response.payload.data),
    echoed_from_metadata: requestId(tagged.trailer),
    generated: generated !== "" && generated !== "from-metadata",
    accepted: { content_type: accepted.content_type, data: accepted.data.toString("base64") },
    session_replicas: replicas.size,
  };
}

async function stream(calls) {
  const stream = (name, count) =>
    items(calls.stub.CallStream({ target: method(name), payload: args([count]) }, calls.deadline()));
  const { values, failure } = await stream("count", 5);
  if (failure) throw failure;
  // One that fails after its first items: those arrive, then the error.
  const failing = await stream("count_then_fail", 2);
  return { values, before_failure: failing.values, failure: calls.describeError(failing.failure) };
}

async function bidi(calls) {
  const stream = calls.stub.CallBidi(calls.deadline());
  const responses = stream[Symbol.asyncIterator]();
  stream.write({ target: method("chat"), payload: args([], { prefix: ">" }) });
  const replies = [];
  for (const message of ["a", "b", "c"]) {
    stream.write({ payload: item(message) });
    // Answered before the next one is sent: both directions are open at once.
    replies.push(valueOf((await responses.next()).value.payload.data));
  }
  stream.end();
  const rest = await items({ [Symbol.asyncIterator]: () => responses });
  if (rest.failure) throw rest.failure;
  return { replies, rest: rest.values, total: await total(calls) };
}

// Streams to a method that answers once.
async function total(calls) {
  const stream = calls.stub.CallBidi(calls.deadline());
  stream.write({ target: method("total"), payload: args() });
  for (let number = 0; number < 4; number++) stream.write({ payload: item(number) });
  stream.end();
  const { values, failure } = await items(stream);
  if (failure) throw failure;
  return values;
}

async function broadcast(calls) {
  const { ids, results } = await calls.onEveryReplica("whoami", args());
  const values = Object.fromEntries(Object.entries(results).map(([id, { payload }]) => [id, valueOf(payload.data)]));
  const partial = await calls.onEveryReplica("fail_on", args([ids[0]]));
  const codes = Object.fromEntries(partial.ids.map((id) => [id, calls.describe(partial.results[id]?.status).code]));
  return { replica_ids: ids, values, codes, failure: calls.describe(partial.results[ids[0]].status) };
}

async function cancel(calls) {
  const { call, answer } = calls.start({ target: method("sleep"), payload: args([60, "node-unary"]) });
  const failed = calls.failure(answer);
  if (!(await calls.noticed("started", "node-unary"))) throw new Error("the call did not start");
  call.cancel();
  const unary = { code: (await failed).code, noticed: await calls.noticed("cancelled", "node-unary") };

  const stream = calls.stub.CallStream({ target: method("tick"), payload: args(["node-stream"]) }, calls.deadline());
  const { promise: ended, resolve } = deferred();
  let taken = 0;
  stream.on("data", () => {
    if (++taken === 3) stream.cancel();
  });
  stream.on("error", (error) => resolve(codeName(error.code)));
  stream.on("end", () => resolve("OK"));
  return { unary, stream: { code: await ended, noticed: await calls.noticed("cancelled", "node-stream") } };
}

function deferred() {
  let resolve;
  const promise = new Promise((fulfil) => {
    resolve = fulfil;
  });
  return { promise, resolve };
}

async function deadline(calls) {
  const request = { target: method("sleep"), payload: args([60, "node-deadline"]) };
  const { code } = await calls.failure(calls.start(request, calls.deadline(500)).answer);
  return { code, noticed: await calls.noticed("cancelled", "node-deadline") };
}

async function errors(calls, canary) {
  const pickle = (type) => ({ content_type: type, data: Buffer.from(`cos\nsystem\n(S'touch ${canary}'\ntR.`) });
  const echo = method("echo");
  const requests = {
    user_exception: { target: method("fail"), payload: args(["boom"]) },
    unknown_application: { target: { application: "nowhere" } },
    unknown_deployment: { target: { application: "polyglot", deployment: "Nobody" } },
    unknown_method: { target: method("nothing") },
    cloudpickle: { target: echo, payload: pickle("application/vnd.fairlead.cloudpickle") },
    pickle: { target: echo, payload: pickle("application/vnd.fairlead.pickle") },
    accept_pickle: { target: method("echo", { accept: "application/vnd.fairlead.pickle" }), payload: args(["x"]) },
    unknown_media_type: { target: echo, payload: { content_type: "text/plain" } },
    undecodable: { target: echo, payload: { data: Buffer.from("{") } },
    wrong_arity: { target: echo, payload: args([1, 2, 3, 4]) },
    unserializable: { target: method("unserializable") },
    streaming_method: { target: method("count"), payload: args([3]) },
  };
  const observed = {};
  for (const [name, request] of Object.entries(requests)) {
    observed[name] = await calls.failure(calls.start(request).answer);
  }
  const { failure } = await items(calls.stub.CallStream({ target: echo, payload: args(["x"]) }, calls.deadline()));
  observed.unary_method = failure ? calls.describeError(failure) : { code: "OK" };
  return observed;
}

export const scenarios = { unary, options, stream, bidi, broadcast, cancel, deadline, errors };
