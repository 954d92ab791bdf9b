// Many calls as frames on one stream: see session.proto.
import { args, item, method, valueOf } from "./calls.js";

// What a frame costs beyond its payload.
const OVERHEAD = 256;

const open = (callId, name, payload, header = {}) => {
  const { application, deployment } = method(name);
  const serialization = "SERIALIZATION_JSON";
  return {
    kind: "FRAME_KIND_OPEN",
    call_id: callId,
    payload: payload.data,
    last: true,
    header: {
      application,
      deployment,
      method: name,
      request_serialization: serialization,
      response_serialization: serialization,
      ...header,
    },
  };
};

// Reads the frames of many calls and gives back the credit that their messages cost.
class FrameSession {
  items = {};
  ends = {};
  #stream;
  #packets;

  constructor(stream) {
    this.#stream = stream;
    this.#packets = stream[Symbol.asyncIterator]();
  }

  send(...frames) {
    this.#stream.write({ frames });
  }

  // Takes one packet; false at the end of the stream.
  async receive() {
    const { value: packet, done } = await this.#packets.next();
    if (done) return false;
    const credits = [];
    for (const { kind, call_id: callId, payload, ...frame } of packet.frames) {
      if (kind === "FRAME_KIND_DATA") {
        (this.items[callId] ??= []).push(valueOf(payload));
        credits.push({ kind: "FRAME_KIND_CREDIT", call_id: callId, credit: payload.length + OVERHEAD });
      } else if (kind === "FRAME_KIND_END") {
        this.ends[callId] = { payload, ...frame };
      } else if (kind !== "FRAME_KIND_CREDIT") {
        throw new Error(`unexpected frame: ${kind}`);
      }
    }
    if (credits.length > 0) this.send(...credits);
    return true;
  }

  // Takes packets until a condition holds.
  async until(holds) {
    while (!holds()) {
      if (!(await this.receive())) throw new Error("the session ended");
    }
  }

  async close() {
    this.#stream.end();
    while (await this.receive());
  }
}

export async function session(calls) {
  const frames = new FrameSession(calls.stub.Session(calls.deadline()));
  // Seven calls in one packet.
  frames.send(
    open(1, "echo", args(["one"])),
    open(2, "echo", args(["two"])),
    open(3, "count", args([3000]), { stream: true }),
    { ...open(4, "chat", args([], { prefix: ">" }), { stream: true }), last: false },
    open(5, "fail", args(["boom"])),
    open(6, "sleep", args([60, "node-session-deadline"]), { timeout_us: 500_000 }),
    open(7, "sleep", args([60, "node-session-cancel"])),
  );
  for (const [number, message] of ["a", "b"].entries()) {
    frames.send({ kind: "FRAME_KIND_DATA", call_id: 4, payload: item(message).data, last: message === "b" });
    await frames.until(() => (frames.items[4]?.length ?? 0) > number);
  }
  if (!(await calls.noticed("started", "node-session-cancel"))) throw new Error("the call did not start");
  frames.send({ kind: "FRAME_KIND_CANCEL", call_id: 7 });
  await frames.until(() => Object.keys(frames.ends).length === 7);
  await frames.close();

  const observed = {};
  for (const [callId, { payload, has_payload: hasPayload, outcome }] of Object.entries(frames.ends)) {
    const values = frames.items[callId] ?? [];
    observed[callId] = {
      ...(values.length <= 10
        ? { items: values }
        : { count: values.length, in_order: values.every((value, position) => value === position) }),
      ...(outcome ? { failure: calls.describe(outcome.status) } : {}),
      ...(hasPayload ? { value: valueOf(payload) } : {}),
    };
  }
  return { calls: observed };
}
