// A client in JavaScript (kafkajs) against a running broker: node client.js ADDRESS TOPIC GROUP. Prints "ok", or what went wrong.
//
// kafkajs is no longer developed and speaks the versions of its day: the old ends of the ranges that a broker advertises.

const { Kafka, CompressionTypes, logLevel } = require("kafkajs");

const [address, topic, groupId] = process.argv.slice(2);
const kafka = new Kafka({ brokers: [address], clientId: "kafkajs", logLevel: logLevel.ERROR, retry: { initialRetryTime: 50, retries: 20 } });
const expect = (what, got, want) => {
  const [a, b] = [JSON.stringify(got), JSON.stringify(want)];
  if (a !== b) throw new Error(`${what}: expected ${b}, got ${a}`);
};

async function read(count, seen) {
  const consumer = kafka.consumer({ groupId, sessionTimeout: 10_000, heartbeatInterval: 500, maxWaitTimeInMs: 200 });
  await consumer.connect();
  await consumer.subscribe({ topics: [topic], fromBeginning: true });
  let done;
  const all = new Promise((resolve) => (done = resolve));
  await consumer.run({
    eachMessage: async ({ message }) => {
      seen.push(message.value.toString());
      expect("header", message.headers.from.toString(), "node");
      if (--count === 0) done();
    },
  });
  await all;
  await consumer.disconnect();
}

async function main() {
  const admin = kafka.admin();
  await admin.connect();
  expect("created", await admin.createTopics({ topics: [{ topic, numPartitions: 3 }] }), true);
  const producer = kafka.producer({ idempotent: true, maxInFlightRequests: 1 });
  await producer.connect();
  const messages = (start, count) =>
    Array.from({ length: count }, (_, n) => ({ key: `${start + n}`, value: `value ${start + n}`, headers: { from: "node" } }));
  await producer.send({ topic, messages: messages(0, 300) });
  await producer.send({ topic, messages: messages(300, 300), compression: CompressionTypes.GZIP });
  const ends = await admin.fetchTopicOffsets(topic);
  expect("end offsets", ends.reduce((sum, p) => sum + Number(p.high), 0), 600);

  const seen = [];
  await read(600, seen);
  await producer.send({ topic, messages: messages(600, 50) });
  await read(50, seen);
  const numbers = seen.map((value) => Number(value.split(" ")[1])).sort((a, b) => a - b);
  expect("records seen", numbers, Array.from({ length: 650 }, (_, n) => n));

  const { groups } = await admin.describeGroups([groupId]);
  expect("state of the group", groups[0].state, "Empty");
  await admin.deleteGroups([groupId]);
  await admin.deleteTopics({ topics: [topic] });
  await producer.disconnect();
  await admin.disconnect();
  console.log("ok");
}

const late = setTimeout(() => fail(new Error("not done within 50 s")), 50_000);
function fail(error) {
  console.log(error.stack || String(error));
  process.exit(1);
}
main().then(() => clearTimeout(late), fail);
