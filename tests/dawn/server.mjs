// Runs Dawn at the other end of the pipe: carries out the requests of `link.rs` in order.
//
// A message is a JSON header and a payload: the length of each in 4 bytes (little endian), then
// both. Requests, `{ do, ...arguments }`, arrive on standard input; those with a `reply` are
// answered on descriptor 3 by `{ reply, ...results }`, because Dawn prints to standard output. With
// `--compile DIR` it compiles every shader of a directory instead; no shader may have warnings.

import { createWriteStream, readdirSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import { create, globals } from 'webgpu';

Object.assign(globalThis, globals);

// A global, so that it is never garbage collected: Dawn would go with it.
globalThis.dawn = create([]);
const { version } = JSON.parse(readFileSync(new URL('node_modules/webgpu/package.json', import.meta.url)));
const adapter = await globalThis.dawn.requestAdapter();
if (!adapter) {
  console.error('Dawn finds no adapter');
  process.exit(1);
}
const { info } = adapter;
const requiredLimits = {};
for (const name in adapter.limits) {
  if (typeof adapter.limits[name] === 'number') requiredLimits[name] = adapter.limits[name];
}
const requiredFeatures = ['subgroups'].filter((feature) => adapter.features.has(feature));
const device = await adapter.requestDevice({ requiredLimits, requiredFeatures });

// WGSL requires these lines for subgroup operations, and wgpu's parser accepts neither. The
// diagnostic is off because a tile's loop asks its subgroup whether to go on, from values that are
// equal in the whole subgroup; the compiler cannot tell from the text.
function header(code) {
  return /subgroup(Any|Shuffle|_)/.test(code) ? 'enable subgroups;\ndiagnostic(off, subgroup_uniformity);\n' : '';
}

function compiled(code) {
  return device.createShaderModule({ code: header(code) + code });
}

if (process.argv[2] === '--compile') {
  const files = readdirSync(process.argv[3]);
  let failed = 0;
  for (const file of files) {
    const module = compiled(readFileSync(join(process.argv[3], file), 'utf8'));
    const { messages } = await module.getCompilationInfo();
    for (const { type, lineNum, message } of messages) {
      console.log(`${file}:${lineNum}: ${type}: ${message}`);
      failed += 1;
    }
  }
  console.log(`Dawn: ${files.length - failed} passed, ${failed} failed`);
  process.exit(files.length > 0 && failed === 0 ? 0 : 1);
}

device.lost.then(({ reason, message }) => {
  if (reason !== 'destroyed') console.error(`Dawn lost the device: ${reason} ${message}`);
});
device.addEventListener('uncapturederror', ({ error }) => console.error(`Dawn: ${error.message}`));

const objects = new Map();
const mapping = new Set();

const replies = createWriteStream(null, { fd: 3 });

function send(header, payload = new Uint8Array(0)) {
  const json = Buffer.from(JSON.stringify(header));
  const lengths = Buffer.alloc(8);
  lengths.writeUInt32LE(json.length, 0);
  lengths.writeUInt32LE(payload.byteLength, 4);
  replies.write(Buffer.concat([lengths, json, payload]));
}

async function map({ id, write, reply }) {
  const buffer = objects.get(id);
  try {
    await buffer.mapAsync(write ? GPUMapMode.WRITE : GPUMapMode.READ);
    const range = write ? undefined : new Uint8Array(buffer.getMappedRange());
    send({ reply, ok: true }, range);
  } catch {
    send({ reply, ok: false });
  }
}

function encode(encoder, commands) {
  let pass;
  for (const [name, ...args] of commands) {
    const [a, b, c, d, e] = args;
    switch (name) {
      case 'pass': pass = encoder.beginComputePass(); break;
      case 'end': pass.end(); break;
      case 'pipeline': pass.setPipeline(objects.get(a)); break;
      case 'group': pass.setBindGroup(a, objects.get(b), c); break;
      case 'dispatch': pass.dispatchWorkgroups(a, b, c); break;
      case 'copy': encoder.copyBufferToBuffer(objects.get(a), b, objects.get(c), d, e); break;
      case 'clear': encoder.clearBuffer(objects.get(a), b, c ?? undefined); break;
      default: throw new Error(`no command ${name}`);
    }
  }
}

const scopes = ['validation', 'out-of-memory', 'internal'];

const actions = {
  hello({ reply }) {
    const limits = {};
    for (const name in device.limits) limits[name] = device.limits[name];
    const { vendor, architecture, description, subgroupMinSize, subgroupMaxSize } = info;
    const subgroups = requiredFeatures.length > 0;
    send({ reply, version, vendor, architecture, description, subgroupMinSize, subgroupMaxSize, subgroups, limits });
  },
  buffer({ id, size, usage, mapped }) {
    objects.set(id, device.createBuffer({ size, usage, mappedAtCreation: mapped }));
  },
  shader({ id, code }) {
    objects.set(id, compiled(code));
  },
  layout({ id, entries }) {
    objects.set(id, device.createBindGroupLayout({ entries }));
  },
  pipelineLayout({ id, layouts }) {
    objects.set(id, device.createPipelineLayout({ bindGroupLayouts: layouts.map((layout) => objects.get(layout)) }));
  },
  pipeline({ id, layout, shader, entryPoint }) {
    const compute = { module: objects.get(shader), entryPoint };
    objects.set(id, device.createComputePipeline({ layout: layout ? objects.get(layout) : 'auto', compute }));
  },
  layoutOf({ id, pipeline, index }) {
    objects.set(id, objects.get(pipeline).getBindGroupLayout(index));
  },
  group({ id, layout, entries }) {
    const bound = ({ binding, buffer, offset, size }) =>
      ({ binding, resource: { buffer: objects.get(buffer), offset, size: size ?? undefined } });
    objects.set(id, device.createBindGroup({ layout: objects.get(layout), entries: entries.map(bound) }));
  },
  write({ id, offset }, payload) {
    device.queue.writeBuffer(objects.get(id), offset, payload);
  },
  submit({ commandBuffers }) {
    const finished = commandBuffers.map((commands) => {
      const encoder = device.createCommandEncoder();
      encode(encoder, commands);
      return encoder.finish();
    });
    device.queue.submit(finished);
  },
  map(request) {
    const mapped = map(request).finally(() => mapping.delete(mapped));
    mapping.add(mapped);
  },
  unmap({ id }, payload) {
    const buffer = objects.get(id);
    if (payload.length > 0) new Uint8Array(buffer.getMappedRange()).set(payload);
    buffer.unmap();
  },
  async done({ reply }) {
    await device.queue.onSubmittedWorkDone();
    await Promise.all(mapping);
    send({ reply });
  },
  pushScopes() {
    scopes.forEach((filter) => device.pushErrorScope(filter));
  },
  async popScopes({ reply }) {
    const errors = await Promise.all(scopes.map(() => device.popErrorScope()));
    const error = errors.find((error) => error);
    send({ reply, kind: error?.constructor.name, message: error?.message });
  },
  destroy({ id }) {
    objects.get(id).destroy();
  },
  destroyDevice() {
    device.destroy();
  },
  drop({ id }) {
    // Waiting for garbage collection would let memory grow.
    if (objects.get(id) instanceof GPUBuffer) objects.get(id).destroy();
    objects.delete(id);
  },
};

// Received bytes that are not consumed yet, in pieces, so that large payloads are joined only once.
let pieces = [];
let length = 0;

function joined() {
  pieces = [Buffer.concat(pieces, length)];
  return pieces[0];
}

let wanted = 8;
for await (const piece of process.stdin) {
  pieces.push(piece);
  length += piece.length;
  while (length >= wanted) {
    const pending = joined();
    const [json, payload] = [pending.readUInt32LE(0), pending.readUInt32LE(4)];
    const end = 8 + json + payload;
    wanted = end;
    if (length < end) break;
    const request = JSON.parse(pending.toString('utf8', 8, 8 + json));
    await actions[request.do](request, pending.subarray(8 + json, end));
    pieces = [pending.subarray(end)];
    length -= end;
    wanted = 8;
  }
}
process.exit(0);
