// What every transport can do, one scenario each.
import { Code, ConnectError, decodeBinaryHeader, encodeBinaryHeader } from "@connectrpc/connect";

const PATIENCE_MS = 30_000;

const failure = async (promise) => {
  try {
    await promise;
  } catch (error) {
    const { code, rawMessage } = ConnectError.from(error);
    return { code: Code[code], message: rawMessage };
  }
  return { code: "OK" };
};

const collected = async (stream) => {
  const texts = [];
  for await (const { text } of stream) texts.push(text);
  return texts;
};

async function* requests(request, ...texts) {
  for (const text of texts) yield request({ text });
}

// Waits until the server says of a key that its call was cancelled.
async function cancelled({ client, request }, key) {
  const end = Date.now() + PATIENCE_MS;
  while (Date.now() < end) {
    if ((await client.look(request({ text: key }))).number > 0n) return true;
    await new Promise((resolve) => setTimeout(resolve, 20));
  }
  return false;
}

async function unary({ client, request }) {
  let header;
  let trailer;
  const headers = { "x-own": "mine", "own-bin": encodeBinaryHeader(new Uint8Array([255, 0])) };
  const onHeader = (fields) => (header = fields);
  const onTrailer = (fields) => (trailer = fields);
  const answer = await client.echo(request({ text: "hällo", number: 9007199254740993n }), { headers, onHeader, onTrailer });
  return {
    text: answer.text,
    number: answer.number.toString(),
    request_id: header.has("x-request-id") || trailer.has("x-request-id"),
    first: header.get("x-first"),
    told: trailer.get("x-told"),
    told_bin: [...decodeBinaryHeader(trailer.get("told-bin"))],
    empty: (await client.echo(request({}))).text,
    large: (await client.echo(request({ text: "x".repeat(300_000) }))).text.length,
    looked: (await client.look(request({ text: "nobody" }))).number.toString(),
  };
}

async function errors({ client, request, detail }) {
  let details;
  try {
    await client.echo(request({ text: "missing" }));
  } catch (error) {
    details = ConnectError.from(error).findDetails(detail).map(({ why }) => why);
  }
  return {
    missing: await failure(client.echo(request({ text: "missing" }))),
    details,
    crash: await failure(client.echo(request({ text: "crash" }))),
    stream: await failure(collected(client.count(request({ text: "missing", number: 0n })))),
  };
}

// Sees the header of a stream before there is any message: the method waits until this client, who has seen it, says so.
async function head({ client, request, key }) {
  let saw;
  const seen = new Promise((resolve) => (saw = resolve));
  const options = { onHeader: saw, timeoutMs: PATIENCE_MS };
  const texts = collected(client.count(request({ text: `hold ${key}`, number: 1n }), options));
  const header = await Promise.race([seen, texts.catch(() => new Headers())]);
  await client.echo(request({ text: `release ${key}` }));
  const first = header.get("x-first") === `hold ${key}`;
  return { first, bin: [...decodeBinaryHeader(header.get("first-bin") ?? "")], texts: (await texts).length };
}

async function headOfAnError({ client, request }) {
  let first;
  const onHeader = (header) => (first = header.get("x-first"));
  return { ...(await failure(collected(client.count(request({ text: "missing" }), { onHeader })))), first };
}

async function serverStream({ client, request }) {
  const before = [];
  const failing = (async () => {
    for await (const { text } of client.count(request({ text: "fail", number: 2n }))) before.push(text);
  })();
  const failed = await failure(failing);
  return { texts: await collected(client.count(request({ text: "n", number: 3n }))), before, failed };
}

async function clientStream({ client, request }) {
  return (await client.join(requests(request, "a", "", "b"))).text;
}

async function bidi({ client, request }) {
  return collected(client.chat(requests(request, "a", "b", "c")));
}

async function deadline({ client, request, key }) {
  const text = `sleep ${key}-deadline`;
  const { code } = await failure(client.echo(request({ text }), { timeoutMs: 300 }));
  return { code, noticed: await cancelled({ client, request }, `${key}-deadline`) };
}

async function cancel({ client, request, key }) {
  const controller = new AbortController();
  const seen = [];
  const stream = (async () => {
    for await (const { text } of client.count(request({ text: `tick ${key}-cancel`, number: -1n }), { signal: controller.signal })) {
      seen.push(text);
      if (seen.length === 2) controller.abort();
    }
  })();
  const { code } = await failure(stream);
  return { code, seen: seen.length, noticed: await cancelled({ client, request }, `${key}-cancel`) };
}

export const scenarios = { unary, errors, head, headOfAnError, serverStream, clientStream, bidi, deadline, cancel };
