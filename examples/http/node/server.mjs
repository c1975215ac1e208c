// A bot over HTTP, with nothing but Node. It does what examples/tally does in Go:
//
//   PARLEY_BOT_SECRET=… PORT=8070 node server.mjs
import { createHmac, timingSafeEqual } from "node:crypto";
import { createServer } from "node:http";

const secret = process.env.PARLEY_BOT_SECRET;
if (!secret) throw new Error("PARLEY_BOT_SECRET is not set");
const maxBody = 64 * 1024; // what Parley posts at most
const maxAge = 300; // seconds; an older request may be a recorded one

// signed tells whether a request is Parley's, and of now.
function signed(headers, body) {
  const stamp = headers["x-parley-timestamp"] ?? "";
  if (!/^\d+$/.test(stamp) || Math.abs(Date.now() / 1000 - Number(stamp)) > maxAge) return false;
  const want = "sha256=" + createHmac("sha256", secret).update(stamp + ".").update(body).digest("hex");
  const got = String(headers["x-parley-signature"] ?? "");
  return got.length === want.length && timingSafeEqual(Buffer.from(got), Buffer.from(want));
}

const say = (text) => ({ effect: "send", value: { text } });

// turn decides about one event: from the state and what has happened to the next state
// and the effects. It keeps nothing itself, so it may be asked twice about the same event.
function turn({ state, input: { kind, input } }) {
  if (kind === "timer_fired") return { effects: [say("ring " + input.name.replace(/^t/, ""))] };
  const command = input.payload || (kind === "message" && input.text) || "";
  const [word, k, n] = command.trim().split(/\s+/);
  const number = (s) => /^\d+$/.test(s ?? "");
  const effects = [];
  if (word === "remind" && number(k) && number(n)) {
    effects.push({ effect: "set_timer", value: { name: "t" + k, in: Number(n) * 1e6 } }); // nanoseconds
  } else if (word === "forget" && number(k) && number(n)) {
    effects.push({ effect: "cancel_timer", value: { name: "t" + n } });
  } else if (word !== "say" || !number(k)) {
    return { effects };
  }
  const commands = (state?.commands ?? 0) + 1;
  effects.push(say(`said ${k} #${commands}`));
  return { state: { commands }, effects };
}

const server = createServer(async (request, response) => {
  const chunks = [];
  let size = 0;
  for await (const chunk of request) {
    size += chunk.length;
    if (size > maxBody) return response.writeHead(413).end();
    chunks.push(chunk);
  }
  const body = Buffer.concat(chunks);
  if (!signed(request.headers, body)) return response.writeHead(401).end();
  response.writeHead(200, { "Content-Type": "application/json" }).end(JSON.stringify(turn(JSON.parse(body))));
});
server.listen(Number(process.env.PORT ?? 8070), "127.0.0.1", () => {
  console.log("listening on http://127.0.0.1:" + server.address().port);
});
