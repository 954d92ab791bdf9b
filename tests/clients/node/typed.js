// Calls a typed service with nothing but its .proto file, as @grpc/proto-loader reads it at run time, and prints what it
// observed as one JSON object; tests/e2e/test_typed.py says what that must be.
//
//     node typed.js FOLDER GOOGLEAPIS TARGET
//
// FOLDER has library.proto.
import grpc from "@grpc/grpc-js";
import { loadSync } from "@grpc/proto-loader";

const [folder, googleapis, target] = process.argv.slice(2);
const types = loadSync(["library.proto", "google/rpc/status.proto", "google/rpc/error_details.proto"], {
  keepCase: true,
  longs: Number,
  enums: String,
  defaults: true,
  includeDirs: [folder, googleapis],
});
const { library } = grpc.loadPackageDefinition(types);
const stub = new library.v1.LibraryService(target, grpc.credentials.createInsecure());
const deadline = () => ({ deadline: Date.now() + 30_000 });

function unary(name, request, metadata = {}) {
  return new Promise((resolve) => {
    let response, failure;
    const sent = grpc.Metadata.fromHttp2Headers(metadata);
    const call = stub[name](request, sent, deadline(), (error, received) => {
      [failure, response] = [error, received];
    });
    call.on("status", (status) => resolve({ response, failure, trailer: status.metadata }));
  });
}

async function titles(stream) {
  const found = [];
  try {
    for await (const { title } of stream) found.push(title);
  } catch (error) {
    return { titles: found, code: grpc.status[error.code], message: error.details };
  }
  return { titles: found };
}

const book = await unary("GetBook", { name: "shelves/1/books/3" }, { "x-request-id": "mine" });
const missing = await unary("GetBook", { name: "nowhere" });
const [details] = missing.failure.metadata.get("grpc-status-details-bin");
const [detail] = types["google.rpc.Status"].deserialize(details).details;

const added = await new Promise((resolve, reject) => {
  const call = stub.AddBooks(new grpc.Metadata(), deadline(), (error, found) => (error ? reject(error) : resolve(found)));
  for (const title of ["a", ""]) call.write({ parent: "p", book: { title } });
  call.end();
});

const chat = stub.Chat(new grpc.Metadata(), deadline());
for (const title of ["x", "", "y"]) chat.write({ title });
chat.end();

console.log(
  JSON.stringify({
    book: [book.response.title, book.response.copies],
    request_id: book.trailer.get("request_id"),
    binary: book.trailer.get("echo-bin").map((value) => value.toString("hex")),
    missing: [grpc.status[missing.failure.code], missing.failure.details],
    resource: types["google.rpc.ResourceInfo"].deserialize(detail.value).resource_name,
    watched: await titles(stub.WatchBooks({ query: "b", count: 2, exact: true }, deadline())),
    added: added.titles,
    chat: await titles(chat),
  }),
);
stub.close();
