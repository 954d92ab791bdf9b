// Calls Fairlead through one of Connect's transports, with nothing but descriptors. It plays all scenarios and prints
// what it observed as one JSON object; tests/e2e/test_web_clients.py says what that must be.
//
//     node client.js TRANSPORT URL DESCRIPTORS
//
// TRANSPORT is connect, connect-json, connect-get, grpc-web, grpc-web-json or grpc; DESCRIPTORS a file with a
// FileDescriptorSet.
import { readFileSync } from "node:fs";

import { create, createFileRegistry, fromBinary } from "@bufbuild/protobuf";
import { FileDescriptorSetSchema } from "@bufbuild/protobuf/wkt";
import { createClient } from "@connectrpc/connect";
import { createConnectTransport, createGrpcTransport, createGrpcWebTransport } from "@connectrpc/connect-node";

import { scenarios } from "./scenarios.js";

const [name, baseUrl, descriptors] = process.argv.slice(2);
const http1 = { baseUrl, httpVersion: "1.1" };
const transports = {
  connect: () => createConnectTransport({ ...http1, useBinaryFormat: true }),
  "connect-json": () => createConnectTransport({ ...http1, useBinaryFormat: false }),
  "connect-get": () => createConnectTransport({ ...http1, useBinaryFormat: true, useHttpGet: true }),
  "grpc-web": () => createGrpcWebTransport({ ...http1, useBinaryFormat: true }),
  "grpc-web-json": () => createGrpcWebTransport({ ...http1, useBinaryFormat: false }),
  grpc: () => createGrpcTransport({ baseUrl }),
};
if (descriptors === undefined || !(name in transports)) {
  console.error("usage: node client.js TRANSPORT URL DESCRIPTORS");
  process.exit(2);
}
const registry = createFileRegistry(fromBinary(FileDescriptorSetSchema, readFileSync(descriptors)));
const service = registry.getService("web.v1.EchoService");
const detail = registry.getMessage("web.v1.Reason");
const client = createClient(service, transports[name]());
const request = (fields) => create(registry.getMessage("web.v1.EchoRequest"), fields);

const observed = {};
for (const [scenario, play] of Object.entries(scenarios)) {
  observed[scenario] = await play({ client, request, detail, key: `${name}-${process.pid}` });
}
console.log(JSON.stringify(observed));
process.exit(0); // a connection of HTTP/2 would keep it running
