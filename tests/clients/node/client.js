// A client that has nothing but Fairlead's .proto files. It plays one scenario against a gateway and prints what it
// observed as one JSON object; tests/e2e/test_polyglot.py says what that must be.
//
//     node client.js PROTOS GOOGLEAPIS TARGET SCENARIO CANARY
//
// PROTOS and GOOGLEAPIS are the folders of .proto files. CANARY is a path that a pickle asks to be touched, which must
// not happen.
import { Calls } from "./calls.js";
import { scenarios } from "./scenarios.js";
import { session } from "./session.js";

const [protos, googleapis, target, name, canary] = process.argv.slice(2);
const scenario = { ...scenarios, session }[name];
if (canary === undefined || scenario === undefined) {
  console.error("usage: node client.js PROTOS GOOGLEAPIS TARGET SCENARIO CANARY");
  process.exit(2);
}
const calls = new Calls([protos, googleapis], target);
try {
  console.log(JSON.stringify(await scenario(calls, canary)));
} catch (error) {
  console.error(error);
  process.exitCode = 1;
} finally {
  calls.close();
}
